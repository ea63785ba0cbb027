"""How transformers are made narrower by any factor: whole heads, with an MLP that makes up for what they leave over."""

import dataclasses
from typing import Any

from dico_tf.divide.rules import multiple
from dico_tf.models.residual import narrower

_GRID = 8  # channels of the hidden layer


def hidden(width: int, inner: int, scale: float, narrower: int) -> int:
    """Of the MLP of a block `narrower` wide that is to have the weights of one of width and inner times the scale.

    A block of width e and hidden width m has 4 e^2 + 2 e m weights.
    """
    weights = scale**2 * (4 * width**2 + 2 * width * inner)
    return int(multiple((weights - 4 * narrower**2) / (2 * narrower), _GRID))


def fewer(heads: int, scale: float) -> int:
    return max(round(heads * scale), 1)


def dividing(groups: int) -> tuple[int, ...]:
    """The published numbers of branches that leave whole groups."""
    return tuple(s for s in (1, 2, 4, 8, 16) if groups % s == 0)


def narrowed(spec: Any, scale: float) -> Any:
    """Stem and stages by the scale; the middle too: in fewer groups, of whatever width makes up for whole ones."""
    groups = max(round(spec.groups * scale), 1)
    # planes shrink by the scale, so a group stays as wide where base_width grows by its inverse
    base_width = spec.base_width * spec.groups / groups
    return dataclasses.replace(spec, width=narrower(spec.width, scale), groups=groups, base_width=base_width)
