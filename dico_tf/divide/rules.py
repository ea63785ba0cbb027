"""Rules by which model families divide their widths. Plain arithmetic, without numpy or TensorFlow."""

import math
from collections.abc import Collection, Iterable, Mapping

from dico_tf.errors import UserError


def root(width: float, splits: int, offset: float = 0.0) -> int:
    """Return floor(width / sqrt(S) + offset)."""
    return math.floor(width / math.sqrt(splits) + offset)


def evenly(count: int, splits: int, what: str) -> int:
    """Return count / S. Raises UserError if it is not a whole number; `what` names the count in the message."""
    if count % splits:
        legal = words([s for s in range(2, count + 1) if count % s == 0], "or")
        use = f"use --splits={legal}, or --division=params" if legal else "use --division=params"
        raise UserError(f"{what}={count} cannot be divided evenly into {splits} branches; {use}")
    return count // splits


def lookup(table: Mapping[int, int], splits: int, what: str) -> int:
    """Return the value for S in a table {S: value} from the paper. Raises UserError if S is not in it.

    Args:
        what: name of the network in the message.
    """
    published(table, splits, what)
    return table[splits]


def published(known: Collection[int], splits: int, what: str) -> None:
    """Raise UserError if S is not one of the numbers of branches for which the paper has a division.

    Args:
        known: these numbers.
        what: name of the network in the message.
    """
    if splits not in known:
        raise UserError(
            f"{what} has no published division by --splits={splits}; published: {words(known)}. "
            "Give one of these, or --division=params for any other number"
        )


def multiple(width: float, step: float) -> float:
    """Return the multiple of `step` nearest to the width, at least one step."""
    return max(step, step * round(width / step))


def words(splits: Iterable[int], conjunction: str = "and") -> str:
    """Return numbers in rising order as text, such as "1, 2 and 4"; "" if there are none."""
    *head, last = [str(s) for s in sorted(splits)] or [""]
    return f"{', '.join(head)} {conjunction} {last}" if head else last


def unpublished(what: str, splits: int) -> UserError:
    """Return the error for a family of networks, named `what`, that no paper divides."""
    return UserError(f"no paper divides {what} into {splits} branches; give --division=params or --division=macs")
