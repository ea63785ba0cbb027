"""A trained run and its export, made once for the tests of this folder, by whichever test process comes first."""

import fcntl
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dico_tf.files import manifest
from tests.commands import command

ROOT = Path(__file__).parents[2]
TRAIN = [
    "--dataset=digits",
    "--model=wrn_tiny",
    "--splits=2",
    "--views=none",
    "--epochs=1",
    "--batch_size=16",
    "--lr=0.05",
    "--validation=100",
    "--seed=3",
]
ALL = "--quantise=none,float16,dynamic,int8"


def script(*words: str, status: int = 0) -> str:
    """Run a script within this process; return its standard output, or of a user's mistake the standard error."""
    name, *rest = map(str, words)
    ended = command(name.removesuffix(".py"), *rest)
    assert ended.status == status, ended.out + ended.err
    return ended.out if status == 0 else ended.err


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that all test processes share; those that come while it is made wait for it."""
    base = factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = base / "shared" / name
    folder.parent.mkdir(exist_ok=True)
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (done := base / f"{name}.done").exists():
            make(folder)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """Digits in two branches."""
    return once(tmp_path_factory, "trained", lambda folder: script("train.py", *TRAIN, f"--workdir={folder}"))


@pytest.fixture(scope="session")
def run(trained, tmp_path_factory) -> Path:
    """The same run under a config of mixed precision, in which processors without it would train for minutes."""

    def make(folder: Path) -> None:
        shutil.copytree(trained, folder)
        record = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        record["config"]["precision"] = "mixed_bfloat16"
        (folder / "config.json").write_text(json.dumps(record), encoding="utf-8")

    return once(tmp_path_factory, "digits", make)


@pytest.fixture(scope="session")
def exported(run, tmp_path_factory) -> Path:
    """An export with files of all kinds."""
    words = [f"--workdir={run}", ALL, "--max_accuracy_drop=5", "--compare_images=100"]
    return once(tmp_path_factory, "export", lambda out: script("export.py", *words, f"--out={out}"))


@pytest.fixture(scope="session")
def described(exported) -> manifest.Manifest:
    return manifest.load(exported)
