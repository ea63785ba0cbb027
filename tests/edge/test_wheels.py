"""A worker in a process that can import only the packages of requirements-edge.txt and their dependencies."""

import json
import subprocess
import sys

import pytest

from tests.edge import exports, wheels, workers


@pytest.fixture
def device(tmp_path):
    return wheels.link(tmp_path)


def test_a_worker_needs_no_more_than_its_wheels(device, tmp_path_factory):
    path = exports.small(tmp_path_factory.mktemp("export"))
    environment = {"PYTHONPATH": str(device)}
    code = "import importlib.util as u, json, sys; json.dump([n for n in sys.argv[1:] if u.find_spec(n)], sys.stdout)"
    names = [
        "tensorflow",
        "keras",
        "sklearn",
        "pip",
        "numpy",
        "grpc",
        "ai_edge_litert",
        "PIL",
        "absl",
        "google.protobuf",
    ]
    seen = subprocess.run(
        [sys.executable, "-S", "-c", code, *names], env=environment, capture_output=True, text=True, check=True
    )
    assert json.loads(seen.stdout) == names[4:]
    words = [sys.executable, "-S", *workers.command(path)[1:]]
    with workers.running(path, env=environment, words=words) as worker:
        assert worker.infer({"image": exports.images(2)}).outputs["logits"].shape == (2, 3)
        assert worker.ask("GET", "/healthz")[0] == 200
