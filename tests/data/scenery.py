"""Made-up scenes: bands and a disc of classes, each in a colour of its own, and their masks."""

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = np.array([(200, 60, 60), (60, 180, 60), (60, 60, 200)])  # of three classes
VOID = 9  # in the files


def scene(seed: int, size: tuple[int, int] = (40, 32)) -> tuple[np.ndarray, np.ndarray]:
    """uint8 picture [h, w, 3] and mask [h, w] with a corner of VOID; size is (width, height)."""
    draw = np.random.default_rng(seed)
    width, height = size
    y, x = np.mgrid[:height, :width]
    mask = (y > draw.integers(height // 4, 3 * height // 4)).astype(np.uint8)
    centre = draw.integers(0, (height, width))
    mask[(y - centre[0]) ** 2 + (x - centre[1]) ** 2 < (height // 4) ** 2] = 2
    picture = COLOURS[mask] + draw.normal(0, 20, (height, width, 3))
    mask[:4, :4] = VOID
    return np.clip(picture, 0, 255).astype(np.uint8), mask


def write(root: Path, name: str, picture: np.ndarray, mask: np.ndarray | Image.Image) -> None:
    """root/images/NAME.png and root/masks/NAME.png"""
    for kind, content in (("images", picture), ("masks", mask)):
        (root / kind).mkdir(parents=True, exist_ok=True)
        content = content if isinstance(content, Image.Image) else Image.fromarray(content)
        content.save(root / kind / f"{name}.png")


def folder(root: Path, sizes: dict[str, list[tuple[int, int]]]) -> Path:
    """root/{train,...}/{images,masks} of scenes of these sizes."""
    seed = 0
    for part, chosen in sizes.items():
        for n, size in enumerate(chosen):
            write(root / part, f"{n:03d}", *scene(seed, size))
            seed += 1
    return root
