"""A worker in a process that sees nothing but the wheels of requirements-edge.txt and what these bring along."""

import importlib.metadata
import json
import re
import subprocess
import sys

import pytest

from tests.edge import exports, workers


def wheels() -> set[str]:
    """Names of all distributions that pip installs here from requirements-edge.txt."""
    lines = (workers.ROOT / "requirements-edge.txt").read_text().splitlines()
    left, found = [line.split("==")[0] for line in lines if "==" in line], set()
    while left:
        name = left.pop().lower()
        if name in found or name == "colorama":  # which only Windows wants
            continue
        found.add(name)
        wanted = importlib.metadata.requires(name) or []
        left += [re.split(r"[^\w.-]", line)[0] for line in wanted if "extra ==" not in line]
    return found


@pytest.fixture
def device(tmp_path):
    """A folder of links to these wheels alone."""
    for name in wheels():
        found = importlib.metadata.distribution(name)
        for top in {file.parts[0] for file in found.files if file.parts[0] not in ("..", "__pycache__")}:
            link = tmp_path / top
            if not link.exists():
                link.symlink_to(found.locate_file(top))
    return tmp_path


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
