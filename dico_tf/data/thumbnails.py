"""Small copies of images, for the gallery of a run's page."""

import numpy as np
from PIL import Image

SIDE = 96  # pixels of the long side


def thumbnails(images: np.ndarray) -> np.ndarray:
    """Return small copies of images [N, H, W, 3] or of the middle frames of clips [N, T, H, W, 3], as uint8.

    Values from 0 to 255 are rounded. Images up to 96 pixels keep their size.
    """
    if images.ndim == 5:
        images = images[:, images.shape[1] // 2]
    pixels = np.clip(np.rint(images), 0, 255).astype(np.uint8)
    height, width = pixels.shape[1:3]
    if max(height, width) <= SIDE:
        return pixels
    scale = SIDE / max(height, width)
    sides = max(1, round(width * scale)), max(1, round(height * scale))
    small = [np.asarray(Image.fromarray(each).resize(sides, Image.Resampling.BILINEAR)) for each in pixels]
    return np.stack(small) if small else pixels[:, : sides[1], : sides[0]]
