"""What a committee costs: E[cost] = sum_k cost_k P(member k is asked)."""

import math
from collections.abc import Sequence

import numpy as np


def reach(stage: np.ndarray, members: int) -> np.ndarray:
    """[n], share of the images that each member was asked about: 1 for the first, then never more."""
    return (np.asarray(stage)[:, None] >= np.arange(members)).mean(0) if len(stage) else np.zeros(members)


def average(costs: Sequence[float], stage: np.ndarray) -> float:
    return float(np.asarray(costs, np.float64) @ reach(stage, len(costs)))


def reachable(gates: Sequence[float]) -> int:
    """Members that can be asked at all: those after a gate that all pass cannot."""
    for k, gate in enumerate(gates):
        if gate == -math.inf:
            return k + 1
    return len(gates) + 1


def worst(costs: Sequence[float], gates: Sequence[float]) -> float:
    """Of an image that every reachable member is asked about."""
    return float(np.sum(costs[: reachable(gates)]))
