"""How networks with groups are made narrower by any factor: whole groups, every width smaller."""

import dataclasses
from typing import Any

from dico_tf.models.residual import narrower


def dividing(groups: int) -> tuple[int, ...]:
    """The published numbers of branches that leave whole groups."""
    return tuple(s for s in (1, 2, 4, 8, 16) if groups % s == 0)


def narrowed(spec: Any, scale: float) -> Any:
    """Stem and stages by the scale; the middle too: in fewer groups, of whatever width makes up for whole ones."""
    groups = max(round(spec.groups * scale), 1)
    # planes shrink by the scale, so a group stays as wide where base_width grows by its inverse
    base_width = spec.base_width * spec.groups / groups
    return dataclasses.replace(spec, width=narrower(spec.width, scale), groups=groups, base_width=base_width)
