"""Photos -> captions, by a vision-language model.

LLaVA, Qwen-VL, SmolVLM, Florence-2, BLIP, and whatever else transformers loads as `AutoModelForImageTextToText`. What
differs between them is in `PLAIN`, for models without a chat template, and in their own processors.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from supir_core.caption_loading import first_line, load_network, load_processor, processor_error
from supir_core.caption_model import QUANTIZATIONS, RETRY, CaptionSettings, Sampling, caption_directory
from supir_core.caption_text import QUESTION, Caption, clean
from supir_core.caption_writing import Writing, row_seed
from supir_core.errors import InputError, PhotoError
from supir_core.memory import free_memory, is_out_of_memory
from supir_core.precision import device_named, precision_named, store_linears_as_fp8

# Models without a chat template, by transformers' name of their type: what they read, and what they are asked if the
# settings do not say. BLIP and GIT know no questions, they continue a text; Florence-2 knows its task prompts.
PLAIN = {
    "blip": ("{question}", ""),
    "blip-2": ("Question: {question} Answer:", QUESTION),
    "florence2": ("{question}", "<MORE_DETAILED_CAPTION>"),
    "git": ("{question}", ""),
    "instructblip": ("{question}", QUESTION),
    "llava": ("USER: {image}\n{question} ASSISTANT:", QUESTION),
    "paligemma": ("{image}{question}", "caption en"),
}
_OTHERS = ("{image}{question}", QUESTION)


class _Answer(NamedTuple):
    text: str
    tokens: int
    ended: bool
    timed_out: bool
    failed: str = ""


class _Row(NamedTuple):
    picture: np.ndarray  # (H, W, 3) uint8
    seed: int


class _PictureError(ValueError):
    """A picture that a model's processor does not take: of an extreme shape, for one."""


class Captioner:
    """A resident vision-language model.

    Args:
        network: of transformers, on its device, ready to run.
        processor: the network's.
        settings: what is asked, and how much may be said.
        batch: at most this many pictures in one call of the network.

    Raises:
        WeightsError: the processor's chat template does not take a question with a picture (`captioner-processor`).
    """

    def __init__(self, network: Any, processor: Any, settings: CaptionSettings, batch: int = 8):
        self.settings = settings
        self.batch = batch
        self._network = network
        self._processor = processor
        self._prompt = _prompt(processor, network.config.model_type, settings.question)
        tokenizer = processor.tokenizer
        # What is written comes behind a prompt without a gap; an encoder counts positions from a prompt's beginning.
        tokenizer.padding_side = "right" if network.config.is_encoder_decoder else "left"
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        ends = network.generation_config.eos_token_id
        ends = [*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_token_id, tokenizer.sep_token_id]
        self._end_tokens = {end for end in ends if end is not None}

    @classmethod
    def load(
        cls,
        model: str,
        *,
        device: str | None = None,
        dtype: str | None = None,
        quantization: str = "none",
        settings: CaptionSettings | None = None,
        batch: int = 8,
        allow_download: bool = False,
        safetensors_only: bool = False,
    ) -> Captioner:
        """A captioner with the weights of a model.

        Args:
            model: a directory as transformers saves it, or a name in the local cache.
            device: `cuda`, `cuda:1`, `cpu`; the first GPU if there is one.
            dtype: `float32`, `bfloat16` or `float16`; bfloat16 on a GPU, float32 elsewhere if not given.
            quantization: `float8` keeps the weights of the language model's layers in 8 bits.
            settings: what is asked, and how much may be said.
            batch: at most this many pictures in one call of the network.
            allow_download: ask the hub for a name that is not a directory.
            safetensors_only: load no weights of another kind.

        Raises:
            WeightsError: no such model (`weights-not-found`), files without a processor (`captioner-processor`), of
                another kind of model (`captioner-unsupported`), damaged (`weights-damaged`) or incomplete
                (`weights-missing`); or a package that this model needs is not installed (`captioner-package`).
            InputError: no such device, dtype or quantization.
        """
        place = device_named(device)
        precision = precision_named(dtype, place)
        if precision.fp8_weights or quantization not in QUANTIZATIONS:
            raise InputError(
                f"captioner: dtype {dtype} with quantization {quantization}",
                hint="dtype float32, bfloat16 or float16; quantization none or float8",
                code="dtype",
            )
        directory = caption_directory(model, allow_download)
        processor = load_processor(directory)
        network = load_network(directory, precision.networks, safetensors_only)
        if quantization == "float8":
            store_linears_as_fp8(network.get_decoder())
        return cls(network.to(place).requires_grad_(False).eval(), processor, settings or CaptionSettings(), batch)

    @property
    def weights_bytes(self) -> int:
        """What its weights take on the device."""
        tensors = [*self._network.parameters(), *self._network.buffers()]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def caption(self, pictures: Sequence[np.ndarray], keys: Sequence[str] | None = None) -> list[Caption]:
        """One caption per picture; each depends on its picture, its key, the settings and the weights alone.

        Args:
            pictures: (H, W, 3) uint8, sRGB, upright, of any sizes; the published system has a short side of 512
                (`image.shrunk`).
            keys: seeds of what is drawn, best the sha256 of the photos' files; of the pixels if not given.

        Raises:
            PhotoError: not even one picture fits into the device's memory (`out-of-memory`).
        """
        keys = [hashlib.sha256(picture.tobytes()).hexdigest() for picture in pictures] if keys is None else keys
        return [
            caption
            for start in range(0, len(pictures), self.batch)
            for caption in self._caption_batch(pictures[start : start + self.batch], keys[start : start + self.batch])
        ]

    def _caption_batch(self, pictures: Sequence[np.ndarray], keys: Sequence[str]) -> list[Caption]:
        begun_s = time.monotonic()
        deadline_s = begun_s + self.settings.time_limit_s

        def ask(rows: Sequence[int], sampling: Sampling, attempt: int) -> list[_Answer]:
            asked = [_Row(pictures[row], row_seed(keys[row], self.settings.seed, attempt)) for row in rows]
            return self._in_parts(asked, sampling, deadline_s)

        answers = [[answer] for answer in ask(range(len(pictures)), self.settings.sampling, 1)]
        empty = [
            row for row, [answer] in enumerate(answers) if not (clean(answer.text) or answer.timed_out or answer.failed)
        ]
        for row, answer in zip(empty, ask(empty, RETRY, 2), strict=True):
            answers[row].append(answer)
        seconds = (time.monotonic() - begun_s) / len(pictures)
        return [_captioned(attempts, seconds) for attempts in answers]

    def _in_parts(self, rows: Sequence[_Row], sampling: Sampling, deadline_s: float) -> list[_Answer]:
        """`_answers`, in halves where a picture is refused, or where the device's memory does not take all at once."""
        if not rows:
            return []
        try:
            return self._answers(rows, sampling, deadline_s)
        except (_PictureError, RuntimeError, MemoryError) as error:
            if not isinstance(error, _PictureError) and not is_out_of_memory(error):
                raise
            failed = error
        free_memory()
        if len(rows) == 1:
            if isinstance(failed, _PictureError):
                return [_Answer("", 0, True, False, str(failed))]
            raise PhotoError(
                f"the captioner needs more memory than there is: {failed}",
                hint="load it with quantization float8, or take a smaller one",
                code="out-of-memory",
            ) from failed
        middle = len(rows) // 2
        halves = (rows[:middle], rows[middle:])
        return [answer for half in halves for answer in self._in_parts(half, sampling, deadline_s)]

    @torch.inference_mode()
    def _answers(self, rows: Sequence[_Row], sampling: Sampling, deadline_s: float) -> list[_Answer]:
        inputs = self._inputs(rows)
        lengths = [0] * len(rows) if self._network.dtype == torch.float32 else _lengths(inputs)
        if len(set(lengths)) > 1:
            # Attention beside padding is summed in another order, which in 16 bits is enough to change words.
            by_length = sorted(range(len(rows)), key=lengths.__getitem__)
            answers: dict[int, _Answer] = {}
            for _, group in groupby(by_length, key=lengths.__getitem__):
                alike = list(group)
                given = self._answers([rows[i] for i in alike], sampling, deadline_s)
                answers |= dict(zip(alike, given, strict=True))
            return [answers[i] for i in range(len(rows))]
        writing = Writing([row.seed for row in rows], sampling, self._end_tokens, deadline_s)
        self._network.generate(
            **inputs.to(self._network.device, self._network.dtype),
            do_sample=False,  # whatever the model's own settings are: `Writing` chooses
            num_beams=1,
            max_new_tokens=self.settings.max_new_tokens,
            logits_processor=[writing.choose],
            stopping_criteria=[writing.stop],
        )
        texts = self._processor.tokenizer.batch_decode(writing.tokens, skip_special_tokens=True)
        return [
            _Answer(text, len(tokens), ended, writing.timed_out and not ended)
            for text, tokens, ended in zip(texts, writing.tokens, writing.ended, strict=True)
        ]

    def _inputs(self, rows: Sequence[_Row]) -> Any:
        """What the network takes: the prompt with each picture, padded to the longest.

        Raises:
            _PictureError: one of the pictures is refused.
        """
        images = [[Image.fromarray(row.picture)] for row in rows]
        texts = {}
        if self._prompt:
            bos = self._processor.tokenizer.bos_token
            begun = bool(bos) and self._prompt.startswith(bos)
            texts = {"text": [self._prompt] * len(rows), "padding": True, "add_special_tokens": not begun}
        try:
            return self._processor(images=images, return_tensors="pt", **texts)
        except ValueError as error:
            raise _PictureError(first_line(error)) from error


def _lengths(inputs: Any) -> list[int]:
    """Tokens of each prompt without its padding; none of models that read no prompt."""
    return inputs["attention_mask"].sum(1).tolist() if "attention_mask" in inputs else []


def _captioned(attempts: Sequence[_Answer], seconds: float) -> Caption:
    last = attempts[-1]
    text = clean(last.text)
    warning = "caption-timed-out" if last.timed_out else "" if text else "caption-empty"
    warning = f"caption-failed: {last.failed}" if last.failed else warning
    return Caption(text, sum(answer.tokens for answer in attempts), not last.ended, seconds, warning)


def _prompt(processor: Any, model_type: str, question: str | None) -> str:
    """What the model reads with each picture."""
    if getattr(processor, "chat_template", None):
        content = [{"type": "image"}, {"type": "text", "text": QUESTION if question is None else question}]
        try:
            return str(
                processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
            )
        except Exception as error:  # of a template's program anything may come
            raise processor_error("its chat template does not take a question with a picture", error) from error
    template, default = PLAIN.get(model_type, _OTHERS)
    image = getattr(processor, "image_token", None) or ""
    return template.format(image=image, question=default if question is None else question)
