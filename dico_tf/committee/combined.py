"""The answer of a committee.json as one function of its members' logits."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from dico_tf.committee import committee_file
from dico_tf.committee.decision import decide


def combined(path: str | Path) -> tuple[list[str], int, Callable[[np.ndarray], np.ndarray]]:
    """Return the members' sources, the number of classes, and logits float32 [N, n, C] -> [N, C]."""
    content = committee_file.load(path)
    committee = content.committee
    sources = [f"{member.name}={member.source}" for member in content.members]
    return sources, content.classes, lambda logits: decide(committee, logits).logits.astype(np.float32)
