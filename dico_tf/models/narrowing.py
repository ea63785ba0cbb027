"""Narrowing of networks by any factor: whole heads in transformers, whole groups in ResNeXt-like networks."""

import dataclasses
from typing import Any

from dico_tf.divide.rules import multiple

_GRID = 8  # channels of the hidden layer


def stem_width(width: float, scale: float) -> float:
    """Return width * scale, rounded to a multiple of 1/8.

    Finer steps would change no stage, since stages have multiples of 4 channels.
    """
    return multiple(width * scale, 1 / 8)


def mlp_width(width: int, inner: int, scale: float, narrow_width: int) -> int:
    """Return the hidden width of the MLP in a narrowed transformer block.

    A block of width e and hidden width m has 4 e^2 + 2 e m weights. Heads are whole, so that `narrow_width` is only
    near `scale * width`. The result, a multiple of 8, gives the block nearly scale^2 times its former weights.

    Args:
        width, inner: width and hidden width before.
    """
    weights = scale**2 * (4 * width**2 + 2 * width * inner)
    return int(multiple((weights - 4 * narrow_width**2) / (2 * narrow_width), _GRID))


def head_count(heads: int, scale: float) -> int:
    """Return heads * scale, rounded to a whole number, at least 1."""
    return max(round(heads * scale), 1)


def splits_of(groups: int) -> tuple[int, ...]:
    """Return those of the published numbers of branches (1, 2, 4, 8, 16) that divide the groups evenly."""
    return tuple(s for s in (1, 2, 4, 8, 16) if groups % s == 0)


def narrow_groups(spec: Any, scale: float) -> Any:
    """Return a ResNeXt-like Spec with its widths multiplied by the scale.

    The number of groups is multiplied and rounded; each group becomes wider or narrower to make up for the rounding.
    """
    groups = max(round(spec.groups * scale), 1)
    # the width of a group is base_width * planes / 64, and the planes shrink by the scale
    base_width = spec.base_width * spec.groups / groups
    return dataclasses.replace(spec, width=stem_width(spec.width, scale), groups=groups, base_width=base_width)
