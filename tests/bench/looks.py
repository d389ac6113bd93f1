"""Times several looks in one pass, and other looks later, against a run for each: `python -m tests.bench.looks`.

First the networks alone, in this process: what of one look is sampling, and what a sweep and a reprocess save of the
rest. Then whole runs (`--networks` leaves them out), where everything is real but the store's distance: photos are read
from this machine's disk. Runs share one Ray, so its start does not count; the networks' loading does, in each run.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import ray
import torch

from pipeline import flow, index
from pipeline.captions.captioning import Captioning
from pipeline.photos.decode import decode
from pipeline.plan import make_plan
from pipeline.reprocess import earlier
from pipeline.settings import RunSettings
from pipeline.storage import Store
from supir_core.presets import Preset, derive, load_preset
from supir_core.restorer import Photo, Restored, Restorer
from tests.pipeline.photographs import jpeg, put
from tests.pipeline.runs import plan_for, settings_for

TAUS = ("0.5", "1", "2", "4", "off")


def seconds_of(restorer: Restorer, photos: Sequence[Photo]) -> tuple[float, list[Restored]]:
    """How long photos take together, and what came out."""
    start = time.process_time()
    made = restorer.restore(photos)
    return time.process_time() - start, made


def networks(side: int, looks: Sequence[Preset]) -> dict[str, float]:
    """Processor seconds of one photo in one thread: each look alone, all together, and with known latents."""
    torch.set_num_threads(1)
    restorer = Restorer.load("demo", device="cpu", batch=1)  # so that each window costs the same in any company
    pixels = decode(jpeg(1, side, side)).pixels
    photos = [Photo("a", pixels, look) for look in looks]
    seconds_of(restorer, photos[:1])  # warm
    alone = [seconds_of(restorer, [photo]) for photo in photos]
    together, _ = seconds_of(restorer, photos)
    latents = alone[0][1][0].latents
    later = [seconds_of(restorer, [replace(photo, latents=latents)])[0] for photo in photos]
    no_steps = derive(looks[0], ["sampling.num_steps=1"])
    one_step, _ = seconds_of(restorer, [Photo("a", pixels, no_steps)])
    single = sum(seconds for seconds, _ in alone) / len(looks)
    step = (single - one_step) / (looks[0].sampling.num_steps - 1)
    sampling = step * looks[0].sampling.num_steps
    return {
        "one_look_s": single,
        "sampling_s": sampling,
        "rest_s": single - sampling,
        "sweep_s": together,
        "five_looks_s": single * len(looks),
        "bound_s": len(looks) * sampling + single - sampling,
        "reprocess_s": sum(later) / len(looks),
    }


def run(settings: RunSettings) -> dict[str, float]:
    """Seconds of a run, and what its rows say of the time that photos took in the networks."""
    start = time.monotonic()
    flow.run(settings, plan_for(settings).todo)
    return {"seconds": time.monotonic() - start, **of_photos(settings)}


def again(output: str, look: Preset) -> dict[str, float]:
    """The same for another look of what an output has."""
    settings = settings_for(
        output, output, captioning=Captioning(source="none"), latents="use", presets=(look,), format="jpeg"
    )
    start = time.monotonic()
    flow.run(settings, make_plan(earlier(Store(output)).manifest, settings).todo)
    return {"seconds": time.monotonic() - start, **of_photos(settings)}


def of_photos(settings: RunSettings) -> dict[str, float]:
    """Seconds that photos took, without the start of worker and networks: per photo, however many looks it got."""
    sql = f"""
        select sum(restore_s) as networks_s, sum(fetch_s) as fetch_s from (
            select photo_id, max(restore_s) as restore_s, max(fetch_s) as fetch_s
            from every_row where run = '{settings.run}' group by photo_id)
    """
    (row,) = index.query(Store(settings.output), sql).to_pylist()
    return {name: float(value) for name, value in row.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=4)
    parser.add_argument("--side", type=int, default=128, help="of a photo, in pixels; results are twice that")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--networks", action="store_true", help="these alone, without whole runs")
    options = parser.parse_args(arguments)
    base = load_preset("demo", [f"sampling.num_steps={options.steps}", "size.min_size_px=64"])
    looks = tuple(derive(base, [f"pull.tau_r={tau_r}"]) for tau_r in TAUS)
    alone_s = networks(options.side, looks)
    print(f"one photo of {options.side} px, {options.steps} steps, demo model, one thread; processor seconds")
    for name, value in alone_s.items():
        print(f"{name:20}{value:8.2f}")
    shares = {
        "sweep_of_five_looks": round(alone_s["sweep_s"] / alone_s["five_looks_s"], 3),
        "sweep_of_bound": round(alone_s["sweep_s"] / alone_s["bound_s"], 3),
        "reprocess_of_look": round(alone_s["reprocess_s"] / alone_s["one_look_s"], 3),
    }
    print(json.dumps(shares), flush=True)
    if options.networks:
        return
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    with tempfile.TemporaryDirectory(prefix="supir-") as work:
        source = put(
            Path(work) / "in", {f"{n}.jpg": jpeg(n, options.side, options.side) for n in range(options.photos)}
        )

        def settings(name: str, looks: tuple[Preset, ...], latents: str = "none") -> RunSettings:
            return settings_for(source, Path(work) / name, presets=looks, latents=latents, format="jpeg")

        run(settings("warm", looks[:1]))  # reads every file that a worker needs
        alone = [run(settings(f"alone-{look.digest}", (look,))) for look in looks]
        sweep = run(settings("sweep", looks))
        first = run(settings("kept", looks[:1], "keep"))
        later = [again(str(Path(work) / "kept"), look) for look in looks[1:]]
        kept = sum(path.stat().st_size for path in (Path(work) / "kept" / "latents").rglob("*.safetensors"))
        megapixels = options.photos * (2 * options.side) ** 2 / 1e6
    ray.shutdown()
    print(f"{options.photos} photos of {options.side} px, {options.steps} steps, demo model; seconds\n")
    print(f"{'':34}{'whole run':>12}{'networks':>12}")
    runs = {"five runs": added(alone), "a sweep of five": sweep, "one look, latents kept": first}
    runs["four other looks later (reprocess)"] = added(later)
    runs["four runs"] = added(alone[1:])
    for name, took in runs.items():
        print(f"{name:34}{took['seconds']:12.1f}{took['networks_s']:12.1f}")
    facts = {
        **shares,
        "sweep_of_five_runs": round(sweep["seconds"] / added(alone)["seconds"], 3),
        "sweep_of_five_runs_networks": round(sweep["networks_s"] / added(alone)["networks_s"], 3),
        "reprocess_of_run": round(added(later)["seconds"] / added(alone[1:])["seconds"], 3),
        "reprocess_of_run_networks": round(added(later)["networks_s"] / added(alone[1:])["networks_s"], 3),
        "latents_mb_per_megapixel": round(kept / 1e6 / megapixels, 3),
        "photos": options.photos,
        "side": options.side,
        "steps": options.steps,
        "date": time.strftime("%Y-%m-%d"),
    }
    print("\n" + json.dumps(facts))


def added(runs: Sequence[dict[str, float]]) -> dict[str, float]:
    """Their sums."""
    return {name: sum(one[name] for one in runs) for name in runs[0]}


if __name__ == "__main__":
    main()
