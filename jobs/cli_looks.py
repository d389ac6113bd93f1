"""What `supir reprocess`, `supir compare` and `supir select` take: commands about the looks of an output."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from jobs import exits
from jobs.cli_index import Output
from jobs.options import Json, OutputFormat, ProgressStyle, plain

NOT_OF_REPROCESS = ("input_", "output", "limit", "only", "retry_captions", "allow_download", "progress", "json_")
"""Options of `supir run` that `supir reprocess` does not take, or takes in another form."""


def reprocess(
    output: Output,
    model: Annotated[
        str | None, typer.Option(help="Another model. Default: that of the earlier run; see supir run --help.")
    ] = None,
    format_: Annotated[
        OutputFormat | None, typer.Option("--format", help="File format of the results. Default: as before.")
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(
            metavar="SQL",
            help="Only photos with a look that meets this condition over the index: --where \"preset = 'faithful' and "
            'fidelity_db > 30".',
        ),
    ] = None,
    photos: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Only the photos whose photo_id stands in this text file, a line each."),
    ] = None,
    progress: Annotated[ProgressStyle, typer.Option(help="bar, plain lines for logs, none.")] = ProgressStyle.auto,
    json_: Json = False,
    **options: Any,
) -> None:
    """Make other looks of the photos that an output has.

    Their captions are those of the earlier run (or what people have written since), and so is their stage 1, if it was
    run with --keep-latents and the same model; photos are read from where they were. What the index has is not made
    again. Pictures are as supir run would make them.

    Example: supir reprocess restored --preset vivid --where "fidelity_db > 30"
    """
    from jobs import reprocess as command

    asked = plain({**options, "model": model, "format_": format_})
    raise typer.Exit(exits.guarded(lambda: command.reprocess(output, where, photos, asked, progress.value, json_)))


def compare(
    output: Output,
    photo: Annotated[str, typer.Option(metavar="ID", help="The photo_id, as it stands in the index.")],
    to: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="The sheet, ending in .png or .jpg. Default: OUTPUT/sheets/PHOTO.png."),
    ] = None,
    json_: Json = False,
) -> None:
    """Put all looks of a photo on one sheet, beside the photo itself.

    From the strongest pull to none, each with its tau_r (LARGER is WEAKER), how close it is to the photo (dB: more is
    closer; dE: less is closer) and, below it, its centre in full size.

    Example: supir compare restored --photo album/portrait.jpg --to portrait.png
    """
    from jobs import compare as command

    raise typer.Exit(exits.guarded(lambda: command.compare(output, photo, to, json_)))


def select(
    output: Output,
    rule: Annotated[
        str,
        typer.Option(
            metavar="SQL",
            help="A condition over the columns of the index and, if you like, 'order by' with what comes first; else "
            "the look that is closest to the photo.",
        ),
    ],
    to: Annotated[str, typer.Option(metavar="FOLDER|URI", help="Where the pictures and a list of them go.")],
    link: Annotated[bool, typer.Option("--link", help="Make symbolic links instead of copies.")] = False,
    dry: Annotated[bool, typer.Option("--dry-run", help="Only say what would be chosen.")] = False,
    json_: Json = False,
) -> None:
    """Take one look of every photo, chosen by a rule, into a folder of its own.

    The freest look that stays close enough: --rule "fidelity_db > 28 order by fidelity_db". The closest one:
    --rule "true". Free where that is close enough, else the closest: --rule "true order by fidelity_db > 28 desc,
    if(fidelity_db > 28, fidelity_db, -fidelity_db)". Within S3 the store copies by itself. selection.csv lists what was
    chosen; pictures that lie in the folder already are replaced or left.

    Example: supir select restored --rule "fidelity_db > 28 order by fidelity_db" --to chosen
    """
    from jobs import select as command

    raise typer.Exit(exits.guarded(lambda: command.select(output, rule, to, link, dry, json_)))
