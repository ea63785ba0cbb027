"""The answers of the members that are present made into one."""

import dataclasses

import numpy as np

from dico_tf.edge.poll import Poll
from dico_tf.evaluation.averaging import combine, disagreement, softmax


@dataclasses.dataclass(frozen=True, eq=False)
class Verdict:
    logits: np.ndarray  # float32 [B, C], combined
    probabilities: np.ndarray  # float32 [B, C]
    class_id: np.ndarray  # int64 [B]
    disagreement: np.ndarray  # float32 [B]: entropy of the mean minus mean of the entropies, nats
    versions: dict[str, str]  # of the members used, in the committee's order
    missing: dict[str, str]  # reasons
    late: list[str]


def verdict(poll: Poll, average: str) -> Verdict:
    """The rule `average` over the members that answered, as if the committee had no others."""
    logits = np.stack([answer.logits for answer in poll.votes.values()], axis=1)  # [B, S, C]
    combined = combine(logits, average)
    return Verdict(
        combined.astype(np.float32),
        softmax(combined).astype(np.float32),
        combined.argmax(-1),
        np.maximum(disagreement(softmax(logits)), 0.0).astype(np.float32),  # rounding may leave -1e-16
        {name: answer.export for name, answer in poll.votes.items()},
        {name: missing.reason for name, missing in poll.missing.items() if name not in poll.late},
        poll.late,
    )
