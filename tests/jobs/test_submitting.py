"""What leaves this machine when a run is submitted: words, a wheel, small files; and no secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs import cli, secrecy, travel
from jobs.options import ProgressStyle, words_of
from jobs.submit import check_places
from supir_core.errors import InputError
from tests.jobs.command import supir


def words(**options: Any) -> list[str]:
    return words_of(cli.run, {"input_": "s3://a/b", "output": "s3://c/d", **options}, but=("address", "json_"))


def test_options_become_the_words_that_were_typed() -> None:
    assert words() == ["--input", "s3://a/b", "--output", "s3://c/d"]
    typed = words(
        settings=["pull.tau_r=1", "size.upscale=4"], redo=True, retry_failed=False, workers=8, gpus_per_worker=0.0,
        compiled=True, photo_timeout_s=60.0, progress=ProgressStyle.none, address="http://head:8265", json_=True,
    )  # fmt: skip
    assert typed[4:] == [
        "--set", "pull.tau_r=1", "--set", "size.upscale=4", "--redo", "--workers", "8", "--gpus-per-worker", "0.0",
        "--photo-timeout", "60.0", "--compile", "--progress", "none",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("option", "value"), [("input_", "scans"), ("output", "./out"), ("model", "weights"), ("input_", "~/scans")]
)
def test_places_that_nodes_cannot_find_are_refused(option: str, value: str) -> None:
    with pytest.raises(InputError, match="path of this machine") as error:
        check_places(words(**{option: value}))
    assert error.value.code == "local-path"
    check_places(words(model="demo"))
    check_places(words(model="/models/packed", input_="/shared/scans"))


@pytest.mark.parametrize(
    "word",
    [
        "https://user:hunter22@host/list.csv",
        "s3://key:hunter22@bucket/x",
        "https://host/list.csv?X-Amz-Signature=0a1b",
        "caption.endpoint=https://me:hunter22@host/v1",
        "x hunter22hunter22 y",
    ],
)
def test_secrets_are_refused_and_not_repeated(word: str) -> None:
    with pytest.raises(InputError) as error:
        secrecy.check(["--input", word], {"MY_SECRET": "hunter22hunter22", "HOME": "/root"})
    assert error.value.code == "secret-in-argument"
    assert "hunter22" not in str(error.value) + error.value.hint and "--input" in str(error.value)


def test_what_is_no_secret_travels() -> None:
    secrecy.check(
        [
            "--input",
            "s3://bucket/list.csv",
            "--set",
            "caption.endpoint=https://host/v1",
            "--set",
            "caption.endpoint_key=KEY",
        ],
        {"KEY": "short", "TOKEN_FILE": "", "USER": "s3://bucket/list.csv"},
    )


def test_the_wheel_of_this_checkout_is_unpacked(tmp_path: Path) -> None:
    folder = tmp_path / "package"
    folder.mkdir()
    wheel = travel.unpack_wheel(folder)
    assert wheel.name.startswith("supir-") and wheel.suffix == ".whl"
    for name in ("jobs/__main__.py", "pipeline/flow.py", "supir_core/presets/demo.toml"):
        assert (folder / name).is_file()
    assert not (folder / "tests").exists() and list(folder.glob("supir-*.dist-info"))


def test_small_files_travel_by_their_content(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("a\n")
    place = travel.take_along(str(tmp_path / "ids.txt"), tmp_path)
    assert (tmp_path / place).read_text() == "a\n" and place.startswith("submitted/") and place.endswith(".txt")
    assert travel.take_along(str(tmp_path / "ids.txt"), tmp_path) == place
    with pytest.raises(InputError) as error:
        travel.take_along(str(tmp_path / "nothing.toml"), tmp_path)
    assert error.value.code == "not-found"


def test_without_an_address_or_with_nobody_there() -> None:
    done = supir("jobs", "list")
    assert done.returncode == 2 and done.stderr.startswith("error[address]") and "SUPIR_ADDRESS" in done.stderr
    done = supir("submit", "-i", "s3://a/b", "-o", "s3://c/d", SUPIR_ADDRESS="http://127.0.0.1:9")
    assert done.returncode == 2 and done.stderr.startswith("error[cluster]"), done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""
