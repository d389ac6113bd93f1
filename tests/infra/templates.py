"""The templates of infra/, and who they let in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

INFRA = Path(__file__).parents[2] / "infra"
IMAGE = "YOUR-REGISTRY/supir:0.1.0"
LOOPBACK = ("127.0.0.1", "localhost")


def documents(path: str) -> list[dict[str, Any]]:
    """The objects of a YAML file."""
    return list(yaml.safe_load_all((INFRA / path).read_text(encoding="utf-8")))


def ray_cluster(path: str) -> dict[str, Any]:
    """The cluster's specification in a template of KubeRay."""
    (found,) = documents(path)
    spec: dict[str, Any] = found["spec"]
    return spec["rayClusterSpec"] if found["kind"] == "RayJob" else spec


def pod_templates(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By the group's name."""
    workers = {group["groupName"]: group["template"] for group in spec["workerGroupSpecs"]}
    return {"head": spec["headGroupSpec"]["template"], **workers}


def open_doors(path: str) -> Iterator[str]:
    """What in a template has the Jobs API listen beyond the loopback without asking for a token."""
    for found in documents(path):
        if found.get("kind") in ("RayCluster", "RayJob"):
            spec = ray_cluster(path)
            host = spec["headGroupSpec"]["rayStartParams"].get("dashboard-host", "0.0.0.0")  # KubeRay's own default
            if host not in LOOPBACK and spec.get("authOptions", {}).get("mode") != "token":
                yield f"dashboard-host: {host}"
        for command in found.get("head_start_ray_commands", []):
            for host in re.findall(r"--dashboard-host[= ](\S+)", command):
                if host not in LOOPBACK and "RAY_AUTH_MODE=token" not in command:
                    yield command
