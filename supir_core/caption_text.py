"""What a model answered -> a caption: one line of plain words, in the language and letters that it has.

All rules but the full stop at the end only take away. They are applied until nothing changes, so a clean text stays as
it is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass

CLEANING = 1  # the number of this module's rules: it stands in the digests of captioners, so raise it with them
QUESTION = "Describe this image and its style in a very detailed manner."  # the published one
LONGEST_ANSWER = 8000  # characters; what follows is never read


@dataclass(frozen=True)
class Caption:
    """What a photo shows, in words, and how that came about."""

    text: str  # clean; empty: no caption
    tokens: int = 0  # that the model wrote, for all its attempts
    truncated: bool = False  # by the limit on tokens or time
    seconds: float = 0.0  # its share of its batch's time
    warning: str = ""  # `caption-empty`, `caption-timed-out`, `caption-endpoint-down`, `caption-failed: ...`


def clean(answer: str) -> str:
    """The caption in an answer; empty if there is none: a refusal, or nothing but a loop."""
    text = answer[:LONGEST_ANSWER]
    while (cleaner := _ended(_cleaned_once(text))) != text:
        text = cleaner
    return text


def clean_to_fit(answer: str, budget_tokens: int, count: Callable[[str], int]) -> str:
    """The caption in an answer, cut where it is longer than the budget; see `fit`."""
    text = clean(answer)
    while (shorter := clean(fit(text, budget_tokens, count))) != text:
        text = shorter
    return text


def fit(text: str, budget_tokens: int, count: Callable[[str], int]) -> str:
    """The beginning of a text that fits, up to the end of a sentence, or of a word where that would lose half of it.

    Args:
        text: clean.
        budget_tokens: what `count` may give for the result; if nothing fits, the result is empty.
        count: tokens of a text with whatever is going to be beside it. CLIP's prompts have no separator between
            caption and suffix, so counting them one by one would be wrong:
            `lambda text: tokenizer.count(text + suffix)`, for a budget of `PROMPT_TOKENS`.
    """
    if count(text) <= budget_tokens:
        return text

    def longest(ends: Iterable[int]) -> str:
        cuts = [_ended(text[:end]) for end in ends]
        low, high = 0, len(cuts)
        while low < high:  # about: tokens nearly always grow with the text
            middle = (low + high) // 2
            low, high = (middle + 1, high) if count(cuts[middle]) <= budget_tokens else (low, middle)
        fitting = (cut for cut in reversed(cuts[:low]) if count(cut) <= budget_tokens)
        return next(fitting, "")

    words = longest(match.end() for match in _WORD.finditer(text))
    sentences = longest(match.end() for match in _SENTENCE.finditer(text))
    return sentences if 2 * len(sentences) >= len(words) else words


def _cleaned_once(text: str) -> str:
    text = _INVISIBLE.sub("", text.rpartition("</think>")[2].partition("<think>")[0])
    text = _SPECIAL_TOKEN.sub(" ", text)
    text = " ".join(_joined_lines(_LABEL.sub("", _own_turn(_without_markup(text)))).split())
    text = _unquoted(text)
    if _REFUSAL.match(text):
        return ""
    text = _LATER_LEAD_IN.sub("", _LEAD_IN.sub("", _OFFER.sub("", text)))
    return _without_repeated_sentences(_without_loops(text)).strip()


def _without_markup(text: str) -> str:
    """Markdown and the HTML that is mixed with it; what is left are words and lines."""
    text = _TAG.sub(" ", _LINK.sub(r"\1", _RULE.sub("", text)))
    for emphasis in _EMPHASIS:
        text = emphasis.sub(lambda match: match[match.lastindex or 0], text)
    return _STRAY.sub("", text)


def _joined_lines(text: str) -> str:
    """One line; the items of a list have commas between them."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    numbered = sum(bool(_NUMBER.match(line)) for line in lines) > 1  # a single "2. ..." may be an ordinal
    joined = ""
    for line in lines:
        item = _BULLET.sub("", line)
        item = _NUMBER.sub("", item) if numbered else item
        comma = "," if item != line and joined[-1:].isalnum() else ""
        joined += f"{comma} {item}"
    return joined


def _own_turn(text: str) -> str:
    """What the model said itself, of a chat that it repeats or goes on writing."""
    before, *turns = _ROLE.split(text)
    if before.strip() or not turns:
        return before
    return next((said for role, said in zip(turns[::2], turns[1::2], strict=True) if role.lower() in _OWN_ROLES), "")


def _unquoted(text: str) -> str:
    for left, right in zip(_OPENING, _CLOSING, strict=True):
        inside = text[1:-1]
        if len(text) > 1 and text[0] == left and text[-1] == right and left not in inside and right not in inside:
            return inside.strip()
    return text


def _without_repeated_sentences(text: str) -> str:
    seen, kept = set(), ""
    for sentence in _SENTENCE.findall(text):
        said = re.sub(r"\W+", " ", sentence).strip().casefold()
        if said not in seen:
            kept += sentence
        if len(said) >= _SHORTEST_SENTENCE:  # "No." may be said twice
            seen.add(said)
    return kept


def _without_loops(text: str) -> str:
    """Each loop once and what follows it; nothing of a text that is a loop and no more."""
    for loop in _LOOPS:
        found = next((match for match in loop.finditer(text) if not match[1].isdigit()), None)
        if found:
            period = (found[1] * 2).find(found[1], 1)  # what was found may be several shorter rounds
            return _said_once(text, found.start(), found.end(), period)
    return text


def _said_once(text: str, start: int, end: int, period: int) -> str:
    """The text with the first round of a loop, up to the end of its last word, and what comes after the other ones."""
    while end < len(text) and text[end] == text[end - period]:  # the round in which the model was stopped
        end += 1
    if not re.search(r"\w", text[:start] + text[end:]):
        return ""
    ends = range(start + period, start + 2 * period)
    cut = next((at for at in ends if not text[at - 1 : at + 1].isalnum()), ends[0])
    after = text[cut + (end - cut) // period * period :]
    return text[:cut] + ("" if end == len(text) and re.search(r"\w", after) else after)


def _ended(text: str) -> str:
    """The text with a full stop, if it ends in a word: its last word is not to be one with what is put behind it."""
    text = text.rstrip(_DANGLING)
    if not text or not (text[-1].isalnum() or unicodedata.category(text[-1]).startswith("M")):
        return text
    return text + ("。" if "\u3040" <= text[-1] <= "\u9fff" else ".")


_SHORTEST_SENTENCE = 4  # characters
_DANGLING = " ,;:、，；：-–—([{/&\u200d"
_OPENING, _CLOSING = "\"'“„„‘«»「『`", "\"'”“”’»«」』`"
_OWN_ROLES = ("assistant", "gpt", "model", "ai", "bot")

_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ufeff\ufffd\u200b\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_SPECIAL_TOKEN = re.compile(
    r"<[|｜][^<>\n]{0,60}[|｜]>|<</?SYS>>|\[/?(?:INST|CLS|SEP|PAD|UNK|MASK|IMG)\]"
    r"|</?(?:s|pad|unk|bos|eos|mask|image|img|video|poly|loc_\d+|row_\d+_col_\d+|global-img|end_of_utterance"
    r"|fake_token_around_image|(?:start|end)_of_turn)>"
)
_TAG = re.compile(r"</?(?:p|b|i|em|strong|u|ul|ol|li|div|span|br|h[1-6])\s*/?>", re.IGNORECASE)
_RULE = re.compile(r"^[ \t]*(?:```.*|([-*_=])(?:[ \t]*\1){2,}[ \t]*)$", re.MULTILINE)
_LINK = re.compile(r"!?\[([^\[\]\n]*)\]\([^()\s]*\)")
_EMPHASIS = (
    re.compile(r"(\*{2,3}|__)(?=\S)(.+?)(?<=\S)\1"),
    re.compile(r"(?<![\w*])\*(?=[^\s*])([^*\n]+?)(?<=[^\s*])\*(?![\w*])"),
    re.compile(r"(?<!\w)_(?=[^\s_])([^_\n]+?)(?<=[^\s_])_(?!\w)"),
    re.compile(r"`([^`\n]*)`"),
)
_STRAY = re.compile(r"\*{2,}")  # the answer ended before the other one came
_BULLET = re.compile(r"(?:(?:#{1,6}|[-*+•‣])[ \t]+|>[ \t]*)+")
_NUMBER = re.compile(r"\d{1,2}[.)][ \t]+")
# A role in capitals anywhere, or any that opens a line: "A sign says User: admin" is a caption.
_ROLE = re.compile(
    r"(?:(?<!\S)(?=[A-Z]{3})|^[ \t]*)((?i:user|assistant|system|human|gpt|model|bot|ai))[ \t]*[:：]", re.MULTILINE
)
_LABEL = re.compile(
    r"\A\s*(?:(?:assistant|model)[ \t]*\n"
    r"|(?:(?:image|photo|detailed) )?(?:answer|caption|description|response)\s*[:：])",
    re.IGNORECASE,
)

# English alone: what models say before and after what they were asked for.
_NOUN = r"(?:image|photo|photograph|picture)"
_SHOWS = (
    r"(?:also |further |prominently |clearly |primarily |mainly )?"
    r"(?:(?:appears|seems) to )?(?:shows?|depicts?|features?|displays?|presents?|captures?|portrays?|illustrates?"
    r"|showcases?|contains?)(?: us)? "
)
_WE_SEE = "(?:we|you|i) (?:can )?(?:see|observe) "
_IN_IT = rf"in (?:the|this) {_NOUN}(?:, (?:{_WE_SEE})?| {_WE_SEE}| (?=there (?:is|are) ))"
_LEAD_IN = re.compile(
    rf"\A(?:(?:sure|certainly|of course|absolutely|okay)[,!.:]+ "
    rf"|here(?:'s|’s| is) [^.:!?]{{0,100}}{_NOUN}[^.:!?]{{0,40}}: ?"
    rf"|(?:the|this|your) {_NOUN} (?:you (?:have )?(?:shared|provided|uploaded) )?(?:{_SHOWS}|is (?:of )?(?=an? ))"
    rf"|this is an? {_NOUN} (?:of|showing|that shows) |{_IN_IT}|{_WE_SEE})",
    re.IGNORECASE,
)
_LATER_LEAD_IN = re.compile(rf"(?<=[.!?] )(?:(?:the|this) image {_SHOWS}|{_IN_IT})", re.IGNORECASE)
_REFUSAL = re.compile(
    r"(?:i['’]?m sorry|i am sorry|sorry, |i (?:cannot|can['’]t|can not|am unable|am not able)|i['’]m (?:un|not )able"
    r"|as an ai\b|unfortunately, i )",
    re.IGNORECASE,
)
_OFFER = re.compile(
    r"(?:\A|(?<=[.!?]) +)(?:let me know|feel free|i hope (?:this|that)|is there anything|would you like"
    r"|do you (?:want|need)|if you (?:have|need|want|would|['’]d))[^.!?]*[.!?]*\Z",
    re.IGNORECASE,
)

_STOPS = ".!?…؟۔।։"  # with a space behind them; those of Chinese and Japanese need none
_SENTENCE = re.compile(rf".+?(?:[{_STOPS}]+[\"'”’»)]*(?=\s|\Z)|[。！？]+[」』”]*|\Z)\s*")
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")
# A phrase three times without anything between, or something short eight times: "very, very, very" is no loop.
_LOOPS = (re.compile(r"(.{8,200}?)\1{2,}"), re.compile(r"(.{1,7}?)\1{7,}"))
