"""The answers of the members that are present made into one."""

import dataclasses

import numpy as np

from dico_tf.committee.decision import Committee, joined
from dico_tf.edge.members.ask_all import MemberAnswers
from dico_tf.evaluation.averaging import combine, disagreement, softmax


@dataclasses.dataclass(frozen=True, eq=False)
class CombinedAnswer:
    logits: np.ndarray  # float32 [B, C], combined
    probabilities: np.ndarray  # float32 [B, C]
    class_id: np.ndarray  # int64 [B]
    disagreement: np.ndarray  # float32 [B]: entropy of the mean minus mean of the entropies, nats
    versions: dict[str, str]  # of the members used, in the committee's order
    missing: dict[str, str]  # reasons
    late: list[str]
    stage: np.ndarray  # int64 [B]: place of the last member whose answer is in it, in the order they were asked
    order: tuple[str, ...] = ()  # in which members were asked; () = all at once
    finished: np.ndarray | None = None  # bool [B], of members asked in turn: at a gate, or by the last of them

    @property
    def gate_passed(self) -> bool:
        """False where an image's answer would have gone on to a member that is missing."""
        return self.finished is None or bool(self.finished.all())


def verdict(poll: MemberAnswers, average: str, rules: Committee | None = None) -> CombinedAnswer:
    """The rule `average` over the members that answered, as if the committee had no others.

    `rules`: the weights and temperatures of its members, where they are not all alike.
    """
    logits = np.stack([answer.logits for answer in poll.votes.values()], axis=1)  # [B, S, C]
    last = len(poll.votes) + len(poll.missing) - 1
    stage = np.full(len(logits), last, np.int64)
    combined = _weighted(poll, rules) if rules else combine(logits, average)
    return told(poll, combined, disagreement(softmax(logits)), stage)


def _weighted(poll: MemberAnswers, rules: Committee) -> np.ndarray:
    answer, before = None, []
    for k, name in enumerate(rules.members):
        if name in poll.votes:
            answer = joined(rules, answer, before, k, poll.votes[name].logits)
            before.append(k)
    return answer


def told(
    poll: MemberAnswers, combined: np.ndarray, spread: np.ndarray, stage: np.ndarray,
    order: tuple[str, ...] = (), finished: np.ndarray | None = None,
) -> CombinedAnswer:  # fmt: skip
    """Of combined logits [B, C] and what the members disagree by [B]."""
    return CombinedAnswer(
        combined.astype(np.float32),
        softmax(combined).astype(np.float32),
        combined.argmax(-1),
        np.maximum(spread, 0.0).astype(np.float32),  # rounding may leave -1e-16
        {name: answer.export for name, answer in poll.votes.items()},
        {name: missing.reason for name, missing in poll.missing.items() if name not in poll.late},
        poll.late,
        stage,
        order,
        finished,
    )
