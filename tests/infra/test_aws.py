"""The launcher's template: Ray's schema and checks, and what EC2 says a node may be."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import botocore.session
import jsonschema
import pytest
import ray
from botocore.validate import ParamValidator
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.infra.templates import IMAGE, INFRA, documents


@pytest.fixture
def cluster() -> dict[str, Any]:
    (found,) = documents("aws/cluster.yaml")
    return found


def test_ray_takes_it(cluster: dict[str, Any]) -> None:
    schema = json.loads((Path(ray.__file__).parent / "autoscaler/ray-schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(cluster, schema)
    validate_config(prepare_config(copy.deepcopy(cluster)))
    cluster["min_worker"] = 3
    with pytest.raises(jsonschema.ValidationError):
        validate_config(prepare_config(cluster))


def instances(node: dict[str, Any]) -> str:
    """What EC2's own description of RunInstances says against a node; empty if nothing."""
    model = botocore.session.get_session().get_service_model("ec2")
    asked = {"MinCount": 1, "MaxCount": 1, **node}
    report = ParamValidator().validate(asked, model.operation_model("RunInstances").input_shape)
    return str(report.generate_report())


def test_ec2_takes_its_nodes(cluster: dict[str, Any]) -> None:
    for node in cluster["available_node_types"].values():
        assert instances(node["node_config"]) == ""
    assert "Unknown parameter" in instances({"InstanceKind": "m7i.xlarge"})


def test_gpu_nodes_come_from_none_on_the_spot_market(cluster: dict[str, Any]) -> None:
    gpu = cluster["available_node_types"]["gpu-spot"]
    assert gpu["min_workers"] == 0 and gpu["max_workers"] == cluster["max_workers"]
    assert gpu["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert cluster["available_node_types"]["head"]["resources"] == {"CPU": 0}
    assert cluster["docker"]["image"] == IMAGE
    assert "RAY_AUTH_MODE=token" in (INFRA / "Dockerfile").read_text(encoding="utf-8")
    assert cluster["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"  # without which its nodes do not start
    assert not re.search("0\\.0\\.0\\.0", json.dumps(cluster))
