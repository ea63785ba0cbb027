"""Rules by which model families divide their widths. Plain arithmetic, without numpy or TensorFlow."""

import math
from collections.abc import Mapping

from dico_tf.errors import UserError


def root(width: float, splits: int, offset: float = 0.0) -> int:
    """Return floor(width / sqrt(S) + offset)."""
    return math.floor(width / math.sqrt(splits) + offset)


def evenly(count: int, splits: int, what: str) -> int:
    """Return count / S. Raises UserError if it is not a whole number; `what` names the count."""
    if count % splits:
        legal = words([s for s in range(2, count + 1) if count % s == 0], "or")
        use = f"use {legal}, or --division=params" if legal else "use --division=params"
        raise UserError(f"{what}={count} cannot be divided evenly into {splits} branches; {use}")
    return count // splits


def lookup(table: Mapping[int, int], splits: int, what: str) -> int:
    """Return the entry for S of a table from the paper. Raises UserError if S is not in it."""
    published(table, splits, what)
    return table[splits]


def published(known, splits: int, what: str) -> None:
    """Raise UserError if S is not in a table from the paper."""
    if splits not in known:
        raise UserError(
            f"{what} has no published division by --splits={splits}; published: {words(known)}. "
            "Give one of these, or --division=params, which takes any number"
        )


def multiple(width: float, step: float) -> float:
    """Return the nearest multiple of `step`, at least one step."""
    return max(step, step * round(width / step))


def words(splits, conjunction: str = "and") -> str:
    """Return numbers as text: "1, 2 and 4"."""
    *head, last = [str(s) for s in sorted(splits)] or [""]
    return f"{', '.join(head)} {conjunction} {last}" if head else last


def unpublished(what: str, splits: int) -> UserError:
    """Return the error for a network whose division is in no paper."""
    return UserError(f"no paper divides {what} into {splits} branches; give --division=params or --division=macs")
