"""What `supir index` and `supir runs` take: commands that look at an output."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from jobs import exits
from jobs.options import Json

Output = Annotated[str, typer.Argument(help="What was --output of a supir run.")]


class QueryByDefault(TyperGroup):
    """`supir index OUTPUT` means `supir index query OUTPUT`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the word in where it was left out."""
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["query", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=QueryByDefault,
    help="The index of an output: query it, merge its parts, check that the output is what it says.\n\n"
    "supir index OUTPUT is short for supir index query OUTPUT; a folder named like a command is ./compact.",
    no_args_is_help=True,
    rich_markup_mode=None,
    subcommand_metavar="OUTPUT | query OUTPUT | compact OUTPUT | verify OUTPUT",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def query(
    output: Output,
    sql: Annotated[
        str | None,
        typer.Option(
            help="A query over the view photos; it holds the newest row of every photo and look. every_row holds the "
            "older ones, too."
        ),
    ] = None,
    json_: Json = False,
) -> None:
    """Query the index of an output; the word query can be left out.

    Without --sql: photos by preset and status.

    Example: supir index restored --sql "select photo_id, error_code from photos where status = 'failed'"
    """
    from jobs import index as command

    raise typer.Exit(exits.guarded(lambda: command.show(output, sql, json_)))


@app.command()
def compact(output: Output, json_: Json = False) -> None:
    """Merge many small parts into few large ones.

    A run writes a part every few seconds; parts of a million rows are read faster, above all from an object store.
    Every row is kept. Queries and runs may go on meanwhile, and it may be interrupted: the next one goes on. Programs
    that read the Parquet files by themselves may, while old parts are deleted, see rows twice or miss a file: they
    should read again.

    Example: supir index compact restored
    """
    from jobs import index as command

    raise typer.Exit(exits.guarded(lambda: command.compact(output, json_)))


@app.command()
def verify(
    output: Output,
    fast: Annotated[
        bool,
        typer.Option(
            "--fast", help="Compare pictures' sizes with a listing, instead of reading every picture and record."
        ),
    ] = False,
    ids: Annotated[
        bool,
        typer.Option("--ids", help="Print the photo_id of every problem alone, for supir run --redo --only FILE."),
    ] = False,
    json_: Json = False,
) -> None:
    """Check pictures and records against the index.

    Every restored photo's picture and record must be there, with their sha256, and no others. A line per problem:
    missing, changed, unreadable (pictures); record-missing, record-differs, record-unreadable; orphan-picture,
    orphan-record (the index has no row of it). Pictures and records that a run has written within the last seconds may
    be listed as orphans; those of a run that was killed are adopted by the next one.

    Exit code 3 if there is any. Example: supir index verify restored --fast

    To restore again what is damaged: supir index verify restored --ids > ids.txt, then the run's command with
    --redo --only ids.txt.
    """
    from jobs import index as command

    raise typer.Exit(exits.guarded(lambda: command.check(output, fast, ids, json_)))


def runs(output: Output, json_: Json = False) -> None:
    """The runs of an output, newest first: what each was asked for, and what it did.

    Counts are of the rows that a run has made, also those that a later run has replaced. photo_seconds adds up what
    every photo took, although several are worked on at once. Times are UTC.
    """
    from jobs import runs as command

    raise typer.Exit(exits.guarded(lambda: command.show(output, json_)))


def captions(
    output: Output,
    export: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write them to this CSV file; - is stdout.")
    ] = None,
    import_: Annotated[
        str | None, typer.Option("--import", metavar="FILE", help="Take those that have been edited in this CSV file.")
    ] = None,
    json_: Json = False,
) -> None:
    """The captions of an output: out to a CSV file for people to edit, and back in.

    A caption that comes back changed stands before all other sources, in every look; the next supir run restores its
    photo again. A model is not asked again about what it has written before.

    Example: supir captions restored --export captions.csv, then supir captions restored --import captions.csv
    """
    from jobs import captions as command

    raise typer.Exit(exits.guarded(lambda: command.export_or_import(output, export, import_, json_)))
