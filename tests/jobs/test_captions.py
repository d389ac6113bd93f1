"""Captions on the command line: asked for, exported, edited, imported, measured."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from jobs.cli import app
from pipeline.index import IndexWriter
from pipeline.storage import Store
from tests.core.tiny_captioners import write
from tests.jobs.command import TINY, supir
from tests.pipeline.caption_server import Server, said
from tests.pipeline.photographs import jpeg, put
from tests.pipeline.test_embedded import exif, file

PEOPLE = [
    {"photo_id": "a.jpg", "caption": "A  street,\n1910", "caption_source": "column"},
    {"photo_id": 'b "x", y.jpg', "caption": "", "caption_source": "none"},
    {"photo_id": "c.jpg", "caption": "a prompt", "caption_source": "prompt"},
    {"photo_id": "d.jpg", "caption": "Ein Hafen – größer", "caption_source": "vlm", "caption_digest": "0123456789ab"},
]


def invoke(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """An index of four photos."""
    with IndexWriter(Store(str(tmp_path / "out")), "r") as writer:
        now = datetime.now(UTC)
        writer.append({"status": "restored", "preset_digest": "p", "finished_at": now, **row} for row in PEOPLE)
    return tmp_path / "out"


def exported(output: Path) -> list[dict[str, str]]:
    result = invoke("captions", output, "--export", "-")
    assert result.exit_code == 0, result.output
    return list(csv.DictReader(io.StringIO(result.stdout)))


def test_out_edited_and_back_in(output: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "captions.csv"
    assert "4 captions are in" in invoke("captions", output, "--export", sheet).stdout
    rows = list(csv.DictReader(io.StringIO(sheet.read_text(encoding="utf-8-sig"))))
    assert [row["photo_id"] for row in rows] == ["a.jpg", 'b "x", y.jpg', "c.jpg", "d.jpg"]
    assert rows[3]["caption"] == "Ein Hafen – größer" and rows[3]["digest"] == "0123456789ab"

    unchanged = invoke("captions", output, "--import", sheet, "--json")
    assert json.loads(unchanged.stdout) == {"imported": 0, "unchanged": 4}
    assert not (output / "captions").exists()

    put(tmp_path, {"captions.csv": 'photo_id,caption\n"b ""x"", y.jpg","Aunt Emma,\n 1911"\nd.jpg,\n'})
    assert "2 captions are new; the next supir run" in invoke("captions", output, "--import", sheet).stdout
    after = {row["photo_id"]: (row["caption"], row["source"]) for row in exported(output)}
    assert after['b "x", y.jpg'] == ("Aunt Emma, 1911", "edited") and after["d.jpg"] == ("", "edited")
    assert after["a.jpg"] == ("A  street,\n1910", "column")
    assert json.loads(invoke("captions", output, "--import", sheet, "--json").stdout)["imported"] == 0


@pytest.mark.parametrize(
    ("delimiter", "encoding"), [(";", "utf-8-sig"), ("\t", "utf-16"), (",", "utf-8"), (";", "utf-16-le")]
)
def test_as_spreadsheets_write_it(output: Path, delimiter: str, encoding: str) -> None:
    lines = [["photo_id", "caption"], ["d.jpg", "Ein Hafen; größer, tiefer"]]
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows(lines)
    sheet, mark = output.parent / "captions.csv", "\ufeff" if encoding == "utf-16-le" else ""
    sheet.write_bytes((mark + text.getvalue()).encode(encoding))
    assert json.loads(invoke("captions", output, "--import", sheet, "--json").stdout)["imported"] == 1
    assert exported(output)[3]["caption"] == "Ein Hafen; größer, tiefer"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("photo_id,caption\nz.jpg,Z\n", "photos that are not in"),
        ("photo_id,caption\nc.jpg,other\n", "photos that have a prompt"),
        ("id,words\na.jpg,A\n", "lacks the columns photo_id and caption"),
        ("photo_id,caption\na.jpg,A\na.jpg,B\n", "two captions of 'a.jpg'"),
        ("photo_id,caption\na.jpg,\udcff", "no CSV file in UTF-8"),
        ("photo_id,caption\na.jpg\n", "line 2 of"),
        ("photo_id,caption,source\na.jpg,hello, world, here,vlm\n", "more or fewer fields"),
        ("photo_id,caption\na.jpg,a\0b\n", "is no text"),
        ("", "lacks the columns"),
    ],
)
def test_a_file_that_is_not_of_this_output_is_refused_whole(output: Path, text: str, said: str) -> None:
    sheet = output.parent / "captions.csv"
    sheet.write_bytes(text.encode("utf-8", "surrogateescape"))
    result = invoke("captions", output, "--import", sheet)
    assert result.exit_code == 2 and "error[captions-file]" in result.stderr and said in result.stderr
    assert not (output / "captions").exists()


def test_from_and_to_a_pipe(output: Path) -> None:
    given = CliRunner().invoke(
        app, ["captions", str(output), "--import", "-", "--json"], input="photo_id,caption\nd.jpg,D\n"
    )
    assert json.loads(given.stdout)["imported"] == 1
    assert "prints captions, not JSON" in invoke("captions", output, "--export", "-", "--json").stderr


def test_a_server_that_refuses_ends_a_run_before_it_begins(tmp_path: Path, server: Server) -> None:
    put(tmp_path / "in", {"a.jpg": jpeg(1), "b.jpg": jpeg(2)})
    words = ["-i", tmp_path / "in", "-o", tmp_path / "out", *TINY, "--set", f"caption.endpoint={server.url}"]
    words += ["--set", "caption.endpoint_model=m", "--set", "caption.input=photo", "--gpus-per-worker", 0]
    server.script = lambda n: 401
    refused = invoke("run", *words)
    assert refused.exit_code == 2 and "error[caption-endpoint]" in refused.stderr and "401" in refused.stderr
    assert len(server.requests) == 1 and not list((tmp_path / "out").rglob("run.json"))


@pytest.mark.usefixtures("cluster")
def test_captions_that_could_not_be_had_are_counted_and_tried_again(tmp_path: Path, server: Server) -> None:
    put(tmp_path / "in", {"a.jpg": jpeg(1), "b.jpg": jpeg(2)})
    words = ["run", "-i", tmp_path / "in", "-o", tmp_path / "out", *TINY, "--set", f"caption.endpoint={server.url}"]
    words += ["--set", "caption.endpoint_model=m", "--set", "caption.input=photo", "--gpus-per-worker", 0, "--json"]
    server.script = lambda n: said("Grey.") if n == 1 else 404
    first = json.loads(invoke(*words).stdout)
    assert (first["restored"], first["captions_lost"]) == (2, 2)
    server.script = lambda n: 400  # has nothing to say of these pictures
    second = json.loads(invoke(*words, "--retry-captions").stdout)
    assert (second["todo"], second["restored"], second["kept"], second["captions_lost"]) == (2, 0, 2, 2)
    server.script = lambda n: said("A street.")
    third = json.loads(invoke(*words, "--retry-captions").stdout)
    assert (third["restored"], third["kept"], third["captions_lost"]) == (2, 0, 0)
    fourth = json.loads(invoke(*words, "--retry-captions").stdout)
    assert (fourth["todo"], fourth["restored_before"]) == (0, 2)


def test_one_of_both_is_wanted(output: Path, tmp_path: Path) -> None:
    assert "give either --export FILE or --import FILE" in invoke("captions", output).stderr
    assert invoke("captions", tmp_path / "nothing", "--export", "-").exit_code == 2


def test_a_model_that_does_not_load_ends_the_run_with_one_line(tmp_path: Path) -> None:
    model = write("llava", tmp_path / "llava")
    (model / "tokenizer.json").unlink()
    put(tmp_path / "in", {"a.jpg": jpeg(1)})
    words = ["--set", f"caption.model={model}", "--set", "caption.gpus=0", "--gpus-per-worker", 0, *TINY]
    result = supir("run", "-i", tmp_path / "in", "-o", tmp_path / "out", *words)
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert "\nerror[captioner-processor]: " in result.stderr


@pytest.mark.usefixtures("cluster")
def test_from_three_sources_to_an_edited_one(tmp_path: Path) -> None:
    """The whole way: a caption file, the photo's own, a real model; then people change one."""
    model = write("llava", tmp_path / "llava")
    put(tmp_path / "in", {"a.jpg": jpeg(1), "a.txt": "A boy with a dog.", "c.jpg": jpeg(3)})
    put(tmp_path / "in", {"b.jpg": file(exif=exif("The harbour")).getvalue()})
    run = ["run", "-i", tmp_path / "in", "-o", tmp_path / "out", "--gpus-per-worker", 0, "--json", *TINY]
    run += ["--set", f"caption.model={model}", "--set", "caption.max_tokens=6", "--set", "caption.gpus=0"]
    done = invoke(*run)
    assert done.exit_code == 0, done.output
    before = exported(tmp_path / "out")
    assert [row["source"] for row in before] == ["sidecar", "embedded", "vlm"]
    assert [row["caption"] for row in before][:2] == ["A boy with a dog.", "The harbour"] and before[2]["caption"]

    put(tmp_path, {"captions.csv": "photo_id,caption\nc.jpg,A bridge\n"})
    assert invoke("captions", tmp_path / "out", "--import", tmp_path / "captions.csv").exit_code == 0
    again = json.loads(invoke(*run).stdout)
    assert (again["todo"], again["restored_before"]) == (1, 2)
    assert [row["source"] for row in exported(tmp_path / "out")] == ["sidecar", "embedded", "edited"]


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        (["caption.sauce=vlm"], "caption-setting"),
        (["caption.model=./nothing"], "weights-not-found"),
        (["caption.endpoint=ftp://x", "caption.endpoint_model=m"], "caption-endpoint"),
    ],
)
def test_what_cannot_be_is_said_before_anything_starts(tmp_path: Path, settings: list[str], code: str) -> None:
    put(tmp_path / "in", {"a.jpg": jpeg(1)})
    words = [word for setting in settings for word in ("--set", setting)]
    result = invoke("run", "-i", tmp_path / "in", "-o", tmp_path / "out", *TINY, *words)
    assert result.exit_code == 2 and f"error[{code}]" in result.stderr


def test_one_photo_has_the_captions_of_people(tmp_path: Path) -> None:
    put(tmp_path, {"a.jpg": file(exif=exif("The harbour")).getvalue()})
    result = invoke("restore", tmp_path / "a.jpg", tmp_path / "b.png", "--json", *TINY)
    assert json.loads(result.stdout)["caption"] == "The harbour"
    refused = invoke("restore", tmp_path / "a.jpg", tmp_path / "b.png", "--set", "caption.model=x", *TINY)
    assert refused.exit_code == 2 and "asks no captioning model" in refused.stderr


def test_bench(tmp_path: Path) -> None:
    model = write("llava", tmp_path / "llava")
    result = invoke("bench", "captions", model, "--pictures", 3, "--batch", 1, "--batch", 3, "--max-tokens", 4)
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout.splitlines()[-1])
    assert [row["batch"] for row in facts["batches"]] == [1, 3] and facts["weights_mb"] >= 0
    assert all(row["pictures_per_s"] > 0 and row["tokens_per_s"] > 0 and row["peak_mb"] > 0 for row in facts["batches"])
