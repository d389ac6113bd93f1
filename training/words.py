"""The words of all training captions as CLIP's tokens, so that training needs no tokenizer: `words.json`.

`python -m training.words` writes the file again, with the tokenizer that restoring uses.
"""

from __future__ import annotations

import ast
import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path

FILE = Path(__file__).with_name("words.json")
PROMPT_TOKENS = 77  # start, 75 tokens of text, end
START, END = 49406, 49407
_PIECE = re.compile(r"[a-z]+|[0-9]|[^\sa-z0-9]+")  # CLIP's own pattern, for captions in plain English


def pieces(prompt: str) -> list[str]:
    """Words, digits and runs of punctuation: no token spans two of them."""
    return _PIECE.findall(prompt.lower())


@functools.lru_cache(maxsize=65536)
def token_ids(prompt: str) -> tuple[int, ...]:
    """77 ids, padded with 0; pieces that are not in the file are left out."""
    table = _table()
    ids = [token for piece in pieces(prompt) for token in table.get(piece, ())][: PROMPT_TOKENS - 2]
    return (START, *ids, END, *[0] * (PROMPT_TOKENS - 2 - len(ids)))


@functools.cache
def _table() -> dict[str, list[int]]:
    return dict(json.loads(FILE.read_text(encoding="utf-8")))


def all_pieces() -> list[str]:
    """Every piece that may stand in a caption: those of all strings of this package, and of the preset's words."""
    from training import captions  # noqa: PLC0415  needs the presets, which reading the file does not

    prompts = [captions.positive(), captions.for_degraded(), "0123456789", ",.", ".,", "-"]
    sources = sorted(Path(__file__).parent.glob("*.py"))
    strings = [text for file in sources for text in _strings(ast.parse(file.read_text(encoding="utf-8")))]
    return sorted({piece for text in prompts + strings for piece in pieces(text) if len(piece) < 24})


def _strings(tree: ast.AST) -> Iterator[str]:
    """String constants, docstrings left out."""
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.value


def main() -> None:
    """Write the file."""
    from open_clip.tokenizer import SimpleTokenizer  # noqa: PLC0415  needed here alone

    encode = SimpleTokenizer().encode
    table = {piece: encode(piece) for piece in all_pieces()}
    FILE.write_text(json.dumps(table, separators=(",", ":"), ensure_ascii=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
