"""The images of a request as members see them: one array for all, or each member's own where their sizes differ."""

from collections.abc import Mapping

import numpy as np

Images = np.ndarray | Mapping[str, np.ndarray]  # [B, H, W, 3], or {member: [B, H, W, 3]}


def of(images: Images, member: str) -> np.ndarray:
    return images[member] if isinstance(images, Mapping) else images


def count(images: Images) -> int:
    return len(next(iter(images.values())) if isinstance(images, Mapping) else images)
