"""Real data where this machine has them, and folders of made-up pictures."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dico_tf.data import image_decoding
from dico_tf.data.lazy_images import ImageFiles, LazyImages
from dico_tf.data.memory_budget import MemoryBudget


@pytest.fixture(scope="session")
def shared_data() -> Path:
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = Path(os.environ.get("DICO_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no {folder}: set DICO_DATA to the folder that holds tfds/cifar10")
    return folder


@pytest.fixture
def picture(tmp_path):
    """Writes one picture under the test's folder, plain or noise; returns its path."""

    def write(name: str, size=(40, 30), colour=None, mode="RGB", seed=0, **options) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if colour is None:
            noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
            image = Image.fromarray(noise).convert(mode)
        else:
            image = Image.new(mode, size, colour)
        image.save(path, **options)
        return path

    return write


@pytest.fixture
def lazy_images():
    """Of picture files, at an image size, with room for so many bytes of what was decoded."""

    def make(paths, size: int, room: int = 0) -> LazyImages:
        sizes = [image_decoding.check(str(path)) for path in paths]
        return LazyImages(
            ImageFiles(Path(), [str(path) for path in paths]),
            sizes,
            size,
            image_decoding.short_side(size),
            MemoryBudget(room),
        )

    return make


@pytest.fixture
def pets(tmp_path, picture) -> Path:
    """DIR/CLASS/*: ten cats, twenty dogs."""
    for kind, count in (("dog", 20), ("cat", 10)):
        for n in range(count):
            picture(f"pets/{kind}/{n:02d}.jpg", seed=n)
    return tmp_path / "pets"
