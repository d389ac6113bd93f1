"""Training on a few tiny pictures: losses fall, a stop changes nothing, the result restores a picture."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from supir_core.conditioning import SIZE_VECTOR, condition
from supir_core.models import notice, read_dims
from supir_core.networks.dims import UNetDims, VaeDims
from supir_core.networks.text import TextEncoders, Tokenizer
from supir_core.presets import load_preset
from supir_core.restorer import Photo, Restorer
from training import captions, checkpoints, text, words
from training.diffusing import ControlStage
from training.export import export
from training.pictures import draw
from training.recipe import CPU, STAGES, Recipe, StageRecipe, learning_rate
from training.train import Paused, Run
from training.unpack import unpack

UNET = UNetDims(
    channels=32,
    channel_mult=(1, 2),
    res_blocks=1,
    transformer_depth=(1, 1),
    head_channels=16,
    context_dim=32,
    vector_dim=16 + 6 * 8,
    latent_channels=4,
    norm_groups=8,
    connector_hidden=16,
    connector_head_channels=16,
)
VAE = VaeDims(16, (1, 3, 4), 1, latent_channels=4, norm_groups=4, latent_scale=2.0)
TINY = Recipe(
    replace(CPU.dims, vae=VAE, unet=UNET),
    {name: StageRecipe(0.25, batch=8, crop_px=32, matrix_rate=5e-3, rate=2e-3) for name in STAGES},
    pictures=6,
    encoded=4,
    picture_px=64,
)
STEPS = 16
BLOCKED = ("ray", "open_clip", "transformers", "safetensors", "torchvision")


class Stopped(Run):
    """A run that is asked to stop in the middle of each stage."""

    def _passed(self, name: str, step: int, spent_s: float) -> float:
        self.stopping = step == STEPS // 3
        return super()._passed(name, step, spent_s)


def run(folder: Path, kind: type[Run] = Run) -> Run:
    return kind(folder, TINY, torch.device("cpu"), None, STEPS, log_every=8)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training")
    run(folder).train()
    return folder


def weights(folder: Path) -> dict[str, Tensor]:
    saved = {stage: checkpoints.read(folder / f"{stage}.pt") for stage in STAGES}
    return {
        f"{stage} {kind} {part} {key}": tensor
        for stage, content in saved.items()
        for kind in ("weights", "average")
        for part, state in content[kind].items()
        for key, tensor in state.items()
    }


def test_a_stop_in_every_stage_changes_nothing(trained: Path, tmp_path: Path) -> None:
    for _ in STAGES:
        with pytest.raises(Paused):
            run(tmp_path, Stopped).train()
    run(tmp_path).train()
    whole, stopped = weights(trained), weights(tmp_path)
    assert whole.keys() == stopped.keys()
    assert all(torch.equal(whole[key], stopped[key]) for key in whole)


@pytest.mark.parametrize("stage", STAGES)
def test_losses_fall(stage: str, trained: Path) -> None:
    """On batches that were not trained on, from new weights to averaged ones."""
    torch.manual_seed(TINY.seed)
    built = run(trained)._build(stage)

    def loss() -> float:
        with torch.no_grad():
            return float(torch.stack([built.loss(step)[0] for step in range(100, 104)]).mean())

    before = loss()
    for part, module in built.trained.items():
        module.load_state_dict(checkpoints.averaged(trained, stage, part))
    assert loss() < before


def test_the_log_has_the_losses(trained: Path) -> None:
    lines = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    assert [line["stage"] for line in lines] == [stage for stage in STAGES for _ in range(STEPS // 8)]
    assert all(np.isfinite(line["loss"]) and line["samples_per_s"] > 0 for line in lines)


def test_a_finished_run_has_nothing_to_do(trained: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in trained.glob("*.pt")}
    run(trained).train()
    assert {file: file.stat().st_mtime_ns for file in trained.glob("*.pt")} == before


def test_an_export_restores_a_picture(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    config = export(trained, out, TINY)
    assert [stage["steps"] for stage in config["trained"]["stages"].values()] == [STEPS] * 4
    assert read_dims(str(out)) == TINY.dims
    assert notice(str(out)) == ""
    preset = load_preset("demo")
    preset = replace(preset, sampling=replace(preset.sampling, num_steps=2), size=replace(preset.size, min_size_px=64))
    restored = Restorer.load(str(out), device="cpu").restore([Photo("a", draw(1, 32).pixels, preset, "leaves")])[0]
    assert restored.image.shape == (1, 3, 64, 64)
    assert restored.image.isfinite().all()


def test_an_exported_model_can_be_trained_on(trained: Path, tmp_path: Path) -> None:
    export(trained, tmp_path / "model", TINY)
    folder = tmp_path / "again"
    unpack(str(tmp_path / "model"), folder)
    before = {stage: checkpoints.read(folder / f"{stage}.pt") for stage in STAGES}
    for stage, saved in before.items():
        assert saved is not None
        for part, state in saved["weights"].items():
            exact = checkpoints.averaged(trained, stage, part)
            assert state.keys() == exact.keys()
            assert all(torch.allclose(state[key], exact[key], atol=1e-2, rtol=1e-2) for key in exact)
    with pytest.raises(FileExistsError):
        unpack(str(tmp_path / "model"), folder)
    Run(folder, TINY, torch.device("cpu"), None, STEPS, log_every=8, again=True).train(("decoder",))
    after = checkpoints.read(folder / "decoder.pt")
    assert after is not None
    assert after["finished"]
    assert (after["step"], after["earlier"][0]) == (2 * STEPS, STEPS)


def test_text_is_as_restoring_has_it() -> None:
    """Both encoders, the size vector and the tokens."""
    torch.manual_seed(0)
    ours, dims = text.Text(TINY.dims.text), TINY.dims.text
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.normal_(std=0.3)
    theirs = TextEncoders(dims)
    ours_of = {name: dict(module.state_dict()) for name, module in ours.named_children()}
    missing, unknown = theirs.clip_l.load_state_dict(ours_of["clip_l"], strict=False)
    assert not unknown
    assert all(key.startswith(("encoder.layers.0.", "final_layer_norm.")) for key in missing)
    theirs.open_clip.load_state_dict(ours_of["open_clip"])
    prompts = [captions.for_degraded(), "", "leaves, sharp, brown tones." + captions.positive()]
    expected = condition(theirs, dims.size_embedding, prompts)
    context, vector = ours(prompts)
    assert text.SIZE_VECTOR == SIZE_VECTOR
    assert torch.allclose(context, expected.context, atol=1e-5)
    assert torch.allclose(vector, expected.vector, atol=1e-5)


def test_the_words_cover_all_captions() -> None:
    tokenizer = Tokenizer()
    rng = np.random.Generator(np.random.PCG64(1))
    drawn = [captions.for_clean(draw(seed, 32).caption, rng) for seed in range(60)]
    for prompt in ["", captions.for_degraded(), captions.positive(), *drawn]:
        assert list(words.token_ids(prompt)) == tokenizer([prompt])[0].tolist(), prompt
    assert words.token_ids("zzzzq sharp") == words.token_ids("sharp")


def test_control_starts_close_to_the_unet(trained: Path) -> None:
    control = run(trained)._build("control")
    assert isinstance(control, ControlStage)
    example = control._draw(5)
    assert example.z_control is not None
    with torch.no_grad():
        started = control._predict(example)
        context, vector = control.text(example.prompts)
        hint = control.control.hint(example.z_control)
        features = control.control(example.x, example.t, control.control.read(context), vector, hint)
        off = control.unet(example.x, example.t, control.unet.read(context), vector, features, torch.zeros(len(vector)))
    assert (started - off).square().mean() < 0.25 * (off - off.mean()).square().mean()


def test_control_waits_for_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="control needs denoise_encoder"):
        run(tmp_path).train(("control",))


def test_learning_rates_rise_and_fall() -> None:
    rates = [learning_rate(1.0, passed) for passed in (0.0, 0.05, 0.5, 1.0)]
    assert rates[0] < 0.05 < rates[3] * 10 < rates[2] < rates[1] <= 1


def test_training_needs_no_ray_and_no_open_clip() -> None:
    """So that it runs on a bare machine with PyTorch, NumPy and Pillow."""
    code = f"import sys\nfor name in {BLOCKED}: sys.modules[name] = None\nimport training.train"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
