"""Trains the demo model: `python -m training.train --out DIR --minutes 60`. The same command goes on where it stopped.

Stages run in turn, each for its share of the minutes (or `--steps` each); the first three may also run side by side
(`--stage`). Whatever ends the run, DIR keeps the last checkpoint, at most a minute old. DIR/log.jsonl has the losses.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from supir_core.networks.control import ControlBranch
from supir_core.networks.unet import UNet
from supir_core.networks.vae import Decoder, Encoder, Vae
from training import checkpoints
from training.autoencoding import DecoderStage, DenoiseEncoderStage
from training.bank import Bank, load_bank
from training.diffusing import ControlStage, UNetStage
from training.latents import ControlLatents, encode_bank, encode_control, mixed_precision
from training.optimizer import MuonAdam, build_optimizer
from training.recipe import CPU, GPU, NEEDS, STAGES, Recipe, learning_rate
from training.text import Text
from training.written import pass_all

SAVE_EVERY_S = 60.0
LARGEST_GRADIENT = 1.0  # norm; above, gradients are scaled down, which matters to Adam alone


class Stage(Protocol):
    """What the loop needs of a stage."""

    trained: Mapping[str, nn.Module]
    written: Sequence[nn.Parameter]  # matrices that were written down

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a step, and its parts for the log."""


class Paused(Exception):
    """The run was asked to stop; its checkpoint is written."""


class Run:
    """One call of the program.

    Args:
        folder: checkpoints, pictures and log.
        recipe: of the model.
        device: where to train.
        minutes: of all stages together; None to count steps.
        steps: of each stage, if `minutes` is None.
        pause_after_s: end this call after so many seconds; the next one goes on.
        compiled: through `torch.compile`.
        log_every: steps.
        again: train finished stages once more, from where they are, with rates that rise and fall anew.
    """

    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        device: torch.device,
        minutes: float | None,
        steps: int,
        pause_after_s: float | None = None,
        compiled: bool = False,
        log_every: int = 20,
        again: bool = False,
    ):
        self.again = again
        self.log_every = log_every
        self.folder, self.recipe, self.device = folder, recipe, device
        self.minutes, self.steps, self.compiled = minutes, steps, compiled
        # A processor's time is this thread's: what else runs there costs nothing. A GPU works on beside its thread.
        self._clock = time.thread_time if device.type == "cpu" else time.monotonic
        self.ends_at = None if pause_after_s is None else self._clock() + pause_after_s
        self.stopping = False
        self._bank: Bank | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def train(self, names: tuple[str, ...] = STAGES) -> None:
        """Train stages, as far as they are not done.

        Raises:
            Paused: stopped before the end.
        """
        for name in names:
            for needed in NEEDS.get(name, ()):
                if (before := checkpoints.read(self.folder / f"{needed}.pt")) is None or not before["finished"]:
                    raise FileNotFoundError(f"{name} needs {needed}, which is not finished in {self.folder}")
            saved = checkpoints.read(self.folder / f"{name}.pt", self.device)
            if saved is not None and saved["finished"] and self.again:
                saved = checkpoints.once_more(saved)
            if saved is None or not saved["finished"]:
                self._train_stage(name, saved)

    def say(self, text: str) -> None:
        """A line for whoever watches."""
        print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)  # noqa: T201  a program's output

    def _passed(self, name: str, step: int, spent_s: float) -> float:
        """The share of a stage that is behind it."""
        if self.minutes is None:
            return step / self.steps
        return spent_s / (60 * self.minutes * self.recipe.stages[name].share)

    def _train_stage(self, name: str, saved: dict[str, Any] | None) -> None:
        torch.manual_seed(self.recipe.seed)  # for new weights; the steps have generators of their own
        stage = self._build(name)
        parameters = [p for module in stage.trained.values() for p in module.parameters() if p.requires_grad]
        settings = self.recipe.stages[name]
        optimizer = build_optimizer(stage.trained.values(), stage.written, settings.matrix_rate, settings.rate)
        average = checkpoints.Average(stage.trained)
        step, spent_s, earlier = 0, 0.0, checkpoints.Earlier()
        if saved is not None:
            for part, module in stage.trained.items():
                module.load_state_dict(saved["weights"][part])
            if saved["optimizer"]:
                optimizer.load_state_dict(saved["optimizer"])
            average.state = saved["average"]
            step, spent_s, earlier = saved["step"], saved["spent_s"], checkpoints.Earlier(*saved["earlier"])
        self.say(f"{name}: from step {step}, {sum(p.numel() for p in parameters) / 1e6:.2f} M weights")

        def save(finished: bool) -> None:
            content = {
                "step": step,
                "spent_s": spent_s,
                "earlier": tuple(earlier),
                "finished": finished,
                "weights": {part: module.state_dict() for part, module in stage.trained.items()},
                "average": average.state,
                "optimizer": {} if finished else optimizer.state_dict(),
            }
            checkpoints.write_atomically(self.folder / f"{name}.pt", content)

        if self.compiled:
            _compile(stage)
        saved_at = logged_at = started = self._clock()
        spent_before, totals, counted = spent_s, {}, 0
        while (passed := self._passed(name, step - earlier.steps, spent_s)) < 1:
            for key, value in self._step(stage, optimizer, parameters, step, passed).items():
                totals[key] = totals.get(key, 0.0) + value
            step += 1
            average.update(step)
            counted += 1
            now = self._clock()
            if counted == self.log_every:
                means = {key: float(value) / counted for key, value in totals.items()}
                now = self._clock()  # a GPU has caught up only here
                speed = counted * self.recipe.stages[name].batch / (now - logged_at)
                self._log(name, step, spent_before + now - started, passed, speed, means)
                totals, counted, logged_at = {}, 0, now
                if not all(map(_is_number, means.values())):
                    raise FloatingPointError(f"{name} came to {means} at step {step}")
            spent_s = spent_before + now - started
            if self.stopping or (self.ends_at is not None and now > self.ends_at):
                save(False)
                raise Paused(f"{name} at step {step}; the same command goes on")
            if now - saved_at > SAVE_EVERY_S:
                save(False)
                saved_at = self._clock()
        for part, module in stage.trained.items():
            module.load_state_dict(average.state[part])
        save(True)
        self.say(f"{name}: done after {step} steps and {spent_s / 60:.1f} minutes")

    def _step(
        self, stage: Stage, optimizer: MuonAdam, parameters: Sequence[nn.Parameter], step: int, passed: float
    ) -> dict[str, Tensor]:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(group["peak"], passed)
        with mixed_precision(self.device):
            loss, parts = stage.loss(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(parameters, LARGEST_GRADIENT)
        optimizer.step()
        return {key: value.detach() for key, value in {"loss": loss, "gradient": norm, **parts}.items()}

    def _log(self, name: str, step: int, spent_s: float, passed: float, speed: float, means: dict[str, float]) -> None:
        line = {"stage": name, "step": step, "spent_s": round(spent_s, 1), "passed": round(passed, 4)}
        line |= {"samples_per_s": round(speed, 1)} | {key: round(value, 6) for key, value in means.items()}
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        if step // self.log_every % 5 == 0 or step == self.log_every:  # a stage that goes on may begin at any step
            losses = ", ".join(f"{key} {value:.4f}" for key, value in means.items())
            self.say(f"{name} {100 * passed:.0f} %, step {step}: {losses}; {speed:.0f} samples/s")

    def _build(self, name: str) -> Stage:
        if self._bank is None:
            self._bank = load_bank(self.folder / "pictures", self.recipe, self.device, self.say)
        if name == "decoder":
            return DecoderStage(self.recipe, self._bank, self.device)
        if name == "denoise_encoder":
            return DenoiseEncoderStage(self.recipe, self._bank, self.device)
        latents = encode_bank(self._bank, self.recipe)
        if name == "unet":
            return UNetStage(self.recipe, self._bank, latents)
        text = Text(self.recipe.dims.text)
        text.load_state_dict(checkpoints.averaged(self.folder, "unet", "text"))
        unet = checkpoints.averaged(self.folder, "unet", "unet")
        return ControlStage(self.recipe, self._bank, latents, self._control_latents(self._bank), unet, text)

    def _control_latents(self, bank: Bank) -> ControlLatents:
        file = self.folder / "control-latents.pt"
        saved = checkpoints.read(file, self.device)
        if saved is not None:
            return ControlLatents(**saved)
        vae = Vae(self.recipe.dims.vae)
        vae.denoise_encoder.load_state_dict(checkpoints.averaged(self.folder, "denoise_encoder", "denoise_encoder"))
        pass_all(vae.quant_conv)
        vae.to(self.device, memory_format=torch.channels_last)
        latents = encode_control(bank, self.recipe.encoded, vae, self.say)
        checkpoints.write_atomically(file, latents._asdict())
        return latents


def load_vae(folder: Path, recipe: Recipe) -> Vae:
    """The autoencoder as trained by now, on the processor, without its second encoder."""
    vae = Vae(recipe.dims.vae)
    del vae.denoise_encoder
    for part, module in vae.named_children():
        module.load_state_dict(checkpoints.averaged(folder, "decoder", part))
    return vae


def _compile(stage: Stage) -> None:
    """Run a stage's networks through `torch.compile`; what draws its batches stays as it is."""
    for value in vars(stage).values():
        for module in value.modules() if isinstance(value, nn.Module) else ():
            if isinstance(module, (Encoder, Decoder, UNet, ControlBranch)):
                module.compile()


def _is_number(value: float) -> bool:
    return abs(value) < float("inf")


def main(arguments: list[str] | None = None) -> int:
    """Read the options, train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="checkpoints, pictures and log")
    parser.add_argument("--stage", choices=[*STAGES, "all"], default="all")
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--minutes", type=float, help="for all stages together; one stage gets its share of them")
    length.add_argument("--steps", type=int, help="of each stage")
    parser.add_argument("--pause-after", type=float, metavar="MINUTES", help="end this call then; the next one goes on")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--recipe", choices=["cpu", "gpu"], help="batches and pictures; by default as the device")
    parser.add_argument("--pictures", type=int, help="to draw, instead of the recipe's number")
    parser.add_argument("--threads", type=int, help="of the processor")
    parser.add_argument("--again", action="store_true", help="finished stages, from where they are")
    parser.add_argument("--compile", action="store_true", help="through torch.compile")
    options = parser.parse_args(arguments)
    recipe = GPU if (options.recipe or options.device) in ("gpu", "cuda") else CPU
    if options.pictures:
        recipe = dataclasses.replace(recipe, pictures=options.pictures, encoded=min(recipe.encoded, options.pictures))
    if options.threads:
        torch.set_num_threads(options.threads)
    pause_s = None if options.pause_after is None else 60 * options.pause_after
    device = torch.device(options.device)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True  # crops have one size
    run = Run(
        options.out, recipe, device, options.minutes, options.steps or 0, pause_s, options.compile, again=options.again
    )

    def stop(*_: object) -> None:
        run.stopping = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        run.train(STAGES if options.stage == "all" else (options.stage,))
    except Paused as paused:
        run.say(f"paused: {paused}")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
