"""README holds the map and the error codes; both are compared with the code.

`## The map`: in fenced blocks, every module of the three packages as `supir_core/restorer.py` (packages' `__init__.py`
left out), and every top-level folder at the beginning of a line as `tests/` (hidden folders may be left out).
`## Error codes`: a table whose first column is the code in backquotes: `| `empty` | ... |`.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.meta.test_imports import MODULES, PACKAGES, REPOSITORY, source


def section(title: str) -> str:
    """The text below a heading of the second level."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"README has no section ## {title}"
    return found[1]


def fenced(text: str) -> str:
    return "\n".join(re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL))


def test_the_map_names_every_module_once() -> None:
    named = re.findall(rf"(?<![\w/])(?:{'|'.join(PACKAGES)})/[\w/]+\.py\b", fenced(section("The map")))
    assert sorted(named) == [module for module in MODULES if not module.endswith("__init__.py")]


def test_the_map_names_every_folder() -> None:
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    files = [line for line in listing.stdout.splitlines() if (REPOSITORY / line).exists()]
    folders = {line.partition("/")[0] for line in files if "/" in line}
    named = set(re.findall(r"^(\.?[\w-]+)/(?=\s|$)", fenced(section("The map")), re.MULTILINE))
    assert named <= folders
    assert {folder for folder in folders if not folder.startswith(".")} <= named


def strings(node: ast.AST) -> Iterator[str]:
    """Text that an expression may stand for: a constant, either branch of a condition, a value of a dict."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from strings(node.body)
        yield from strings(node.orelse)


def codes_of(module: str) -> Iterator[str]:
    """Codes that a module gives to errors: `code=` in a call, `code =` in a class or function, explanations."""
    for node in ast.walk(ast.parse(source(module))):
        if isinstance(node, ast.keyword) and node.arg == "code":
            yield from strings(node.value)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name) and target.id == "code":
                    yield from strings(node.value)
                elif isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    pairs = zip(target.elts, node.value.elts, strict=True)
                    yield from (text for name, value in pairs if ast.unparse(name) == "code" for text in strings(value))
        elif isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "_EXPLANATIONS":
            assert isinstance(node.value, ast.List)
            for entry in node.value.elts:
                assert isinstance(entry, ast.Tuple)
                yield from strings(entry.elts[1])


def all_codes() -> set[str]:
    return {code for module in MODULES for code in codes_of(module)} - {"supir"}  # the root is never raised


def test_codes_are_found() -> None:
    expected = {"empty", "damaged", "corrupt", "worker-crashed", "internal-error", "out-of-memory", "not-found"}
    assert expected <= all_codes()
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", code) for code in all_codes())


def test_every_error_code_is_documented_and_no_other() -> None:
    documented = re.findall(r"^\|\s*`([a-z-]+)`\s*\|", section("Error codes"), re.MULTILINE)
    assert sorted(documented) == sorted(all_codes())
