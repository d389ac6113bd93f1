"""What the commands of `supir presets` take."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs import exits
from jobs.options import Json, Settings

app = typer.Typer(help="Presets: what a restored picture looks like.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def presets_list(json_: Json = False) -> None:
    """The shipped presets."""
    from jobs import presets as command

    raise typer.Exit(exits.guarded(lambda: command.show_all(json_)))


@app.command("show")
def presets_show(
    name: Annotated[str, typer.Argument(help="A shipped preset or a .toml file.")],
    settings: Settings = None,
    json_: Json = False,
) -> None:
    """One preset, with changes applied, as TOML."""
    from jobs import presets as command

    raise typer.Exit(exits.guarded(lambda: command.show(name, tuple(settings or ()), json_)))


@app.command("diff")
def presets_diff(
    one: Annotated[str, typer.Argument(metavar="A", help="A shipped preset or a .toml file.")],
    other: Annotated[str, typer.Argument(metavar="B", help="Another.")],
    json_: Json = False,
) -> None:
    """What sets two presets apart, key by key.

    Example: supir presets diff faithful vivid
    """
    from jobs import presets as command

    raise typer.Exit(exits.guarded(lambda: command.diff(one, other, json_)))


@app.command("curve")
def presets_curve(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Shipped presets or .toml files.")],
    settings: Settings = None,
    to: Annotated[str | None, typer.Option(metavar="FILE", help="Also draw them into this .png file.")] = None,
    json_: Json = False,
) -> None:
    """How hard each step of a preset pulls towards the photo: k against the step.

    A LARGER tau_r is a WEAKER pull: the curve falls earlier. At 'off' it is 0 everywhere.

    Example: supir presets curve faithful vivid --to curves.png
    """
    from jobs import curve as command

    raise typer.Exit(exits.guarded(lambda: command.show(names, tuple(settings or ()), to, json_)))
