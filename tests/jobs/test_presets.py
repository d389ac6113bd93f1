"""`supir presets`: what is shipped, and what is in it."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

from typer.testing import CliRunner, Result

from jobs.cli import app
from supir_core.presets import load_preset, names


def presets(*words: object) -> Result:
    result = CliRunner().invoke(app, ["presets", *map(str, words)])
    assert result.exit_code == 0, result.output
    return result


def test_list_has_a_line_for_every_preset() -> None:
    text = presets("list").stdout
    for name in names():
        assert f"{load_preset(name).digest}" in text and name in text


def test_list_for_scripts() -> None:
    listed = json.loads(presets("list", "--json").stdout)
    assert [entry["name"] for entry in listed] == names()


def test_show_is_a_preset_file(tmp_path: Path) -> None:
    """What is shown can be saved, changed and used."""
    text = presets("show", "demo", "--set", "pull.tau_r=1.5").stdout
    values = tomllib.loads(text)
    assert values["pull"]["tau_r"] == 1.5
    file = tmp_path / "mine.toml"
    file.write_text(text, encoding="utf-8")
    changed = load_preset("demo", ["pull.tau_r=1.5"])
    assert load_preset(str(file)).digest == changed.digest
    assert changed.digest in text


def test_show_for_scripts() -> None:
    shown = json.loads(presets("show", "demo", "--json").stdout)
    assert shown["digest"] == load_preset("demo").digest
