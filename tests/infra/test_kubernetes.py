"""KubeRay's templates against its CRDs, with no unknown key; pods and core objects against Kubernetes' schemas."""

from __future__ import annotations

import copy
import gzip
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import ray
import yaml

from tests.infra.templates import IMAGE, documents, open_doors, pod_templates, ray_cluster

CRDS = Path(__file__).parent / "crds"
KUBERAY = {"kuberay/raycluster.yaml": "rayclusters", "kuberay/rayjob.yaml": "rayjobs"}
KUBERNETES = "1.33"


def closed(schema: Any) -> Any:
    """The schema without room for keys that it does not name."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: closed(part) for name, part in schema.items()}
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    return made


def schema_of(plural: str) -> Any:
    crd = yaml.safe_load(gzip.decompress((CRDS / f"ray.io_{plural}.yaml.gz").read_bytes()))
    (version,) = (version for version in crd["spec"]["versions"] if version["name"] == "v1")
    schema = closed(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}  # Kubernetes' own; looked at as core objects are
    return schema


@pytest.fixture(scope="module", params=KUBERAY)
def template(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def schema(template: str) -> Any:
    return schema_of(KUBERAY[template])


def test_templates_are_what_kuberay_takes(template: str, schema: Any) -> None:
    (found,) = documents(template)
    jsonschema.Draft202012Validator(schema).validate(found)


def test_the_schema_sees_mistakes(template: str, schema: Any) -> None:
    (found,) = documents(template)
    for wrong in ({"gpuWorkers": 3}, {"rayVersion": 2.60}):
        other = copy.deepcopy(found)
        spec = other["spec"]["rayClusterSpec"] if other["kind"] == "RayJob" else other["spec"]
        spec.update(wrong)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.Draft202012Validator(schema).validate(other)


def test_pods_are_what_kubernetes_takes(template: str) -> None:
    for name, pod in pod_templates(ray_cluster(template)).items():
        made = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name} | pod["metadata"], "spec": pod["spec"]}
        kubernetes_validate.validate(made, KUBERNETES, strict=True)


def test_core_objects_are_what_kubernetes_takes() -> None:
    kinds = []
    for found in documents("kuberay/support.yaml"):
        kubernetes_validate.validate(found, KUBERNETES, strict=True)
        kinds.append(found["kind"])
    assert kinds == ["ServiceAccount", "Secret", "PersistentVolumeClaim", "NetworkPolicy"]
    wrong = documents("kuberay/support.yaml")[-1]
    wrong["spec"]["ingres"] = wrong["spec"].pop("ingress")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES, strict=True)


def test_gpu_workers_come_from_none_on_spot_nodes_and_read_their_weights_only(template: str) -> None:
    spec = ray_cluster(template)
    assert spec["enableInTreeAutoscaling"] and spec["rayVersion"] == ray.__version__
    (workers,) = spec["workerGroupSpecs"]
    assert (workers["replicas"], workers["minReplicas"]) == (0, 0) and workers["maxReplicas"] > 0
    pod = workers["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert any("spot" in toleration["key"] for toleration in pod["tolerations"])
    for template_ in pod_templates(spec).values():
        (container,) = template_["spec"]["containers"]
        (models,) = (mount for mount in container["volumeMounts"] if mount["name"] == "models")
        (volume,) = (volume for volume in template_["spec"]["volumes"] if volume["name"] == "models")
        assert models["readOnly"] and volume["persistentVolumeClaim"]["readOnly"]
        assert template_["spec"]["securityContext"]["runAsNonRoot"] and container["image"] == IMAGE
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_what_templates_refer_to_is_there(template: str) -> None:
    named = {(found["kind"], found["metadata"]["name"]) for found in documents("kuberay/support.yaml")}
    spec = ray_cluster(template)
    assert ("Secret", spec["authOptions"]["secretName"]) in named
    for pod in pod_templates(spec).values():
        assert ("ServiceAccount", pod["spec"]["serviceAccountName"]) in named
        for volume in pod["spec"]["volumes"]:
            if claim := volume.get("persistentVolumeClaim"):
                assert ("PersistentVolumeClaim", claim["claimName"]) in named


@pytest.mark.parametrize("path", [*KUBERAY, "aws/cluster.yaml"])
def test_nobody_without_a_token_reaches_the_jobs_api(path: str) -> None:
    assert list(open_doors(path)) == []


def test_open_doors_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.infra import templates

    for path, key, wrong in (
        ("kuberay/raycluster.yaml", "authOptions", {"mode": "disabled"}),
        ("aws/cluster.yaml", "head_start_ray_commands", ["ray start --head --dashboard-host=0.0.0.0"]),
    ):
        (found,) = documents(path)
        (found.get("spec", found) if key == "authOptions" else found)[key] = wrong
        monkeypatch.setattr(templates, "documents", lambda path, found=found: [found])
        assert list(open_doors(path))
        monkeypatch.undo()
