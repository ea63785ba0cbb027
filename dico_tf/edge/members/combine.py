"""Combine the votes that arrived into one answer."""

import dataclasses

import numpy as np

from dico_tf.committee.decision import Committee, joined
from dico_tf.edge.members.ask_all import MemberAnswers
from dico_tf.evaluation.averaging import combine, disagreement, softmax


@dataclasses.dataclass(frozen=True, eq=False)
class CombinedAnswer:
    """The committee's answer for B images, and which members it is made of."""

    logits: np.ndarray  # float32 [B, C], combined
    probabilities: np.ndarray  # float32 [B, C]
    class_id: np.ndarray  # int64 [B]
    disagreement: np.ndarray  # float32 [B]: entropy of the mean minus mean of the entropies, nats
    versions: dict[str, str]  # export of each member used, in the order of asking
    missing: dict[str, str]  # reason of each member without a vote, except late ones
    late: list[str]
    stage: np.ndarray  # int64 [B]: place of the last member that answered for the image; without a cascade, the last
    order: tuple[str, ...] = ()  # of a cascade; () = all members were asked at once
    finished: np.ndarray | None = None  # bool [B], of a cascade: the image passed a gate, or the last member answered

    @property
    def gate_passed(self) -> bool:
        """False if an image needed a further member that was missing."""
        return self.finished is None or bool(self.finished.all())


def combine_answers(answers: MemberAnswers, average: str, weighted: Committee | None = None) -> CombinedAnswer:
    """Average the votes of the members that answered, as if the committee had no others.

    Args:
        answers: votes, at least one, and missing members.
        average: the rule, e.g. "logits" or "probs".
        weighted: replaces the rule by its own, with weights and temperatures of the members.
    """
    logits = np.stack([vote.logits for vote in answers.votes.values()], axis=1)  # [B, S, C]
    last = len(answers.votes) + len(answers.missing) - 1
    stage = np.full(len(logits), last, np.int64)
    combined = _weighted_average(answers, weighted) if weighted else combine(logits, average)
    return combined_answer(answers, combined, disagreement(softmax(logits)), stage)


def _weighted_average(answers: MemberAnswers, weighted: Committee) -> np.ndarray:
    places = [k for k, name in enumerate(weighted.members) if name in answers.votes]
    logits = np.stack([answers.votes[weighted.members[k]].logits for k in places], axis=1)
    average = None
    for n in range(len(places)):
        average = joined(weighted, average, places[: n + 1], logits[:, : n + 1])
    return average


def combined_answer(
    answers: MemberAnswers,
    logits: np.ndarray,
    disagreements: np.ndarray,
    stage: np.ndarray,
    order: tuple[str, ...] = (),
    finished: np.ndarray | None = None,
) -> CombinedAnswer:
    """Make a CombinedAnswer from combined logits [B, C]; `answers` says which members they are from.

    The other arguments become its fields.
    """
    return CombinedAnswer(
        logits.astype(np.float32),
        softmax(logits).astype(np.float32),
        logits.argmax(-1),
        np.maximum(disagreements, 0.0).astype(np.float32),  # rounding may leave -1e-16
        {name: vote.export for name, vote in answers.votes.items()},
        {name: missing.reason for name, missing in answers.missing.items() if name not in answers.late},
        answers.late,
        stage,
        order,
        finished,
    )
