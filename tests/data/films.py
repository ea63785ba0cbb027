"""Folders of made-up films: of one class the frames brighten, of the other they darken."""

from pathlib import Path

import numpy as np
from PIL import Image


def write(root: Path, part: str, films: int, frames: int = 6, size: tuple[int, int] = (20, 16), seed: int = 0) -> None:
    """DIR/part/{brighter,darker}/film_NN/N.png; numbers without leading zeros."""
    for kind, sign in (("brighter", 1), ("darker", -1)):
        for film in range(films):
            draw = np.random.default_rng((seed, film, sign + 1))
            picture = draw.integers(0, 60, (size[1], size[0], 3))
            first = draw.integers(60, 100)
            folder = root / part / kind / f"film_{film:02d}"
            folder.mkdir(parents=True)
            for n in range(frames):
                level = picture + first + sign * 10 * (n - frames // 2)
                Image.fromarray(level.clip(0, 255).astype(np.uint8)).save(folder / f"{n + 1}.png")
