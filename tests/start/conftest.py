"""Folders of images for tests of `start`."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def photos(tmp_path):
    """Writes `count` images of each class under a folder, each class of one colour with noise; returns the folder."""

    def write(counts: dict[str, int], size: int = 48, root: str = "photos") -> Path:
        for number, (name, count) in enumerate(counts.items()):
            (tmp_path / root / name).mkdir(parents=True)
            draw = np.random.default_rng(number)
            colour = draw.integers(40, 200, 3)
            for n in range(count):
                pixels = colour + draw.integers(-40, 40, (size, size + 8, 3))
                Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / root / name / f"{n:03d}.png")
        return tmp_path / root

    return write
