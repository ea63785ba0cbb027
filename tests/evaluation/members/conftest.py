"""Members made for the tests of this folder."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from dico_tf.data.source import Source, Split
from tests.export.conftest import exported, run, trained  # noqa: F401, fixtures


@pytest.fixture(scope="session")
def workdir(trained, tmp_path_factory) -> Path:  # noqa: F811
    """Digits in two branches."""
    return shutil.copytree(trained, tmp_path_factory.mktemp("runs") / "digits")


@pytest.fixture
def images():
    """uint8 [n, side, side, 3], the same every time."""

    def made(side: int, count: int = 4, seed: int = 0) -> np.ndarray:
        return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)

    return made


@pytest.fixture
def source(images):
    """A data set of noise in memory: ten classes, each the label of the same number of images."""

    def made(side: int = 16, count: int = 20, names=None, seed: int = 0) -> Source:
        names = names or [f"class_{n}" for n in range(10)]
        labels = np.arange(count) % len(names)
        part = Split(labels=labels, ids=[f"image_{n}" for n in range(count)], images=images(side, count, seed))
        return Source(name="noise", class_names=tuple(names), image_size=side, splits={"test": part})

    return made
