"""The architecture as a test: who may import whom, and how long a module may be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PACKAGES = ("supir_core", "pipeline", "jobs")
MODULES = sorted(
    str(path.relative_to(REPOSITORY)) for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py")
)

MAY_NOT = {
    "supir_core": {"pipeline", "jobs", "ray", "typer", "fsspec", "rich", "duckdb", "pyarrow", "tests", "training"},
    "pipeline": {"jobs", "typer", "rich", "tests", "training"},
    "jobs": {"tests", "training", "fsspec", "pyarrow", "duckdb"},
}
ONLY_IN = {
    "ray": {
        "pipeline/flow.py",
        "pipeline/attempts.py",
        "pipeline/caption_stage.py",
        "pipeline/metrics.py",
        "pipeline/restore_stage.py",
        "pipeline/safeguard.py",
        "jobs/submit.py",
    },
    "fsspec": {"pipeline/storage.py"},
    "duckdb": {"pipeline/database.py", "pipeline/index.py"},
    "typer": {
        "jobs/cli.py",
        "jobs/cli_bench.py",
        "jobs/cli_index.py",
        "jobs/cli_jobs.py",
        "jobs/cli_looks.py",
        "jobs/cli_presets.py",
        "jobs/options.py",
    },
}
MAX_LINES = 400


def source(module: str) -> str:
    return (REPOSITORY / module).read_text(encoding="utf-8")


def imported(module: str) -> Iterator[str]:
    """Packages that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(source(module))):
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute"
            yield (node.module or "").partition(".")[0]


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_one_way(module: str) -> None:
    """jobs -> pipeline -> supir_core -> torch."""
    assert set(imported(module)) & MAY_NOT[module.partition("/")[0]] == set()


@pytest.mark.parametrize("package", ONLY_IN)
def test_what_is_imported_in_few_places_only(package: str) -> None:
    assert {module for module in MODULES if package in imported(module)} <= ONLY_IN[package]


@pytest.mark.parametrize("module", MODULES)
def test_no_module_is_long(module: str) -> None:
    assert len(source(module).splitlines()) <= MAX_LINES


@pytest.mark.parametrize("module", MODULES)
def test_nothing_prints(module: str) -> None:
    """Output goes through a console or a stream that is named."""
    calls = [node.func for node in ast.walk(ast.parse(source(module))) if isinstance(node, ast.Call)]
    assert not any(isinstance(call, ast.Name) and call.id == "print" for call in calls)


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is(module: str) -> None:
    assert ast.get_docstring(ast.parse(source(module)))
