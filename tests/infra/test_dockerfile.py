"""The image: two stages, nobody is root, what is installed is pinned, and the pins fit the project."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

from supir_core import __version__
from tests.infra.templates import IMAGE, INFRA

REPOSITORY = INFRA.parent


def steps() -> list[tuple[str, str]]:
    """Instruction and arguments, with continued lines joined."""
    text = (INFRA / "Dockerfile").read_text(encoding="utf-8")
    lines = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    found = [line.split(None, 1) for line in lines if line.strip()]
    return [(word, rest) for word, rest in found]


def pins() -> dict[str, str]:
    lines = (INFRA / "constraints.txt").read_text(encoding="utf-8").splitlines()
    named = [re.fullmatch(r"([\w.-]+)==([\w.]+)", line) for line in lines if not line.startswith("#")]
    assert all(named), "versions only"
    return {found[1].lower().replace("_", "-"): found[2] for found in named if found}


def test_it_is_built_in_one_stage_and_runs_in_another() -> None:
    stages = [rest for word, rest in steps() if word == "FROM"]
    assert [stage.rpartition(" AS ")[2] for stage in stages] == ["build", "run"]
    arguments = dict(rest.split("=") for word, rest in steps() if word == "ARG")
    for stage in stages:
        assert stage.startswith("nvidia/cuda:") and "latest" not in stage
        assert all(name in arguments for name in re.findall(r"\$\{(\w+)\}", stage))
    assert all(re.fullmatch(r"\d+(\.\d+)+", version) for version in arguments.values())


def test_nobody_in_it_is_root() -> None:
    after = [word for word, _ in steps()]
    users = [rest for word, rest in steps() if word == "USER"]
    assert [int(user) for user in users] == [1001]
    assert "RUN" not in after[after.index("USER") :] and "COPY" not in after[after.index("USER") :]


def test_everything_that_is_installed_is_pinned() -> None:
    installs = [rest for word, rest in steps() if word == "RUN" and "pip install" in rest]
    assert len(installs) == 2 and all("--constraint constraints.txt" in rest for rest in installs)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for requirement in map(Requirement, project["dependencies"]):
        pinned = pins().get(requirement.name.lower().replace("_", "-"))
        assert pinned is not None, f"{requirement.name} is not in infra/constraints.txt"
        assert requirement.specifier.contains(pinned), f"{requirement} is pinned to {pinned}"


def test_it_has_what_rays_launcher_runs_in_it() -> None:
    """The autoscaler on the head asks EC2 for nodes and reaches them by ssh; files come into containers by rsync."""
    installed = " ".join(rest for word, rest in steps() if word == "RUN")
    assert {"rsync", "openssh-client", "boto3"} <= set(installed.split())
    assert pins()["boto3"] == pins()["botocore"]


def test_what_it_copies_is_there() -> None:
    for word, rest in steps():
        if word == "COPY" and "--from" not in rest:
            *sources, _ = rest.split()
            assert [source for source in sources if not (REPOSITORY / source).exists()] == []


def test_templates_name_this_version() -> None:
    assert IMAGE.endswith(f":{__version__}")
    assert f"supir:{__version__} ." in Path(INFRA / "Dockerfile").read_text(encoding="utf-8")
