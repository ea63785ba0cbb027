"""The package: what `import dico_tf` gives, what each extra installs, and the wheel in an environment of its own."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import dico_tf
from dico_tf import extras, recipes
from dico_tf.cli import __main__
from tests.edge import exports, wheels, workers
from tests.test_layout import pins

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Code for a process in which neither TensorFlow nor what belongs to it can be imported.
WITHOUT_TENSORFLOW = "import sys; sys.modules.update(dict.fromkeys(['tensorflow', 'keras', 'keras_cv', 'tqdm']))\n"
DISTRIBUTIONS = {"sklearn": "scikit-learn", "keras_cv": "keras-cv", "tensorflow_datasets": "tensorflow-datasets"}


def requirements(extra: str = "") -> dict[str, Requirement]:
    lines = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    return {canonicalize_name(Requirement(line).name): Requirement(line) for line in lines}


def test_the_public_names_are_what_they_are_called():
    from dico_tf.cotrain.dico import DiCo
    from dico_tf.divide.networks.division import divide_model
    from dico_tf.edge.client import Client

    assert (dico_tf.DiCo, dico_tf.divide_model, dico_tf.Client) == (DiCo, divide_model, Client)
    assert set(dico_tf.__all__) == {"Client", "DiCo", "__version__", "divide_model"} <= set(dir(dico_tf))
    assert dico_tf.__version__ == PROJECT["version"]
    with pytest.raises(AttributeError, match="'dico_tf' has no attribute 'Dico'"):
        dico_tf.Dico  # noqa: B018


def test_the_client_and_every_help_need_no_tensorflow():
    code = f"""{WITHOUT_TENSORFLOW}
import importlib
import dico_tf
assert not {{"numpy", "grpc", "absl"}} & set(sys.modules)
from dico_tf import Client, flags
try:
    from dico_tf import DiCo
except ImportError as error:
    assert str(error).endswith('is not installed: pip install "dico_tf[train]"'), error
else:
    raise SystemExit("DiCo was imported")
for name in {list(__main__.COMMANDS)}:
    try:
        importlib.import_module("dico_tf.cli." + name).main(["--help"])
    except flags.Help as text:
        assert "usage: dico " + name in str(text)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_base_is_the_edge_and_training_the_rest():
    edge, pinned = pins("requirements-edge.txt"), pins("requirements.txt")
    assert requirements().keys() == edge.keys()
    assert requirements("train").keys() == pinned.keys() - edge.keys()
    for name, requirement in {**requirements(), **requirements("train")}.items():
        assert requirement.specifier.contains(pinned[name]), requirement


def test_what_needs_tensorflow_is_left_out_where_there_is_none():
    assert PROJECT["requires-python"] == ">=3.11"
    for extra in ("train", "onnx", "gpu"):
        for requirement in requirements(extra).values():
            versions = ["3.11", "3.12", "3.13", "3.14"]
            assert [requirement.marker.evaluate({"python_version": v}) for v in versions] == [True] * 3 + [False]
    assert extras.LAST_PYTHON == (3, 13)


def test_every_package_that_may_be_missing_is_brought_by_its_extra():
    for package, extra in extras.EXTRAS.items():
        assert canonicalize_name(DISTRIBUTIONS.get(package, package)) in requirements(extra)
    assert extras.remedy("torch.nn") == 'torch is not installed: pip install "dico_tf[torch]"'
    assert extras.remedy("dico_tf.nowhere") == ""


def test_a_python_without_tensorflow_is_named(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 14, 0))
    assert extras.remedy("keras").endswith('"dico_tf[train]" with Python 3.11 to 3.13; this is 3.14')
    assert extras.remedy("torch").endswith('"dico_tf[torch]"')


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel that pip builds from a copy of the source tree."""
    source, folder = tmp_path_factory.mktemp("source") / "tree", tmp_path_factory.mktemp("wheel")
    hidden = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "runs", "data", "*.egg-info")
    for path in ROOT.iterdir():
        if path.name in ("dico_tf", "configs", "tests", "benchmarks", "docs"):
            shutil.copytree(path, source / path.name, ignore=hidden if path.name != "dico_tf" else None)
    for path in (path for path in ROOT.iterdir() if path.is_file() and not path.name.startswith(".")):
        shutil.copy(path, source)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", f"--wheel-dir={folder}", str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.mark.slow
def test_the_wheel_holds_the_package_its_recipes_and_licence_alone(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        about = f"dico_tf-{dico_tf.__version__}.dist-info"
        metadata = Parser().parsestr(archive.read(f"{about}/METADATA").decode())
        entry_points = archive.read(f"{about}/entry_points.txt").decode()
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "dico_tf").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == modules
    assert {name for name in names if name.endswith(".flags")} == {
        f"dico_tf/configs/{n}.flags" for n in recipes.names()
    }
    assert {"dico_tf/py.typed", f"{about}/licenses/LICENSE", f"{about}/licenses/NOTICE"} <= names
    assert {name.split("/")[0] for name in names} == {"dico_tf", about}
    assert (metadata["Requires-Python"], metadata["License-Expression"]) == (">=3.11", "Apache-2.0")
    assert set(metadata.get_all("Provides-Extra")) == {"train", "pretrained", "onnx", "torch", "gpu"}
    assert metadata.get_payload().startswith("# dico_tf")
    assert re.search(r"^dico = dico_tf\.cli\.__main__:run$", entry_points, re.MULTILINE)


@pytest.fixture
def environment(wheel, tmp_path) -> Path:
    """A virtual environment that has this wheel and what requirements-edge.txt installs; its folder of commands."""
    venv.create(tmp_path / "venv", symlinks=True)
    python = tmp_path / "venv/bin/python"
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*command, str(wheel)], check=True, capture_output=True)
    (packages,) = (tmp_path / "venv/lib").glob("python*/site-packages")
    (tmp_path / "edge").mkdir()
    (packages / "edge.pth").write_text(f"{wheels.link(tmp_path / 'edge')}\n")
    return python.parent


@pytest.mark.slow
def test_the_wheel_serves_an_export_where_there_is_no_tensorflow(environment, tmp_path, monkeypatch):
    names = ["tensorflow", "keras", "sklearn", "pytest", "dico_tf", "numpy", "grpc"]
    code = f"import importlib.util as u, json; print(json.dumps([n for n in {names} if u.find_spec(n)]))"
    (tmp_path / "foreign").mkdir()
    monkeypatch.chdir(tmp_path / "foreign")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    there = subprocess.run([environment / "python", "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(there.stdout) == ["dico_tf", "numpy", "grpc"]
    missing = subprocess.run([environment / "dico", "train", "--flagfile=quickstart"], capture_output=True, text=True)
    assert (missing.returncode, missing.stdout) == (2, "")
    assert missing.stderr == 'dico train: tensorflow is not installed: pip install "dico_tf[train]"\n'
    path = exports.small(tmp_path / "export")
    command = [str(environment / "dico"), "serve", "local", f"--manifest={path}", "--deadline_ms=20000"]
    with workers.running(path, words=command) as local:
        answer = local.infer({"image": exports.images(2)}, model="committee")
        assert answer.outputs["probabilities"].shape == (2, 3)
        np.testing.assert_allclose(answer.outputs["probabilities"].sum(1), 1, rtol=1e-5)
