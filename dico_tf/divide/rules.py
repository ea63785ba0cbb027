"""The words families say their division in: numpy-free, TensorFlow-free arithmetic."""

import math
from collections.abc import Mapping

from dico_tf.errors import UserError


def root(width: float, splits: int, offset: float = 0.0) -> int:
    """floor(width / sqrt(S) + offset)."""
    return math.floor(width / math.sqrt(splits) + offset)


def evenly(count: int, splits: int, what: str) -> int:
    """count / S, which must be whole."""
    if count % splits:
        legal = words([s for s in range(2, count + 1) if count % s == 0], "or")
        use = f"use {legal}, or --division=params" if legal else "use --division=params"
        raise UserError(f"{what}={count} cannot be divided evenly into {splits} branches; {use}")
    return count // splits


def lookup(table: Mapping[int, int], splits: int, what: str) -> int:
    """The published entry for S."""
    published(table, splits, what)
    return table[splits]


def published(known, splits: int, what: str) -> None:
    """Refuses an S for which nothing is published."""
    if splits not in known:
        raise UserError(
            f"{what} has no published division by --splits={splits}; published: {words(known)}. "
            "--division=params takes any"
        )


def multiple(width: float, step: float) -> float:
    """The nearest multiple of `step`, at least one step."""
    return max(step, step * round(width / step))


def words(splits, conjunction: str = "and") -> str:
    """`1, 2 and 4`."""
    *head, last = [str(s) for s in sorted(splits)] or [""]
    return f"{', '.join(head)} {conjunction} {last}" if head else last


def unpublished(what: str, splits: int) -> UserError:
    return UserError(
        f"nothing is published of dividing {what} into {splits} branches; give --division=params or --division=macs"
    )
