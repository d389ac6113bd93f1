"""Rules and dashboard ask for metrics that the code has; promtool takes the rules, and they do what they say."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import metrics
from tests.infra.templates import INFRA

MONITORING = INFRA / "monitoring"
RULES = MONITORING / "rules.yaml"


def dashboard() -> Any:
    return json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))


def queries() -> Iterator[str]:
    """Of every panel, variable and rule."""
    board = dashboard()
    for panel in board["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    yield from (variable["query"] for variable in board["templating"]["list"] if variable["type"] == "query")
    for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]:
        yield from (rule["expr"] for rule in group["rules"])


def named(query: str) -> set[str]:
    return set(re.findall(r"\bray_\w+", query))


def test_no_query_names_a_metric_that_the_code_has_not() -> None:
    exported = {name for metric in metrics.ALL for name in metric.exported()}
    for query in queries():
        assert named(query) or query.startswith("supir:"), query
        assert named(query) <= exported, query


def test_every_metric_is_shown() -> None:
    asked = {name for query in queries() for name in named(query)}
    assert [metric.name for metric in metrics.ALL if not metric.exported() & asked] == []


def test_queries_ask_for_labels_that_metrics_have() -> None:
    tags = {name: {*metric.tags, "le"} for metric in metrics.ALL for name in metric.exported()}
    for query in queries():
        for name, labels in re.findall(r"(ray_\w+)\{([^}]*)\}", query):
            assert set(re.findall(r"(\w+)=", labels)) <= tags[name], query
        for label in re.findall(r"by \((\w+)\)", query):
            assert all(label in tags[name] for name in named(query)), query


def test_recorded_rules_that_are_asked_for_are_there() -> None:
    rules = [rule for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]
    recorded = {rule["record"] for rule in rules if "record" in rule}
    assert {name for query in queries() for name in re.findall(r"supir:[\w:]+", query)} <= recorded
    assert all(rule["annotations"]["summary"] and rule["labels"]["severity"] for rule in rules if "alert" in rule)


def test_panels_do_not_overlap() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        own = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not own & cells and at["x"] + at["w"] <= 24
        cells |= own
        assert panel["description"] and panel["title"]


def promtool(*words: str | Path) -> str:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (infra/test-tools.sh installs it)")
    done = subprocess.run(["promtool", *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_takes_the_rules() -> None:
    assert "SUCCESS: 7 rules found" in promtool("check", "rules", RULES)


def test_rules_do_what_they_say() -> None:
    assert "SUCCESS" in promtool("test", "rules", Path(__file__).parent / "rules_test.yaml")
