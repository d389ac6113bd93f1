"""What the commands take that have to do with clusters: `supir submit`, `supir jobs`, `supir status`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from jobs import exits
from jobs.options import Json, ProgressStyle

Address = Annotated[
    str | None,
    typer.Option("--address", metavar="URL", help="Of the cluster's Jobs API, http://HEAD:8265. Else SUPIR_ADDRESS."),
]
JobId = Annotated[str, typer.Argument(metavar="ID", help="Of the job; supir jobs list has them.")]
Package = Annotated[
    bool,
    typer.Option(
        "--package/--no-package",
        help="Send along a wheel of this checkout, or use the package that is installed in the nodes' image.",
    ),
]
Follow = Annotated[
    bool, typer.Option("--follow", "-f", help="Show its log and how far it is; Ctrl-C leaves it running.")
]
Price = Annotated[
    float | None, typer.Option("--gpu-hour-price", min=0, help="Of one GPU for one hour, to show what it has cost.")
]
Output = Annotated[str, typer.Argument(help="What was --output of a supir run.")]

app = typer.Typer(
    help="Runs that supir submit has sent to a cluster.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def submit(
    address: Address = None,
    package: Package = True,
    follow: Follow = False,
    progress: ProgressStyle = ProgressStyle.none,
    json_: Json = False,
    **options: Any,
) -> None:
    """Run supir run on a cluster, with the same options; prints the job's id.

    Submitted again while it goes on, the same run is found, not begun twice; submitted again later, or on another
    cluster, it goes on where it stopped. --preset FILE.toml and --only FILE travel along; everything else must be
    where all nodes see it. Credentials are the nodes' (roles, environment variables), never part of the command.
    Clusters that start their GPU nodes on demand need to be told how many: --workers 8 --gpus-per-worker 1.

    Example: supir submit --address http://HEAD:8265 -i s3://archive/scans -o s3://restored/2026 --model s3://models/packed
    """
    from jobs import cluster_jobs as command
    from jobs.cli import run
    from jobs.options import words_of

    words = words_of(run, {**options, "progress": progress}, but=("address", "json_"))
    _finish(lambda: command.submit(words, options["output"], address, package, follow, json_))


@app.command("list")
def list_(address: Address = None, json_: Json = False) -> None:
    """The jobs of a cluster, newest first."""
    from jobs import cluster_jobs as command

    _finish(lambda: command.list_jobs(address, json_))


@app.command("status")
def job_status(job_id: JobId, address: Address = None, gpu_hour_price: Price = None, json_: Json = False) -> None:
    """What the cluster says of a job, and how far its run is by its output."""
    from jobs import cluster_jobs as command

    _finish(lambda: command.show(job_id, address, gpu_hour_price, json_))


@app.command("logs")
def job_logs(job_id: JobId, address: Address = None, follow: Follow = False) -> None:
    """What a job's driver has said; -f to its end."""
    from jobs import cluster_jobs as command

    _finish(lambda: command.logs(job_id, address, follow))


@app.command("stop")
def job_stop(
    job_id: JobId,
    address: Address = None,
    drain: Annotated[
        bool, typer.Option("--drain", help="Let it finish the photos that it has begun; asks through its output.")
    ] = False,
) -> None:
    """End a job: at once, or with --drain when the photos are finished that it has begun. Nothing is lost by either.

    Example: supir jobs stop supir-2026-1f0c2d3e-1 --drain
    """
    from jobs import cluster_jobs as command

    _finish(lambda: command.stop(job_id, address, drain))


def status(output: Output, gpu_hour_price: Price = None, json_: Json = False) -> None:
    """How far the runs of an output are, from anywhere that can read it.

    Photos done, failed and left, megapixels per second, time left, GPUs busy, cost so far, the slowest stages; of the
    newest run of every look.

    Example: supir status s3://restored/2026 --gpu-hour-price 1.20
    """
    from jobs import status as command

    _finish(lambda: command.show(output, gpu_hour_price, json_))


def _finish(command: exits.Command) -> None:
    raise typer.Exit(exits.guarded(command))
