"""Log lines as JSON."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from pipeline import logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root, found = logging.getLogger(), io.StringIO()
    before = root.handlers[:]
    levels = {name: logging.getLogger(name).level for name in ("pipeline", "jobs", "supir_core")}
    yield found
    root.handlers[:] = before
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_has_the_run_and_the_photo_it_is_about(stream: io.StringIO) -> None:
    logs.set_up("json", "run-1", stream)
    log = logging.getLogger("pipeline.test")
    log.info("nothing yet")
    with logs.about("1910/été.jpg"):
        log.warning("%s is late", "it")
    first, second = lines(stream)
    assert "photo_id" not in first and (first["level"], first["run"], first["message"]) == (
        "info",
        "run-1",
        "nothing yet",
    )
    assert (second["photo_id"], second["message"], second["logger"]) == ("1910/été.jpg", "it is late", "pipeline.test")
    assert second["time"].endswith("+00:00")


def test_an_error_is_one_line_too(stream: io.StringIO) -> None:
    logs.set_up("json", "run-1", stream)
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        logging.getLogger("pipeline.test").error("a bug", exc_info=error, extra={"facts": {"left": 3}})
    (line,) = lines(stream)
    assert "ValueError: two\nlines" in line["traceback"] and line["left"] == 3


def test_what_is_written_for_people_becomes_lines(stream: io.StringIO) -> None:
    logs.set_up("json", "run-1", stream)
    console = Console(file=logs.LinesAsLog(logging.getLogger("jobs.run")), width=200)  # type: ignore[arg-type]
    console.print("note: one\n\ntwo")
    assert [line["message"] for line in lines(stream)] == ["note: one", "two"]


def test_set_up_again_replaces_and_text_changes_nothing(stream: io.StringIO) -> None:
    logs.set_up("text", "run-0", stream)
    logs.set_up("json", "run-1", stream)
    logs.set_up("json", "run-2", stream)
    logging.getLogger("pipeline.test").info("once")
    assert [line["run"] for line in lines(stream)] == ["run-2"]
