"""The command `supir`: what it takes. What it does is in the module of the same name as the command."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from jobs import cli_index, cli_jobs, cli_looks, cli_presets, exits
from jobs.cli_bench import bench_app
from jobs.options import (
    AcceptDamaged,
    AllowDownload,
    AllowUris,
    Compiled,
    Device,
    Dtype,
    Json,
    KeepLatents,
    LogFormat,
    LogStyle,
    Model,
    OutputFormat,
    PackedDtype,
    PhotoTimeout,
    Preset,
    Presets,
    ProgressStyle,
    Quality,
    Settings,
    Shard,
    Sweep,
    plain,
    takes_options_of,
)
from supir_core import __version__

EXIT_CODES = "Exit codes: 0 all done, 1 a bug, 2 wrong input, 3 finished with failed photos, 130 interrupted."

app = typer.Typer(
    help="Restore photos with SUPIR: one photo, a folder, or an archive.\n\n" + EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(cli_presets.app, name="presets")
weights_app = typer.Typer(
    help="Files of weights: what they are, and packing them into one model.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(weights_app, name="weights")
app.add_typer(bench_app, name="bench")
manifest_app = typer.Typer(help="Lists of photos.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(manifest_app, name="manifest")


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(f"supir {__version__}")
        raise typer.Exit


@app.command()
def run(
    input_: Annotated[
        str,
        typer.Option(
            "--input",
            "-i",
            metavar="FOLDER|URI|LIST",
            help="A folder, s3://bucket/prefix, one photo, or a .csv, .jsonl or .parquet list with a column uri "
            "(and, if you like, photo_id, caption, prompt and preset). A caption may also lie beside a photo: "
            "portrait.jpg, portrait.txt.",
        ),
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FOLDER|URI", help="Where pictures, records and the index go.")
    ],
    presets: Presets = None,
    settings: Settings = None,
    sweep: Sweep = None,
    model: Model = "demo",
    format_: Annotated[
        OutputFormat,
        typer.Option(
            "--format", help="File format of the results; 'keep' is each photo's own (PNG for those we do not write)."
        ),
    ] = OutputFormat.png,
    quality: Quality = None,
    accept_damaged: AcceptDamaged = False,
    restore_all: Annotated[
        bool,
        typer.Option(
            "--restore-all", help="Also black-and-white (1-bit) pages and photos that are larger than their result."
        ),
    ] = False,
    skip_if_sharper_than: Annotated[
        float | None,
        typer.Option(
            min=0, metavar="SHARPNESS", help="Leave photos alone that are sharper: see source_sharpness in the index."
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N photos, by path.")] = None,
    only: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Only the photos whose photo_id stands in this text file, a line each."),
    ] = None,
    shard: Shard = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Also try again what failed in an earlier run.")
    ] = False,
    retry_captions: Annotated[
        bool,
        typer.Option("--retry-captions", help="Also restore again what an outage of captioner or server left without."),
    ] = False,
    redo: Annotated[
        bool, typer.Option("--redo", help="Restore every photo of the input again, also what is done.")
    ] = False,
    keep_latents: KeepLatents = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Restore workers. Default: one per GPU, or one on the processor.")
    ] = None,
    gpus_per_worker: Annotated[
        float | None, typer.Option(min=0, help="Share of a GPU per worker; 0 restores on the processor.")
    ] = None,
    photos_per_batch: Annotated[int, typer.Option(min=1, help="Photos that share the networks' batches.")] = 2,
    tile_batch: Annotated[int, typer.Option(min=1, help="Windows in one call of the networks.")] = 4,
    max_megapixels: Annotated[
        float, typer.Option(min=0.01, help="Photos whose result is larger fail with too-large.")
    ] = 100.0,
    photo_timeout_s: PhotoTimeout = None,
    address: Annotated[str | None, typer.Option(help="A Ray cluster, or 'auto'. Default: this machine.")] = None,
    device: Device = None,
    dtype: Dtype = None,
    compiled: Compiled = False,
    allow_download: AllowDownload = False,
    allow_uris: AllowUris = None,
    log_format: LogFormat = LogStyle.text,
    progress: Annotated[ProgressStyle, typer.Option(help="bar, plain lines for logs, none.")] = ProgressStyle.auto,
    json_: Json = False,
) -> None:
    """Restore a folder or an archive.

    The same command again does only what is left; after a crash it goes on where it stopped. Ctrl-C (or SIGTERM)
    finishes the photos that have been begun and ends the run; a second one ends it at once.

    Several looks in one pass: --preset repeated, or --sweep; the index gets a row per photo and look.

    Example: supir run --input scans --output restored --preset faithful --model weights
    """
    asked = locals()
    from jobs import run as command

    _finish(lambda: command.run(command.Request.of(plain(asked)), progress.value, json_))


@app.command()
@takes_options_of(run, "progress")
def plan(
    sample: Annotated[
        str, typer.Option(metavar="N|all", help="Read the headers of so many photos, chosen at random.")
    ] = "1000",
    megapixels_per_second: Annotated[
        float | None,
        typer.Option(
            min=1e-9,
            help="Rate of one worker, in pixels that the networks see. Default: as measured in this output.",
        ),
    ] = None,
    json_: Json = False,
    **options: Any,
) -> None:
    """Say what supir run with the same options would do and take; nothing is written.

    Photos by format, what is done and what is left, sizes, photos that would be refused and why, hours. Sizes and most
    refusals are seen in the headers of a sample; a photo that is cut off further down is not noticed. Hours follow from
    what this output has measured with the same model: restore --limit 20 photos first, with the machines meant for all.

    Example: supir plan --input scans --output restored --preset faithful --model weights
    """
    from jobs import plan as command
    from jobs.run import Request

    _finish(lambda: command.plan(Request.of(plain(options)), sample, megapixels_per_second, json_))


@app.command()
def restore(
    photo: Annotated[str, typer.Argument(help="The photo: a path or URI.")],
    out: Annotated[str, typer.Argument(help="The result: a path or URI ending in .png, .jpg, .webp or .tif.")],
    preset: Preset = None,
    settings: Settings = None,
    model: Model = "demo",
    caption: Annotated[
        str | None,
        typer.Option(
            help="What the photo shows. Default: what the .txt file beside it says, or the photo's own description."
        ),
    ] = None,
    quality: Quality = None,
    accept_damaged: AcceptDamaged = False,
    sidecar: Annotated[
        bool, typer.Option("--sidecar", help="Also write how the result was made, as OUT.json beside it.")
    ] = False,
    tile_batch: Annotated[int, typer.Option(min=1, help="Windows in one call of the networks.")] = 4,
    device: Device = None,
    dtype: Dtype = None,
    compiled: Compiled = False,
    json_: Json = False,
) -> None:
    """Restore one photo, without Ray.

    Example: supir restore portrait.jpg portrait-restored.png --set size.upscale=4 --model weights
    """
    from jobs import restore as command

    _finish(
        lambda: command.restore(
            photo,
            out,
            preset=preset,
            changes=tuple(settings or ()),
            model=model,
            caption=caption,
            quality=quality,
            accept_damaged=accept_damaged,
            sidecar=sidecar,
            tile_batch=tile_batch,
            device=device,
            dtype=dtype.value if dtype else None,
            compiled=compiled,
            as_json=json_,
        )
    )


app.command()(takes_options_of(run)(cli_jobs.submit))
app.add_typer(cli_jobs.app, name="jobs")
app.command()(cli_jobs.status)
app.add_typer(cli_index.app, name="index")
app.command()(cli_index.runs)
app.command()(cli_index.captions)
app.command()(takes_options_of(run, *cli_looks.NOT_OF_REPROCESS)(cli_looks.reprocess))
app.command()(cli_looks.compare)
app.command()(cli_looks.select)


@weights_app.command("check")
def weights_check(
    files: Annotated[
        list[str], typer.Argument(help="Files, diffusers folders (unet/, vae/, ...) or model directories.")
    ],
    sha256: Annotated[
        bool,
        typer.Option(help="Read the files in full, for the sha256 and to find NaN; else their headers only: seconds."),
    ] = True,
    json_: Json = False,
) -> None:
    """Say what each file is, and whether it is whole.

    The role follows from the tensors in a file, not from its name. SUPIR v0Q and v0F hold tensors of the same names:
    which of the two it is, only the file's name can tell. Pickles (.ckpt, .pth) that hold more than tensors are never
    loaded. Exit code 2 if anything is wrong with any file.

    Example: supir weights check sd_xl_base_1.0_0.9vae.safetensors SUPIR-v0Q.ckpt
    """
    from jobs import weights as command

    _finish(lambda: command.check(files, sha256, json_))


@weights_app.command("pack")
def weights_pack(
    sdxl: Annotated[
        str, typer.Option(metavar="FILE|FOLDER", help="An SDXL base or fine-tune: a file, or a diffusers folder.")
    ],
    supir: Annotated[str, typer.Option(metavar="FILE", help="SUPIR-v0Q or SUPIR-v0F.")],
    out: Annotated[str, typer.Argument(help="The new model directory: for --model of the other commands.")],
    lora: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE[:SCALE]", help="Merge an SDXL LoRA (kohya naming), by default in full; repeatable."),
    ] = None,
    dtype: Annotated[
        PackedDtype,
        typer.Option(
            help="bf16 suits a GPU, fp32 the processor. With fp16 the VAE becomes bf16: fp16 overflows in it."
        ),
    ] = PackedDtype.bf16,
    json_: Json = False,
) -> None:
    """Write one model directory from an SDXL file, a SUPIR file and, if you like, LoRAs.

    It loads faster than the files it was made of, takes half the space of fp32 ones, and a run need not read it in
    full to know its digest. Nothing is written unless every tensor is there, of the right shape and free of NaN.

    Example: supir weights pack --sdxl juggernaut.safetensors --supir SUPIR-v0Q.ckpt --lora film.safetensors:0.6 weights
    """
    from jobs import weights as command

    _finish(lambda: command.pack(sdxl, supir, lora or [], dtype.value, out, json_))


@manifest_app.command("build")
def manifest_build(
    sources: Annotated[list[str], typer.Argument(metavar="FOLDER|URI|LIST...", help="Where photos are.")],
    out: Annotated[str, typer.Option("--out", "-o", help="The list to write; its name ends in .parquet.")],
    json_: Json = False,
) -> None:
    """Write one list of all photos of folders, S3 prefixes and other lists: for --input of supir run.

    A photo's id is its URI; its version (the ETag, or size and time) tells a later run whether it has changed. Folders
    of a prefix are listed at the same time, and never more of them held in memory than is written in one go.

    Example: supir manifest build s3://archive/1910 s3://archive/1920 --out manifest.parquet
    """
    from jobs import manifest as command

    _finish(lambda: command.build(sources, out, json_))


def _finish(command: exits.Command) -> None:
    raise typer.Exit(exits.guarded(command))


def main() -> None:
    """The console script."""
    try:
        app()
    except SystemExit:
        raise
    except BrokenPipeError:  # the reader of our output has seen enough
        sys.stderr.close()
        sys.exit(exits.DONE)
