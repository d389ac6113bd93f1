"""Captioners with real, tiny vision-language models of transformers (`tiny_captioners`)."""

from __future__ import annotations

import dataclasses
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from supir_core.caption_model import GREEDY, PUBLISHED, CaptionSettings, Sampling, caption_digest, caption_directory
from supir_core.caption_text import QUESTION, Caption, clean
from supir_core.caption_writing import Writing
from supir_core.captioner import Captioner
from supir_core.errors import InputError, PhotoError, WeightsError
from tests.core import tiny_captioners

KINDS = list(tiny_captioners.KINDS)
SHORT = CaptionSettings(max_new_tokens=12)
WARM = dataclasses.replace(SHORT, sampling=Sampling(temperature=1.0, top_p=0.9), seed=2)


def picture(height: int, width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


# Of sizes that give Qwen-VL and SmolVLM prompts of different lengths, so that a batch of them is padded.
PICTURES = [picture(40, 60, 0), picture(90, 40, 1), picture(30, 30, 2)]
KEYS = ["a", "b", "c"]


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    return cache(lambda kind: tiny_captioners.write(kind, tmp_path_factory.mktemp(kind)))


@pytest.fixture
def copied(directory: Callable[[str], Path], tmp_path: Path) -> Path:
    """A LLaVA of one's own, to break."""
    return shutil.copytree(directory("llava"), tmp_path / "llava")


def load(folder: Path, settings: CaptionSettings = SHORT, **options: Any) -> Captioner:
    return Captioner.load(str(folder), settings=settings, device="cpu", **options)


def texts(captions: list[Caption]) -> list[str]:
    return [caption.text for caption in captions]


# What a caption hangs on


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("settings", [SHORT, WARM], ids=["greedy", "sampled"])
def test_a_caption_does_not_hang_on_its_company_or_order(
    kind: str, settings: CaptionSettings, directory: Callable[[str], Path]
) -> None:
    captioner = load(directory(kind), settings)
    together = texts(captioner.caption(PICTURES, KEYS))
    assert len(set(together)) == 3, "and each is about its picture"
    assert texts(captioner.caption(PICTURES, KEYS)) == together
    assert texts(captioner.caption(PICTURES[::-1], KEYS[::-1])) == together[::-1]
    assert [captioner.caption([p], [k])[0].text for p, k in zip(PICTURES, KEYS, strict=True)] == together
    assert texts(load(directory(kind), settings, batch=2).caption(PICTURES, KEYS)) == together


class Watched:
    """A network that writes down the attention masks that it gets."""

    def __init__(self, network: Any):
        self.network = network
        self.masks: list[torch.Tensor] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.network, name)

    def generate(self, **inputs: Any) -> Any:
        self.masks.append(inputs["attention_mask"])
        return self.network.generate(**inputs)


@pytest.mark.parametrize("kind", ["qwen2_vl", "smolvlm"])
def test_prompts_of_several_lengths_share_a_batch_where_rounding_allows_it(
    kind: str, directory: Callable[[str], Path]
) -> None:
    """In float32 with padding, on the left; in 16 bits that changes words, so lengths are kept apart."""
    exact = load(directory(kind), WARM)
    watched = Watched(exact._network)
    Captioner(watched, exact._processor, WARM).caption(PICTURES)
    assert not watched.masks[0].all() and watched.masks[0][:, -1].all()

    rough = load(directory(kind), WARM, dtype="bfloat16")
    watched = Watched(rough._network)
    captions = Captioner(watched, rough._processor, WARM).caption([*PICTURES, *PICTURES], [*KEYS, *KEYS])
    assert all(mask.all() for mask in watched.masks)
    assert any(len(mask) > 1 for mask in watched.masks)
    assert texts(captions[:3]) == texts(captions[3:]), "in the order of the pictures"


def test_what_is_drawn_hangs_on_the_key_and_the_seed(directory: Callable[[str], Path]) -> None:
    captioner = load(directory("llava"), WARM)
    same = [PICTURES[0]] * 4
    drawn = texts(captioner.caption(same, ["a", "b", "a", "c"]))
    assert drawn[0] == drawn[2]
    assert len(set(drawn)) == 3
    other = load(directory("llava"), dataclasses.replace(WARM, seed=6))
    assert texts(other.caption(same, ["a", "b", "a", "c"])) != drawn
    without_keys = texts(captioner.caption([*same[:2], PICTURES[1]]))
    assert without_keys[0] == without_keys[1] != without_keys[2], "the pixels are the key"


def test_the_published_sampling_is_nearly_greedy(directory: Callable[[str], Path]) -> None:
    greedy = load(directory("blip")).caption(PICTURES, KEYS)
    published = load(directory("blip"), dataclasses.replace(SHORT, sampling=PUBLISHED)).caption(PICTURES, KEYS)
    assert texts(greedy)[0].split()[0] == texts(published)[0].split()[0]


def test_the_nucleus_is_drawn_with_its_probabilities() -> None:
    """Scores whose nucleus is known: 0.5, 0.3 and 0.15 of 1, cut at 0.75 -> two tokens, as 5 to 3."""
    scores = torch.tensor([[0.15, 0.05, 0.5, 0.3]]).log().expand(4000, 4)
    writing = Writing(range(4000), Sampling(temperature=1.0, top_p=0.75), [], float("inf"))
    chosen = writing.choose(torch.zeros(4000, 1), scores)
    assert torch.equal(chosen.argmax(-1), torch.tensor(writing.tokens)[:, 0])
    counts = torch.bincount(torch.tensor(writing.tokens)[:, 0], minlength=4)
    assert counts[0] == counts[1] == 0
    assert abs(counts[2] / 4000 - 0.625) < 0.025
    cold = Writing(range(100), Sampling(temperature=0.05, top_p=1.0), [], float("inf"))
    cold.choose(torch.zeros(100, 1), scores[:100])
    assert {token for [token] in cold.tokens} == {2}


# Limits


def test_an_answer_that_is_too_long_is_cut_and_says_so(directory: Callable[[str], Path]) -> None:
    long = load(directory("llava"), CaptionSettings(max_new_tokens=60)).caption(PICTURES)
    assert [caption.truncated for caption in long] == [False] * 3, "this model ends its answers"
    short = load(directory("llava"), CaptionSettings(max_new_tokens=2)).caption(PICTURES[:1])[0]
    assert short.truncated and short.tokens == 2 < long[0].tokens
    assert long[0].text.startswith(short.text.rstrip("."))


def test_a_batch_ends_when_its_time_is_over(directory: Callable[[str], Path]) -> None:
    settings = CaptionSettings(max_new_tokens=5000, time_limit_s=1e-6)
    captions = load(directory("qwen2_vl"), settings).caption(PICTURES)
    assert [caption.tokens for caption in captions] == [1, 1, 1], "and nothing is tried again"
    assert all(caption.truncated and caption.warning == "caption-timed-out" for caption in captions)


@pytest.mark.parametrize(
    "settings",
    [{"max_new_tokens": 0}, {"time_limit_s": 0}, {"sampling": Sampling(-1)}, {"sampling": Sampling(1, 0)}],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="out of its range"):
        CaptionSettings(**settings)


class Narrow:
    """A network for which more than so many rows are too much."""

    def __init__(self, network: Any, rows: int):
        self.network, self.rows = network, rows

    def __getattr__(self, name: str) -> Any:
        return getattr(self.network, name)

    def generate(self, **inputs: Any) -> Any:
        if len(inputs["pixel_values"]) > self.rows:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.network.generate(**inputs)


def test_a_batch_that_does_not_fit_into_memory_is_halved(directory: Callable[[str], Path]) -> None:
    captioner = load(directory("llava"), WARM)
    narrow = Captioner(Narrow(captioner._network, 1), captioner._processor, WARM)
    assert texts(narrow.caption(PICTURES, KEYS)) == texts(captioner.caption(PICTURES, KEYS))
    with pytest.raises(PhotoError) as raised:
        Captioner(Narrow(captioner._network, 0), captioner._processor, WARM).caption(PICTURES)
    assert raised.value.code == "out-of-memory"


def test_a_picture_that_a_model_does_not_take_fails_alone(directory: Callable[[str], Path]) -> None:
    captioner = load(directory("qwen2_vl"), WARM)
    *before, failed, after = captioner.caption([*PICTURES[:2], picture(2, 900, 5), PICTURES[2]], ["a", "b", "x", "c"])
    assert failed.text == "" and failed.warning.startswith("caption-failed: ") and "aspect ratio" in failed.warning
    assert texts([*before, after]) == texts(captioner.caption(PICTURES, KEYS))


# Answers without a caption


def ending_at(folder: Path, tokens: list[int]) -> Path:
    """The model with more tokens that end an answer."""
    file = folder / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"eos_token_id": tokens}))
    return folder


def test_a_model_that_says_nothing_gives_no_caption_and_a_warning(copied: Path) -> None:
    captions = load(ending_at(copied, list(range(100)))).caption(PICTURES)
    assert [(c.text, c.warning, c.tokens) for c in captions] == [("", "caption-empty", 0)] * 3


def test_an_empty_answer_is_tried_again_and_the_others_stay(copied: Path) -> None:
    before = texts(load(copied).caption(PICTURES, KEYS))
    tokenizer = load(copied)._processor.tokenizer
    first = tokenizer.convert_tokens_to_ids(before[1].split()[0])  # the second picture's: now that ends its answer
    captioner = load(ending_at(copied, [tokenizer.eos_token_id, first]))
    captions = captioner.caption(PICTURES, KEYS)
    assert captions[1].text and captions[1].text != before[1] and not captions[1].warning
    assert captions[2].text == before[2]
    assert texts(captioner.caption([PICTURES[1]], ["b"])) == [captions[1].text], "alone as in company"
    assert texts(captioner.caption([PICTURES[1]], ["z"])) != [captions[1].text], "drawn, by the key"


def test_no_pictures_are_no_captions(directory: Callable[[str], Path]) -> None:
    assert load(directory("blip")).caption([]) == []


# What a model is asked


@pytest.mark.parametrize(
    ("kind", "asked"),
    [
        ("llava", f"USER: <image>\n{QUESTION} ASSISTANT:"),
        ("qwen2_vl", f"USER: <|vision_start|><|image_pad|><|vision_end|>{QUESTION} ASSISTANT:"),
        ("smolvlm", f"USER: <image>{QUESTION} ASSISTANT:"),
        ("florence2", "<MORE_DETAILED_CAPTION>"),
        ("blip", ""),
    ],
)
def test_the_question_is_the_published_one_or_the_models_own(
    kind: str, asked: str, directory: Callable[[str], Path]
) -> None:
    assert load(directory(kind))._prompt == asked


@pytest.mark.parametrize("kind", KINDS)
def test_another_question_has_another_answer(kind: str, directory: Callable[[str], Path]) -> None:
    question = "<CAPTION>" if kind == "florence2" else "a photo of the old"
    asked = load(directory(kind), dataclasses.replace(SHORT, question=question))
    answers = asked.caption(PICTURES, KEYS)
    assert any(texts(answers))
    assert texts(answers) != texts(load(directory(kind)).caption(PICTURES, KEYS))
    assert not any("photo of the old" in caption.text for caption in answers), "the question is no part of the answer"


def test_the_models_own_settings_do_not_decide(copied: Path, directory: Callable[[str], Path]) -> None:
    file = copied / "generation_config.json"
    own = {"do_sample": True, "temperature": 5.0, "top_k": 3, "num_beams": 3, "early_stopping": True, "max_length": 5}
    file.write_text(json.dumps(json.loads(file.read_text()) | own))
    assert texts(load(copied).caption(PICTURES)) == texts(load(directory("llava")).caption(PICTURES))


def test_a_model_without_a_chat_template_is_asked_plainly(copied: Path, directory: Callable[[str], Path]) -> None:
    (copied / "chat_template.jinja").unlink()
    plain = load(copied)
    assert plain._prompt == f"USER: <image>\n{QUESTION} ASSISTANT:"
    assert texts(plain.caption(PICTURES)) == texts(load(directory("llava")).caption(PICTURES))


# Loading


@pytest.mark.parametrize("kind", ["llava", "qwen2_vl", "smolvlm", "florence2"])
@pytest.mark.parametrize(("dtype", "quantization"), [("bfloat16", "none"), ("float32", "float8")])
def test_smaller_numbers_give_captions_too(
    kind: str, dtype: str, quantization: str, directory: Callable[[str], Path]
) -> None:
    captioner = load(directory(kind), dtype=dtype, quantization=quantization)
    stored = {tensor.dtype for tensor in captioner._network.state_dict().values() if tensor.dim() == 2}
    assert (torch.float8_e4m3fn in stored) == (quantization == "float8")
    assert (torch.bfloat16 in stored) == (dtype == "bfloat16")
    assert any(texts(captioner.caption(PICTURES)))


@pytest.mark.parametrize("options", [{"dtype": "float8"}, {"dtype": "int3"}, {"quantization": "int4"}])
def test_number_types_that_there_are_not(options: dict[str, str], directory: Callable[[str], Path]) -> None:
    with pytest.raises(InputError) as raised:
        load(directory("blip"), **options)
    assert raised.value.code == "dtype"


def refused(folder: Path | str) -> WeightsError:
    with pytest.raises(WeightsError) as raised:
        Captioner.load(str(folder), device="cpu")
    assert "\n" not in str(raised.value)
    return raised.value


@pytest.mark.parametrize("name", ["/nowhere/model", "./model", "model", "a/b/c"])
def test_a_directory_that_is_not_there(name: str) -> None:
    error = refused(name)
    assert (error.code, str(error)) == ("weights-not-found", f"there is no directory {name}")


def test_what_is_no_directory_of_transformers(tmp_path: Path) -> None:
    assert refused(tmp_path).code == "captioner-unsupported"
    (tmp_path / "config.json").write_text("{}")
    assert refused(tmp_path).code == "weights-not-found"


@pytest.mark.parametrize("name", ["processor_config.json", "tokenizer.json"])
def test_a_processor_that_is_not_whole(name: str, copied: Path) -> None:
    (copied / name).unlink()
    assert refused(copied).code == "captioner-processor"


def test_a_chat_template_that_fails(copied: Path) -> None:
    (copied / "chat_template.jinja").write_text("{{ raise_exception('no pictures') }}")
    error = refused(copied)
    assert error.code == "captioner-processor" and "no pictures" in str(error)


def test_weights_that_are_not_there(copied: Path) -> None:
    (copied / "model.safetensors").unlink()
    assert refused(copied).code == "weights-not-found"


def test_weights_that_are_cut_off(copied: Path) -> None:
    file = copied / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    assert refused(copied).code == "weights-damaged"


def test_tensors_that_are_missing_are_never_made_up(copied: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(copied / "model.safetensors")
    gone = next(name for name in tensors if "q_proj" in name)
    del tensors[gone]
    save_file(tensors, copied / "model.safetensors", {"format": "pt"})
    error = refused(copied)
    assert error.code == "weights-missing" and "1 tensors" in str(error)


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "llama", "architectures": ["LlamaForCausalLM"]},
        {"model_type": "brand_new_vlm", "auto_map": {"AutoModelForImageTextToText": "modeling.Model"}},
    ],
    ids=["no pictures", "code of its own"],
)
def test_models_of_another_kind(change: dict[str, Any], copied: Path) -> None:
    file = copied / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    (copied / "modeling.py").write_text("raise SystemExit('this code was run')")
    assert refused(copied).code == "captioner-unsupported"


# Never a download


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[Any]]:
    """An empty cache of the hub, and the connections that are tried."""
    from huggingface_hub import constants

    tried: list[Any] = []

    def connect(self: socket.socket, address: Any) -> None:
        tried.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(socket.socket, "connect", connect)
    return tmp_path / "cache", tried


def test_a_name_is_looked_up_in_the_cache_and_nowhere_else(
    hub: tuple[Path, list[Any]], directory: Callable[[str], Path]
) -> None:
    cache_folder, tried = hub
    assert refused("someone/model").code == "weights-not-found"
    snapshot = cache_folder / "models--someone--model" / "snapshots" / ("0" * 40)
    shutil.copytree(directory("blip"), snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0" * 40)
    assert caption_directory("someone/model") == snapshot
    assert all(texts(load(Path("someone/model")).caption(PICTURES)))
    assert tried == []


def test_only_who_allows_it_gets_a_download(hub: tuple[Path, list[Any]]) -> None:
    with pytest.raises(WeightsError) as raised:
        caption_directory("someone/model", allow_download=True)
    assert raised.value.code == "weights-not-found"
    assert hub[1], "the hub was asked"


def test_importing_it_is_light() -> None:
    program = """
import sys
import supir_core.caption_model
assert "torch" not in sys.modules
import supir_core.captioner
assert "transformers" not in sys.modules
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# The digest


def test_a_digest_hangs_on_all_that_decides_captions_and_on_nothing_else(copied: Path) -> None:
    settings = CaptionSettings()

    def other(**changes: Any) -> str:
        return caption_digest(copied, dataclasses.replace(settings, **changes))

    digest = caption_digest(copied, settings)
    assert len(digest) == 12 and int(digest, 16) >= 0
    assert digest == caption_digest(copied, CaptionSettings()) == other(time_limit_s=1, sampling=GREEDY)
    (copied / "README.md").write_text("notes")
    assert caption_digest(copied, settings) == digest
    digests = {digest, other(question="What?"), other(max_new_tokens=9), other(seed=2), other(sampling=PUBLISHED)}
    digests |= {caption_digest(copied, settings, "bfloat16"), caption_digest(copied, settings, None, "float8")}
    assert len(digests) == 7
    for name in ("model.safetensors", "tokenizer.json", "chat_template.jinja"):
        with (copied / name).open("ab") as file:
            file.write(b" ")
        digests.add(caption_digest(copied, settings))
    assert len(digests) == 10


def test_a_copy_has_the_same_digest_wherever_it_lies(
    copied: Path, directory: Callable[[str], Path], tmp_path: Path
) -> None:
    """Also in the hub's cache, where large files are links to files that have their hash as their name."""
    digest = caption_digest(directory("llava"), CaptionSettings())
    assert caption_digest(copied, CaptionSettings()) == digest
    import hashlib

    weights = copied / "model.safetensors"
    blob = tmp_path / hashlib.sha256(weights.read_bytes()).hexdigest()
    weights.rename(blob)
    weights.symlink_to(blob)
    assert caption_digest(copied, CaptionSettings()) == digest
    blob.write_bytes(b"not read")
    assert caption_digest(copied, CaptionSettings()) == digest


def test_answers_are_cleaned(directory: Callable[[str], Path]) -> None:
    captions = [caption for kind in KINDS for caption in load(directory(kind)).caption(PICTURES)]
    assert all(clean(caption.text) == caption.text for caption in captions)
