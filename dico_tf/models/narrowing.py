"""Narrowing of networks by any factor: whole heads in transformers, whole groups in ResNeXt-like networks."""

import dataclasses
from typing import Any

from dico_tf.divide.rules import multiple

_GRID = 8  # channels of the hidden layer


def stem_width(width: float, scale: float) -> float:
    """Return width * scale in steps of 1/8, below which no stage changes: widths are multiples of 4 channels."""
    return multiple(width * scale, 1 / 8)


def mlp_width(width: int, inner: int, scale: float, narrow_width: int) -> int:
    """Return the hidden width of the MLP in a narrowed transformer block.

    The number of heads is whole, so that the block's width is only near `scale * width`. The MLP is chosen so that the
    block has the weights of one scaled exactly. A block of width e and hidden width m has 4 e^2 + 2 e m weights.
    """
    weights = scale**2 * (4 * width**2 + 2 * width * inner)
    return int(multiple((weights - 4 * narrow_width**2) / (2 * narrow_width), _GRID))


def head_count(heads: int, scale: float) -> int:
    """Return heads * scale, rounded, at least 1."""
    return max(round(heads * scale), 1)


def splits_of(groups: int) -> tuple[int, ...]:
    """Return the published numbers of branches S that divide the groups."""
    return tuple(s for s in (1, 2, 4, 8, 16) if groups % s == 0)


def narrow_groups(spec: Any, scale: float) -> Any:
    """Multiply the widths of a ResNeXt-like Spec by the scale: fewer groups, as wide as the exact width needs."""
    groups = max(round(spec.groups * scale), 1)
    # the width of a group is base_width * planes / 64, and the planes shrink by the scale
    base_width = spec.base_width * spec.groups / groups
    return dataclasses.replace(spec, width=stem_width(spec.width, scale), groups=groups, base_width=base_width)
