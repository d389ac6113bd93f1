"""`supir restore`: one photo, without Ray, with the demo networks at their smallest."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from jobs.cli import app
from tests.jobs.command import TINY, supir
from tests.pipeline.photographs import encoded, jpeg, picture, put


def restore(*words: object) -> Result:
    result = CliRunner().invoke(app, ["restore", *map(str, words), *TINY])
    assert result.exit_code == 0, result.output
    return result


def test_as_a_process_without_ray(tmp_path: Path) -> None:
    put(tmp_path, {"a [x].jpg": jpeg(), "a [x].txt": "A boy\nwith a dog."})
    done = supir("restore", tmp_path / "a [x].jpg", tmp_path / "out [x]" / "b.png", *TINY)
    assert done.returncode == 0, done.stderr
    assert "only ever seen drawn pictures" in done.stderr
    assert f"{tmp_path}/out [x]/b.png: 112x80" in done.stdout
    assert Image.open(tmp_path / "out [x]" / "b.png").size == (112, 80)


def test_grey_and_alpha_stay(tmp_path: Path) -> None:
    image = picture(32, 40).convert("L")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    put(tmp_path, {"a.png": encoded(image, "PNG")})
    restore(tmp_path / "a.png", tmp_path / "b.tif")
    with Image.open(tmp_path / "b.tif") as result:
        assert (result.format, result.mode, result.size) == ("TIFF", "LA", (80, 64))


@pytest.mark.parametrize(("options", "caption"), [([], "beside it"), (["--caption", "given"], "given")])
def test_for_scripts(tmp_path: Path, options: list[str], caption: str) -> None:
    put(tmp_path, {"a.jpg": jpeg(0, 32, 32), "a.jpg.txt": "beside it"})
    facts = json.loads(restore(tmp_path / "a.jpg", tmp_path / "b.JPG", "--json", *options).stdout)
    assert (facts["caption"], facts["width"], facts["height"]) == (caption, 64, 64)
    assert facts["image"] == str(tmp_path / "b.JPG")
    assert "drawn pictures" in facts["notice"]
    assert Image.open(tmp_path / "b.JPG").format == "JPEG"


def test_how_a_result_was_made_lies_beside_it_if_asked_for(tmp_path: Path) -> None:
    put(tmp_path, {"a.jpg": jpeg(0, 32, 32), "a.txt": "ein Dachs im Grünen"})
    restore(tmp_path / "a.jpg", tmp_path / "b.png")
    assert not (tmp_path / "b.png.json").exists()
    facts = json.loads(restore(tmp_path / "a.jpg", tmp_path / "b.png", "--sidecar", "--json").stdout)
    record = json.loads((tmp_path / "b.png.json").read_text(encoding="utf-8"))
    assert record == facts | {"finished_at": record["finished_at"]}
    assert record["source_sha256"] == hashlib.sha256((tmp_path / "a.jpg").read_bytes()).hexdigest()
    assert record["sha256"] == hashlib.sha256((tmp_path / "b.png").read_bytes()).hexdigest()
    assert (record["caption"], record["caption_source"]) == ("ein Dachs im Grünen", "sidecar")


@pytest.mark.usefixtures("cluster")
def test_one_photo_comes_out_as_in_a_run(tmp_path: Path) -> None:
    """To the byte: its randomness hangs on its content, not on its name or on what restores it."""
    put(tmp_path / "in", {"sub/a.jpg": jpeg(1, 32, 40), "sub/a.txt": "a garden"})
    put(tmp_path, {"another name.jpg": jpeg(1, 32, 40)})
    words = ["run", "-i", tmp_path / "in", "-o", tmp_path / "out", "--gpus-per-worker", "0", *TINY]
    assert CliRunner().invoke(app, [*map(str, words)]).exit_code == 0
    restore(tmp_path / "another name.jpg", tmp_path / "b.png", "--caption", "a garden")
    assert [path.read_bytes() for path in tmp_path.glob("out/images/**/*.png")] == [(tmp_path / "b.png").read_bytes()]
