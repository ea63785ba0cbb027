"""A trained run and its export, made once for the tests of this folder."""

import subprocess
import sys
from pathlib import Path

import pytest

from dico_tf.export import manifest

ROOT = Path(__file__).parents[2]
TRAIN = [
    "--dataset=digits", "--model=wrn_tiny", "--splits=2", "--views=crop", "--epochs=12", "--batch_size=64", "--lr=0.1",
    "--validation=100", "--precision=mixed_bfloat16", "--seed=3",
]  # fmt: skip
ALL = "--quantise=none,float16,dynamic,int8"


def script(*words: str, status: int = 0) -> str:
    """What a script showed: on standard output, or of a user's mistake on standard error."""
    done = subprocess.run([sys.executable, *map(str, words)], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout if status == 0 else done.stderr


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Path:
    """Digits in two branches, trained in mixed precision."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    script("train.py", *TRAIN, f"--workdir={folder}")
    return folder


@pytest.fixture(scope="session")
def exported(run, tmp_path_factory) -> Path:
    """Every kind of file."""
    out = tmp_path_factory.mktemp("exports") / "digits"
    script("export.py", f"--workdir={run}", f"--out={out}", ALL, "--max_accuracy_drop=5", "--compare_images=100")
    return out


@pytest.fixture(scope="session")
def described(exported) -> manifest.Manifest:
    return manifest.load(exported)
