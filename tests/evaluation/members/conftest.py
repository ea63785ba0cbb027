"""Members made for the tests of this folder."""

from pathlib import Path

import numpy as np
import pytest

from dico_tf.config import from_values
from dico_tf.data.source import Source, Split
from tests.export.conftest import exported, run  # noqa: F401, fixtures


@pytest.fixture(scope="session")
def workdir(tmp_path_factory) -> Path:
    """Digits in two branches after an epoch of small steps."""
    from dico_tf.training.run import train

    folder = tmp_path_factory.mktemp("runs") / "digits"
    config = {
        "dataset": "digits", "model": "wrn_tiny", "splits": 2, "views": ["none"], "epochs": 1, "batch_size": 16,
        "lr": 0.05, "validation": 100, "seed": 3, "workdir": str(folder),
    }  # fmt: skip
    train(from_values(config), "", lambda text: None)
    return folder


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
