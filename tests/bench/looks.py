"""Times several looks in one pass, and other looks later, against a run for each: `python -m tests.bench.looks`.

Everything is real but the store's distance: photos are read from this machine's disk. Runs share one Ray, so its start
does not count; the networks' loading does, in each run. Photos are alone in their batches.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import ray

from pipeline import flow, index
from pipeline.captions.captioning import Captioning
from pipeline.plan import make_plan
from pipeline.reprocess import earlier
from pipeline.settings import RunSettings
from pipeline.storage import Store
from supir_core.presets import Preset, derive, load_preset
from tests.pipeline.photographs import jpeg, put
from tests.pipeline.runs import plan_for, settings_for

TAUS = ("0.5", "1", "2", "4", "off")


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
    options = parser.parse_args(arguments)
    base = load_preset("demo", [f"sampling.num_steps={options.steps}", "size.min_size_px=64"])
    looks = tuple(derive(base, [f"pull.tau_r={tau_r}"]) for tau_r in TAUS)
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
