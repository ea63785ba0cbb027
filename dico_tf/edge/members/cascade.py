"""Ask members one after the other, each only about the images that the members before it were unsure of."""

import asyncio
from collections.abc import Callable, Mapping

import numpy as np

from dico_tf.committee import serialization
from dico_tf.committee.decision import NEVER, Committee, confidence, joined, passes
from dico_tf.edge.members.ask_all import BelowQuorum, MemberAnswers, Voter, ask_all
from dico_tf.edge.members.combine import CombinedAnswer, combined_answer
from dico_tf.edge.members.outcome import Images, Missing, Outcome, Vote, image_count, images_of
from dico_tf.errors import UserError
from dico_tf.evaluation.averaging import disagreement, softmax
from dico_tf.files.manifest import COMMITTEE, Manifest

RejectVote = Callable[[list[Vote], Vote], Missing | None]  # (accepted votes, new vote) -> cause if it cannot join them


def load_cascade(manifest: Manifest) -> Committee | None:
    """Return the cascade of an export, or None if it has none.

    Raises UserError if the cascade is invalid, or the weights or temperatures of the committee are.
    """
    load_weighted_committee(manifest)  # an invalid committee must be refused now, not at the first request
    entry = manifest.content[COMMITTEE].get("cascade")
    if entry is None:
        return None
    try:
        cascade = serialization.committee(entry if isinstance(entry, dict) else {})
    except UserError as error:
        raise UserError(f"the cascade of the export {manifest.folder} is invalid: {error}") from None
    if unknown := [name for name in cascade.members if name not in manifest.branches]:
        raise UserError(
            f"the cascade of the export {manifest.folder} is invalid: {unknown[0]!r} is not a member of its committee"
        )
    return cascade


def load_weighted_committee(manifest: Manifest) -> Committee | None:
    """Return an export's committee, with weights and temperatures, and gates at which no image stops.

    Returns None if the export has no weights and no temperatures. Raises UserError if they are invalid.
    """
    entry = manifest.content[COMMITTEE]
    if not (entry.get("weights") or entry.get("temperatures")):
        return None
    rules = {key: entry.get(key, []) for key in ("weights", "temperatures")}
    gates = ["never"] * (len(manifest.branches) - 1)
    try:
        return serialization.committee({**entry, **rules, "gates": gates, "confidence": "max_prob"}, "members")
    except UserError as error:
        raise UserError(f"the committee of the export {manifest.folder} is invalid: {error}") from None


def without_gates(committee: Committee) -> Committee:
    """Return the same committee with gates at which no image stops, so that every member gets every image."""
    return Committee(
        members=committee.members,
        gates=(NEVER,) * len(committee.gates),
        confidence=committee.confidence,
        average=committee.average,
        weights=committee.weights,
        temperatures=committee.temperatures,
    )


async def ask_in_turn(
    members: Mapping[str, Voter],
    cascade: Committee,
    images: Images,
    deadline: float,
    quorum: int,
    reject: RejectVote = lambda accepted, vote: None,
    cascade_for: Callable[[Vote], Committee] | None = None,
) -> tuple[MemberAnswers, CombinedAnswer]:
    """Ask the members of a cascade in turn; return their answers and the combined answer.

    Each member gets an equal share of the remaining time. A late or missing member is skipped: its gate does not
    count, and the answer is that of the others. Raises BelowQuorum if an image passed no gate and fewer than `quorum`
    members answered.

    Args:
        members: must include all members of the cascade.
        cascade: order, gates, weights and temperatures.
        images: of one request.
        deadline: end of the whole request, on the event loop's clock.
        quorum: members that must answer if an image passes no gate; a larger number than the cascade has means all.
        reject: returns a cause for a vote that must not be combined with the votes before it.
        cascade_for: chooses, by the first vote, the gates and weights to use; their order must be the same.
    """
    order = cascade.members
    votes: dict[str, Vote] = {}
    missing: dict[str, Missing] = {}
    state = _CascadeState(image_count(images))
    for k, name in enumerate(order):
        if not len(state.undecided):
            break
        now = asyncio.get_running_loop().time()
        until = now + (deadline - now) / (len(order) - k)
        image = images_of(images, name)
        part = image if len(state.undecided) == len(image) else image[state.undecided]
        outcome = await _ask(name, members[name], part, until)
        if isinstance(outcome, Vote):
            outcome = reject(list(votes.values()), outcome) or outcome
        if isinstance(outcome, Missing):
            missing[name] = outcome
            continue
        cascade = cascade_for(outcome) if cascade_for and not votes else cascade
        votes[name] = outcome
        state.add_vote(cascade, k, outcome.logits)
    answers, required = MemberAnswers(votes, missing), min(quorum, len(order))
    unsure = len(state.undecided) or (~state.passed).any()
    if not votes or (unsure and len(votes) < required):
        raise BelowQuorum(answers, required)
    return answers, state.answer(answers, order)


async def _ask(name: str, member: Voter, image: np.ndarray, deadline: float) -> Outcome:
    answers = await ask_all({name: member}, image, deadline, quorum=0)
    return answers.votes.get(name) or answers.missing[name]


class _CascadeState:
    """Progress of the images of one request. All undecided images have been answered by the same members."""

    def __init__(self, count: int):
        self.undecided = np.arange(count)  # indices of images that go on to the next member
        self.passed = np.zeros(count, bool)  # a gate
        self._finished = np.zeros(count, bool)  # passed a gate, or answered by the last member
        self._stage, self._disagreement = np.zeros(count, np.int64), np.zeros(count)
        self._logits: np.ndarray | None = None  # float64 [B, C], of all images
        self._average: np.ndarray | None = None  # [U, C], of the undecided images
        self._separate: np.ndarray | None = None  # [U, S, C], logits of the members that answered so far
        self._answered: list[int] = []  # places of these members

    def add_vote(self, cascade: Committee, k: int, logits: np.ndarray) -> None:
        """Add the logits of member k for the undecided images, and apply its gate."""
        before = [] if self._separate is None else [self._separate]
        self._separate = np.concatenate([*before, logits[:, None]], 1)
        self._answered.append(k)
        self._average = joined(cascade, self._average, self._answered, self._separate)
        last = k + 1 == len(cascade.members)
        sure = confidence(cascade.confidence, self._average, self._separate)
        passed = np.zeros(len(sure), bool) if last else passes(sure, cascade.gates[k])
        if self._logits is None:
            self._logits = np.empty((len(self._stage), logits.shape[1]))
        self._logits[self.undecided], self._stage[self.undecided] = self._average, k
        self._disagreement[self.undecided] = disagreement(softmax(self._separate))
        self.passed[self.undecided] = passed
        self._finished[self.undecided] = passed | last
        rest = np.zeros(len(sure), bool) if last else ~passed
        self.undecided, self._average, self._separate = self.undecided[rest], self._average[rest], self._separate[rest]

    def answer(self, answers: MemberAnswers, order: tuple[str, ...]) -> CombinedAnswer:
        return combined_answer(answers, self._logits, self._disagreement, self._stage, order, self._finished)
