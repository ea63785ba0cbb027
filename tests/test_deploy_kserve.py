"""KServe's objects in deploy/, held against rules written by hand after its published API."""

import re
from typing import Any

import kubernetes_validate

from tests.test_deploy import BRANCHES, CLAIMS, DEPLOY, KUBERNETES, documents

# KServe publishes no schema in a package that could be installed beside ours: these are its published fields.
STEP = {"name", "nodeName", "serviceName", "serviceUrl", "data", "weight", "condition", "dependency"}
TIMEOUTS = {"serverRead", "serverWrite", "serverIdle", "serviceClient"}
GRAPH = {"nodes", "routerTimeouts", "timeout", "minReplicas", "maxReplicas", "scaleMetric", "scaleTarget", "resources"}
PREDICTOR = {"minReplicas", "maxReplicas", "scaleMetric", "scaleTarget", "model"}
MODEL = {"modelFormat", "runtime", "protocolVersion", "storageUri", "resources", "args", "env"}
RUNTIME = {"supportedModelFormats", "protocolVersions", "containers"}


def test_objects_of_kserve_have_its_fields():
    kinds = {"InferenceService": "v1beta1", "InferenceGraph": "v1alpha1", "ServingRuntime": "v1alpha1"}
    for found in documents(*(DEPLOY / "kserve").glob("*.yaml")):
        assert found.keys() == {"apiVersion", "kind", "metadata", "spec"}
        assert found["apiVersion"] == f"serving.kserve.io/{kinds[found['kind']]}"
        assert re.fullmatch(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", found["metadata"]["name"])
        {"InferenceService": _service, "InferenceGraph": _graph, "ServingRuntime": _runtime}[found["kind"]](found)


def _service(found: dict[str, Any]) -> None:
    assert found["spec"].keys() == {"predictor"} and found["spec"]["predictor"].keys() <= PREDICTOR
    predictor, model = found["spec"]["predictor"], found["spec"]["predictor"]["model"]
    assert 0 <= predictor["minReplicas"] <= predictor["maxReplicas"] and model.keys() <= MODEL
    (runtime,) = [d for d in documents(DEPLOY / "kserve/committee.yaml") if d["kind"] == "ServingRuntime"]
    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]
    (known,) = runtime["spec"]["supportedModelFormats"]
    assert model["modelFormat"].items() <= known.items()
    scheme, claim, *folder = model["storageUri"].replace("pvc://", "pvc/").split("/")
    served = ["tf_serving", found["metadata"]["name"].replace("-", "_")]
    assert (scheme, folder) == ("pvc", served) and claim in CLAIMS and served[1] in [*BRANCHES, "committee"]


def _graph(found: dict[str, Any]) -> None:
    assert {"nodes"} <= found["spec"].keys() <= GRAPH and "root" in found["spec"]["nodes"]
    assert found["spec"]["routerTimeouts"].keys() <= TIMEOUTS
    services = {d["metadata"]["name"] for d in documents(DEPLOY / "kserve/graph.yaml") if d["kind"] != found["kind"]}
    for node in found["spec"]["nodes"].values():
        assert node.keys() == {"routerType", "steps"}
        assert node["routerType"] in {"Sequence", "Splitter", "Ensemble", "Switch"}
        for step in node["steps"]:
            assert step.keys() <= STEP and len(step.keys() & {"nodeName", "serviceName", "serviceUrl"}) == 1
            assert step["dependency"] in {"Soft", "Hard"} and step["serviceName"] in services
        assert [step["name"] for step in node["steps"]] == BRANCHES


def _runtime(found: dict[str, Any]) -> None:
    assert found["spec"].keys() == RUNTIME
    (only,) = found["spec"]["containers"]
    assert only["name"] == "kserve-container"
    holder = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "any"}, "spec": {"containers": [only]}}
    kubernetes_validate.validate(holder, KUBERNETES[-1], strict=True)
    ports = dict(word.lstrip("-").split("=") for word in only["args"])
    assert (ports["port"], ports["rest_api_port"]) == ("9000", "8080"), "where KServe looks for them"
