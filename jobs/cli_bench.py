"""What the commands of `supir bench` take."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs import exits
from jobs.options import Compiled, Device, Dtype, JsonAlone, NetworkSizes, Quantization

bench_app = typer.Typer(help="What this machine reaches.", no_args_is_help=True, rich_markup_mode=None)


@bench_app.command("core")
def bench_core(
    dims: Annotated[
        NetworkSizes, typer.Option(help="Sizes of the networks; their weights are random. full: SUPIR's own, 8 GB.")
    ] = NetworkSizes.demo,
    tile: Annotated[int, typer.Option(min=4, help="Side of a window, in cells of 8 pixels.")] = 48,
    batch: Annotated[
        list[int] | None, typer.Option(min=1, help="Windows in one call; repeatable. Default: 1 and 4.")
    ] = None,
    vae_side: Annotated[int, typer.Option(min=64, help="Side of the picture for the autoencoder, in pixels.")] = 512,
    repeats: Annotated[int, typer.Option(min=1, help="Each time is the best of so many.")] = 3,
    threads: Annotated[int | None, typer.Option(min=1, help="Of the processor. Default: one per core.")] = None,
    device: Device = None,
    dtype: Dtype = None,
    compiled: Compiled = False,
    json_: JsonAlone = False,
) -> None:
    """Speed and memory of the networks.

    Seconds per call of UNet and control branch, TFLOP/s (operations counted from shapes) and their share of what the
    device reaches in a large matrix product; the sampler against a plain loop; the autoencoder; peak memory.

    Example, on a GPU: supir bench core --dims full --tile 128 --batch 1 --batch 4 --batch 8 --compile
    """
    from jobs import bench as command

    _finish(
        lambda: command.core(
            dims=dims.value,
            tile=tile,
            batches=batch or [1, 4],
            vae_side_px=vae_side,
            device=device,
            dtype=dtype.value if dtype else None,
            compiled=compiled,
            threads=threads,
            repeats=repeats,
            as_json=json_,
        )
    )


@bench_app.command("tiling")
def bench_tiling(
    size: Annotated[
        list[str] | None, typer.Option(metavar="WIDTHxHEIGHT", help="Of a result, in pixels; repeatable.")
    ] = None,
    preset: Annotated[str, typer.Option(help="Whose windows.")] = "faithful",
    json_: JsonAlone = False,
) -> None:
    """What tiling costs: the network's operations in windows, against the picture in one piece.

    Example: supir bench tiling --size 2048x2048 --size 3000x2000
    """
    from jobs import bench as command

    sizes = size or ["1024x1024", "1536x1536", "2048x2048", "3000x2000", "4096x4096", "8192x8192"]
    _finish(lambda: command.tiling(sizes, preset, json_))


@bench_app.command("index")
def bench_index(
    rows: Annotated[int, typer.Option(min=100, help="Photos of the archive.")] = 1_000_000, json_: JsonAlone = False
) -> None:
    """What planning a resumed run takes: a manifest of so many photos against an index with nine tenths of them.

    Then what compacting that index takes.

    Example: supir bench index --rows 10000000
    """
    from jobs import bench_index as command

    _finish(lambda: command.index(rows, json_))


@bench_app.command("flow")
def bench_flow(
    photos: Annotated[int, typer.Option(min=2, help="Tiny ones, made for this.")] = 200,
    gpus: Annotated[
        list[int] | None, typer.Option(min=1, help="Pretended GPUs, a worker each; repeatable. Default: 1 and 4.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0, help="Median time of a photo on a GPU.")] = 4.0,
    spread: Annotated[float, typer.Option(min=0, help="Standard deviation of that time's logarithm.")] = 0.3,
    times_of: Annotated[
        str | None,
        typer.Option(
            metavar="OUTPUT",
            help="Take median and spread from the index of a run instead: the times from one finished photo of a "
            "worker to its next, so of a run with one photo per batch and no pauses.",
        ),
    ] = None,
    drivers: Annotated[int, typer.Option(min=1, help="Runs at once, each with its shard and share of the GPUs.")] = 1,
    json_: JsonAlone = False,
) -> None:
    """What the flow makes of many GPUs: a timed wait in place of the networks, and everything else real.

    Shows the share of the paid GPU time that is busy, with and without the start, rows per second, the tail (from
    when the first GPU has nothing more to do) and the driver's memory. A worker takes about 0.5 GB and some seconds of
    a core to start: 64 of them want a machine of more than a few cores.

    Example: supir bench flow --photos 2000 --gpus 1 --gpus 8 --gpus 64 --seconds 20
    """
    from jobs import bench_flow as command

    def run() -> None:
        wait = command.measured(times_of) if times_of else command.Wait(seconds, spread)
        command.bench(photos, gpus or [1, 4], wait, drivers, json_)

    _finish(run)


@bench_app.command("captions")
def bench_captions(
    model: Annotated[str, typer.Argument(help="Directory of a captioning model, or its name in the local cache.")],
    pictures: Annotated[int, typer.Option(min=1, help="Of noise, 512 x 512.")] = 16,
    batch: Annotated[
        list[int] | None, typer.Option(min=1, help="Pictures at once; repeatable. Default: 1 and 8.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of one caption.")] = 128,
    quantization: Annotated[Quantization, typer.Option(help="float8 stores weights in 8 bits.")] = Quantization.none,
    device: Device = None,
    dtype: Dtype = None,
    json_: JsonAlone = False,
) -> None:
    """Speed and memory of a captioning model: pictures and tokens per second, peak memory.

    Example: supir bench captions models/llava-1.5-7b-hf --batch 1 --batch 8 --batch 16
    """
    from jobs import bench_captions as command

    _finish(
        lambda: command.captions(
            model,
            pictures=pictures,
            batches=batch or [1, 8],
            max_tokens=max_tokens,
            device=device,
            dtype=dtype.value if dtype else None,
            quantization=quantization.value,
            as_json=json_,
        )
    )


def _finish(command: exits.Command) -> None:
    raise typer.Exit(exits.guarded(command))
