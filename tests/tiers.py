"""Which parameters of a test run in the first tier."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def slow_but(quick: Collection[Any], values: Iterable[Any]) -> list:
    """Return `values` for `parametrize`; all but those in `quick` are marked slow, so that `make test-all` runs them.

    A value that is a tuple gives several arguments.
    """
    values = list(values)
    assert all(value in values for value in quick), f"{quick} are not all among {values}"
    return [
        pytest.param(
            *(value if isinstance(value, tuple) else (value,)), marks=[] if value in quick else pytest.mark.slow
        )
        for value in values
    ]
