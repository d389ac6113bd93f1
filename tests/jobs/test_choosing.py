"""`supir compare`, `supir select` and the curves of presets: what people choose a look by."""

from __future__ import annotations

import csv
import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from jobs.cli import app
from pipeline.index import IndexWriter
from pipeline.storage import Store
from supir_core.presets import derive, load_preset
from tests.pipeline.photographs import encoded, jpeg, picture, put
from tests.pipeline.runs import settings_for

LOOKS = [derive(load_preset("demo"), [f"pull.tau_r={tau_r}"]) for tau_r in ("4", "0.5", "off")]
DB = {4.0: 27.0, 0.5: 31.0, None: 22.0}


def fill(store: Store, source: Path, photos: dict[str, float]) -> None:
    """Three looks of photos; the numbers are added to how close each is."""
    put(source, {name: jpeg(n) for n, name in enumerate(photos)})
    settings = settings_for(source, store.uri(), presets=tuple(LOOKS))
    settings.save(store)
    with IndexWriter(store, settings.run) as writer:
        for seed, (name, more) in enumerate(photos.items()):
            for look in LOOKS:
                image = f"images/{look.folder}/{name}.png"
                store.write(image, encoded(picture(80, 112, seed), "PNG"))
                writer.append(
                    [
                        {"photo_id": name, "path": name, "status": "restored", "image": image, "format": "png",
                         "preset": look.name, "preset_digest": look.digest, "tau_r": look.pull.tau_r,
                         "fidelity_db": DB[look.pull.tau_r] + more, "fidelity_de": 1.5, "run": settings.run,
                         "source_uri": str(source / name), "finished_at": datetime.datetime.now(datetime.UTC)}
                    ]
                )  # fmt: skip


@pytest.fixture
def output(tmp_path: Path) -> Path:
    fill(Store(str(tmp_path / "out")), tmp_path / "in", {"a.jpg": 0.0, "sub [x]/it's.jpg": -6.0, "c.jpg": -20.0})
    return tmp_path / "out"


def supir(*words: object) -> Result:
    return CliRunner().invoke(app, list(map(str, words)))


def facts(*words: object) -> Any:
    result = supir(*words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def chosen(folder: Path) -> dict[str, str]:
    """tau_r by photo, as the list says."""
    with (folder / "selection.csv").open(encoding="utf-8", newline="") as lines:
        return {line["photo_id"]: line["tau_r"] for line in csv.DictReader(lines)}


@pytest.mark.parametrize(
    ("rule", "expected", "without"),
    [
        ("fidelity_db > 24 order by fidelity_db", {"a.jpg": "4.0", "sub [x]/it's.jpg": "0.5"}, 1),
        ("true", {"a.jpg": "0.5", "sub [x]/it's.jpg": "0.5", "c.jpg": "0.5"}, 0),
        ("TRUE ORDER  BY tau_r desc nulls first", {"a.jpg": "", "sub [x]/it's.jpg": "", "c.jpg": ""}, 0),
        ("photo_id = 'none'", {}, 3),
    ],
)
def test_a_rule_chooses_one_look_of_every_photo(
    output: Path, tmp_path: Path, rule: str, expected: dict[str, str], without: int
) -> None:
    said = facts("select", output, "--rule", rule, "--to", tmp_path / "chosen")
    assert (said["chosen"], said["without"], sum(said["looks"].values())) == (len(expected), without, len(expected))
    assert chosen(tmp_path / "chosen") == expected
    files = {str(path.relative_to(tmp_path / "chosen")) for path in (tmp_path / "chosen").rglob("*.png")}
    assert files == {f"{name}.png" for name in expected}
    for name in files:
        assert not (tmp_path / "chosen" / name).is_symlink()
        Image.open(tmp_path / "chosen" / name).load()


def test_links_dry_runs_and_a_second_choice(output: Path, tmp_path: Path) -> None:
    to = tmp_path / "chosen"
    dry = supir("select", output, "--rule", "true", "--to", to, "--dry-run")
    assert dry.exit_code == 0 and "nothing was copied" in dry.stdout and not to.exists()
    facts("select", output, "--rule", "true", "--to", to)
    linked = supir("select", output, "--rule", "tau_r = 4", "--to", to, "--link")
    assert f"3  {LOOKS[0].folder}" in linked.stdout and f"{to}: 3 pictures" in linked.stdout
    assert (to / "a.jpg.png").resolve() == output / f"images/{LOOKS[0].folder}/a.jpg.png"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--rule", "no_column = 1", "--to", "chosen"], "sql"),
        (["--rule", "true", "--to", "out/chosen"], "output-in-input"),
        (["--rule", "true", "--to", "memory://chosen", "--link"], "input"),
    ],
)
def test_choices_that_cannot_be(output: Path, tmp_path: Path, words: list[str], code: str) -> None:
    words = [str(tmp_path / word) if "chosen" in word and ":" not in word else word for word in words]
    result = supir("select", output, *words)
    assert result.exit_code == 2 and result.stderr.startswith(f"error[{code}]: ") and "\nhint: " in result.stderr


def test_a_picture_that_is_gone_is_named(output: Path, tmp_path: Path) -> None:
    (output / f"images/{LOOKS[1].folder}/a.jpg.png").unlink()
    result = supir("select", output, "--rule", "true", "--to", tmp_path / "chosen")
    assert result.exit_code == 2 and result.stderr.startswith("error[not-found]: ") and "a.jpg.png" in result.stderr


def test_a_sheet_shows_the_photo_and_its_looks_from_the_strongest_pull_to_none(output: Path, tmp_path: Path) -> None:
    said = facts("compare", output, "--photo", "sub [x]/it's.jpg")
    assert said["sheet"] == str(output / "sheets/sub [x]/it's.jpg.png")
    original, *looks = said["looks"]
    assert original[:2] == ["sub [x]/it's.jpg", "the photo"]
    assert [look[0] for look in looks] == ["demo  tau_r 0.5", "demo  tau_r 4", "demo  tau_r off"]
    assert looks[0][1] == "25.0 dB, colours 1.5 dE"
    sheet = np.asarray(Image.open(said["sheet"]))
    assert sheet.shape[1] > 4 * 400 and len(np.unique(sheet.reshape(-1, 3), axis=0)) > 100

    (tmp_path / "in" / "a.jpg").unlink()
    result = supir("compare", output, "--photo", "a.jpg", "--to", tmp_path / "a.jpg")
    assert result.exit_code == 0 and "the photo" not in result.stdout and "31.0 dB" in result.stdout
    assert Image.open(tmp_path / "a.jpg").format == "JPEG"


@pytest.mark.parametrize(
    ("words", "code"),
    [(["--photo", "none.jpg"], "no-photos"), (["--photo", "a.jpg", "--to", "sheet.gif"], "format")],
)
def test_sheets_that_cannot_be(output: Path, words: list[str], code: str) -> None:
    result = supir("compare", output, *words)
    assert result.exit_code == 2 and result.stderr.startswith(f"error[{code}]: ")


def test_curves(tmp_path: Path) -> None:
    steps = facts("presets", "curve", "paper", "published-quality", "demo", "--to", tmp_path / "curves.png")
    assert [(curve["preset"], curve["tau_r"], len(curve["steps"])) for curve in steps] == [
        ("paper", "4", 100),
        ("published-quality", "off", 50),
        ("demo", "0.5", 8),
    ]
    drawn = np.asarray(Image.open(tmp_path / "curves.png"))
    assert all((drawn == colour).all(axis=-1).sum() > 500 for colour in ([31, 119, 180], [214, 39, 40], [44, 160, 44]))
    text = supir("presets", "curve", "demo", "--set", "pull.tau_r=2").stdout
    assert "demo: tau_r 2, euler, 8 steps" in text and "A LARGER tau_r is a WEAKER pull" in text
    assert "   1  14.615  1.000 " + 50 * "#" in text.splitlines()
    refused = supir("presets", "curve", "demo", "--to", tmp_path / "curve.gif")
    assert refused.exit_code == 2 and refused.stderr.startswith("error[format]: ")


def test_what_sets_presets_apart() -> None:
    apart = facts("presets", "diff", "faithful", "faithful-lightning")
    assert apart["sampling.sampler"] == ["euler", "dpmpp"] and apart["sampling.num_steps"] == [50, 8]
    assert "pull.fidelity" not in apart and "text.positive" not in apart
    text = supir("presets", "diff", "paper", "demo").stdout
    assert "pull.tau_r" in text and "LARGER is WEAKER" in text
    assert "are one look" in supir("presets", "diff", "demo", "demo").stdout


def test_a_preset_with_a_fidelity_shows_what_it_comes_to(tmp_path: Path) -> None:
    look = load_preset("faithful")
    for words in (["faithful"], ["faithful", "--set", "sampling.seed=3"]):
        text = supir("presets", "show", *words).stdout
        assert f"# tau_r {look.pull.tau_r}" in text and "fidelity = 0.8" in text and "\ntau_r" not in text
        (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
        assert load_preset(str(tmp_path / "mine.toml")).pull == look.pull
