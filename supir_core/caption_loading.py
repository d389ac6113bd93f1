"""A directory of transformers -> a processor and a network, or one line on what is wrong with it.

transformers is imported where something is loaded: that takes seconds, and most processes load no captioner.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from supir_core.checkpoint import some
from supir_core.errors import WeightsError


def load_processor(directory: Path) -> Any:
    """The processor of a model: its tokenizer, its chat template, and what it does with pictures.

    Raises:
        WeightsError: it does not load (`captioner-processor`), or needs another package (`captioner-package`).
    """
    from transformers import AutoProcessor, PreTrainedTokenizerBase

    try:
        _let_smolvlm_be(directory)
        processor = AutoProcessor.from_pretrained(directory, local_files_only=True)
    except ImportError as error:
        raise _package_error(directory, error) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise processor_error(f"no processor loads from {directory}", error) from error
    if not isinstance(getattr(processor, "tokenizer", None), PreTrainedTokenizerBase):
        raise processor_error(f"the processor in {directory} has no tokenizer", None)
    return processor


def load_network(directory: Path, dtype: torch.dtype, safetensors_only: bool = False) -> Any:
    """The network of a model, on the CPU, with all its weights.

    Args:
        directory: of the model.
        dtype: of its weights.
        safetensors_only: load no weights of another kind: pickles can run code.

    Raises:
        WeightsError: see `Captioner.load`.
    """
    from transformers import AutoModelForImageTextToText
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # a worker's log is no place for it
    try:
        network, report = AutoModelForImageTextToText.from_pretrained(
            directory,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            use_safetensors=True if safetensors_only else None,
        )
    except ImportError as error:
        raise _package_error(directory, error) from error
    except (SafetensorError, RuntimeError, EOFError) as error:
        raise WeightsError(
            f"{directory}: damaged weights, or not this model's: {first_line(error)}", code="weights-damaged"
        ) from error
    except OSError as error:
        raise WeightsError(
            f"no weights load from {directory}: {first_line(error)}", code="weights-not-found"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{directory} holds no model that transformers knows as image-text-to-text: {first_line(error)}",
            hint="models that bring code of their own are not run: take one that transformers has built in",
            code="captioner-unsupported",
        ) from error
    missing = sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})
    if missing:  # transformers would go on with random numbers
        raise WeightsError(f"{directory} lacks {len(missing)} tensors: {some(missing)}", code="weights-missing")
    return network


def _let_smolvlm_be(directory: Path) -> None:
    """SmolVLM's processor is not built without the package num2words, of which it makes use for videos alone."""
    if '"SmolVLMProcessor"' in "".join(file.read_text(encoding="utf-8") for file in directory.glob("*processor*.json")):
        from transformers.models.smolvlm import processing_smolvlm

        processing_smolvlm.num2words = processing_smolvlm.num2words or str


def processor_error(what: str, error: Exception | None) -> WeightsError:
    """The error of a processor that is not what it should be."""
    return WeightsError(
        f"{what}: {first_line(error)}" if error else what,
        hint="copy all files of the model, its preprocessor, tokenizer and chat template among them",
        code="captioner-processor",
    )


def _package_error(directory: Path, error: ImportError) -> WeightsError:
    return WeightsError(
        f"{directory} needs a package that is not installed: {first_line(error)}", code="captioner-package"
    )


def first_line(error: Exception) -> str:
    """What an exception says, without the paragraphs that transformers adds."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    whole = next((n for n, line in enumerate(lines) if not line.endswith(":")), 0)  # `one of:` goes on
    return " ".join(lines[: whole + 1])[:300] or type(error).__name__
