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
        raise UserError(f"{count} {what} do not divide by --splits={splits}; give a divisor of {count}")
    return count // splits


def lookup(table: Mapping[int, int], splits: int, what: str) -> int:
    """The published entry for S."""
    if splits not in table:
        raise UserError(f"{what} has no published division by --splits={splits}; published: {words(table)}")
    return table[splits]


def words(splits) -> str:
    """`1, 2 and 4`."""
    *head, last = [str(s) for s in sorted(splits)]
    return f"{', '.join(head)} and {last}" if head else last
