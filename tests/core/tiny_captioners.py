"""Vision-language models as they come, but tiny: transformers' own classes and processors, random weights, a small
vocabulary of whole words. Each is written as a directory that `Captioner.load` reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

IMAGE_SIDE_PX = 28
_TEXT = (
    "a an old red blue small dog cat house tree man woman boat beach photo of on in with and the is sits stands white "
    "black grey sky sea wood stone street child hat coat window door grass cloud light dark . ,"
)
WORDS = _TEXT.split()
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "<image>", "<video>", "[SEP]", "[DEC]")
MORE = {
    "qwen2_vl": ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"),
    "smolvlm": (
        "<end_of_utterance>",
        "<fake_token_around_image>",
        "<global-img>",
        *(f"<row_{r}_col_{c}>" for r in (1, 2) for c in (1, 2)),
    ),
}
CHAT = "{% for m in messages %}{{ m['role'] | upper }}: {% for c in m['content'] %}{% if c['type'] == 'image' %}IMAGE{% else %}{{ c['text'] }}{% endif %}{% endfor %} {% endfor %}ASSISTANT:"  # noqa: E501


def tokenizer(kind: str) -> Any:
    """A real tokenizer: words apart at spaces and punctuation, everything else unknown."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = (*SPECIAL, *MORE.get(kind, ()))
    vocabulary = {word: i for i, word in enumerate((*special, *WORDS))}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.decoder = decoders.WordPiece(prefix="##")
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        sep_token="[SEP]" if kind == "blip" else None,
        extra_special_tokens={"image_token": "<image>"} if kind == "florence2" else {},
    )
    made.add_special_tokens(
        {"additional_special_tokens": [token for token in special if token not in made.all_special_tokens]}
    )
    return made


def ids(made: Any, *names: str) -> list[int]:
    return [made.convert_tokens_to_ids(name) for name in names]


TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": IMAGE_SIDE_PX,
    "patch_size": 14,
}


def llava(text: Mapping[str, int] = TEXT, vision: Mapping[str, int] = VISION) -> tuple[Any, Any]:
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    made, side = tokenizer("llava"), vision["image_size"]
    pad, bos, eos, image = ids(made, "<pad>", "<s>", "</s>", "<image>")
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**vision, projection_dim=32),
        text_config=LlamaConfig(**text, vocab_size=len(made), pad_token_id=pad, bos_token_id=bos, eos_token_id=eos),
        image_token_index=image,
        image_seq_length=(side // vision["patch_size"]) ** 2,
        vision_feature_layer=-1,
    )
    pictures = CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    processor = LlavaProcessor(
        pictures,
        made,
        patch_size=vision["patch_size"],
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT.replace("IMAGE", "<image>\n"),
    )
    return LlavaForConditionalGeneration(config), processor


def qwen2_vl() -> tuple[Any, Any]:
    from transformers import (
        Qwen2VLConfig,
        Qwen2VLForConditionalGeneration,
        Qwen2VLImageProcessor,
        Qwen2VLProcessor,
        Qwen2VLVideoProcessor,
    )

    made = tokenizer("qwen2_vl")
    pad, bos, end, start, stop, image, video = ids(
        made, "<pad>", "<s>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"
    )
    made.eos_token = "<|im_end|>"
    config = Qwen2VLConfig(
        text_config={
            **TEXT,
            "vocab_size": len(made),
            "pad_token_id": pad,
            "bos_token_id": bos,
            "eos_token_id": end,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]},
        },
        vision_config={"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 4, "mlp_ratio": 2},
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=stop,
    )
    limits = {"shortest_edge": 28 * 28, "longest_edge": 28 * 28 * 16}
    template = CHAT.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    processor = Qwen2VLProcessor(
        Qwen2VLImageProcessor(size=limits), made, Qwen2VLVideoProcessor(size=limits), chat_template=template
    )
    return Qwen2VLForConditionalGeneration(config), processor


def smolvlm() -> tuple[Any, Any]:
    from transformers import (
        LlamaConfig,
        SmolVLMConfig,
        SmolVLMForConditionalGeneration,
        SmolVLMImageProcessor,
        SmolVLMProcessor,
        SmolVLMVideoProcessor,
    )
    from transformers.models.smolvlm import processing_smolvlm

    processing_smolvlm.num2words = processing_smolvlm.num2words or str  # for videos alone, and not installed
    made = tokenizer("smolvlm")
    pad, bos, end, image = ids(made, "<pad>", "<s>", "<end_of_utterance>", "<image>")
    made.eos_token = "<end_of_utterance>"
    config = SmolVLMConfig(
        text_config=LlamaConfig(**TEXT, vocab_size=len(made), pad_token_id=pad, bos_token_id=bos, eos_token_id=end),
        vision_config={**VISION},
        image_token_id=image,
        scale_factor=2,
    )
    side = {"longest_edge": IMAGE_SIDE_PX}
    processor = SmolVLMProcessor(
        SmolVLMImageProcessor(size={"longest_edge": 2 * IMAGE_SIDE_PX}, max_image_size=side),
        made,
        SmolVLMVideoProcessor(size=side, max_image_size=side),
        image_seq_len=1,
        chat_template=CHAT.replace("IMAGE", "<image>"),
    )
    return SmolVLMForConditionalGeneration(config), processor


def florence2() -> tuple[Any, Any]:
    from transformers import (
        BartConfig,
        CLIPImageProcessor,
        Florence2Config,
        Florence2ForConditionalGeneration,
        Florence2Processor,
    )
    from transformers.models.florence2.configuration_florence2 import Florence2VisionConfig

    made = tokenizer("florence2")
    pad, bos, eos, image = ids(made, "<pad>", "<s>", "</s>", "<image>")
    config = Florence2Config(
        vision_config=Florence2VisionConfig(
            embed_dim=[8, 16, 16, 32],
            depths=[1, 1, 1, 1],
            num_heads=[1, 2, 2, 4],
            num_groups=[1, 2, 2, 4],
            window_size=4,
            projection_dim=32,
        ),
        text_config=BartConfig(
            vocab_size=len(made),
            d_model=32,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=48,
            decoder_ffn_dim=48,
            pad_token_id=pad,
            bos_token_id=bos,
            eos_token_id=eos,
            decoder_start_token_id=eos,
            forced_eos_token_id=None,
        ),
        image_token_id=image,
    )
    pictures = CLIPImageProcessor(size={"height": 64, "width": 64}, do_center_crop=False)
    pictures.image_seq_length = 5
    return Florence2ForConditionalGeneration(config), Florence2Processor(pictures, made)


def blip() -> tuple[Any, Any]:
    from transformers import BlipConfig, BlipForConditionalGeneration, BlipImageProcessor, BlipProcessor

    made = tokenizer("blip")
    pad, sep, start = ids(made, "<pad>", "[SEP]", "[DEC]")
    config = BlipConfig(
        text_config={
            "vocab_size": len(made),
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "pad_token_id": pad,
            "sep_token_id": sep,
            "bos_token_id": start,
            "eos_token_id": sep,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        },
        vision_config={**VISION, "initializer_range": 0.02},
    )
    pictures = BlipImageProcessor(size={"height": IMAGE_SIDE_PX, "width": IMAGE_SIDE_PX})
    return BlipForConditionalGeneration(config), BlipProcessor(pictures, made)


KINDS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "llava": llava,
    "qwen2_vl": qwen2_vl,
    "smolvlm": smolvlm,
    "florence2": florence2,
    "blip": blip,
}


# Of the weights: a seed, and the spread of all matrices. With these, three pictures of noise have three greedy answers;
# most networks of this size say one word for ever, or nothing.
WEIGHTS = {"llava": (11, 0.4), "qwen2_vl": (3, 0.4), "smolvlm": (2, 0.4), "florence2": (3, 0.24), "blip": (3, 0.16)}


def write(kind: str, folder: Path) -> Path:
    """A model of a kind with random weights and its processor, as transformers saves them."""
    seed, spread = WEIGHTS[kind]
    torch.manual_seed(seed)
    network, processor = KINDS[kind]()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, spread)
    network.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
