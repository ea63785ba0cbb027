"""Members are asked one after the other, and only about the images that those before were unsure of."""

import asyncio
from collections.abc import Callable, Mapping

import numpy as np

from dico_tf.committee import words
from dico_tf.committee.confidence import confidence
from dico_tf.committee.decision import NEVER, Committee, joined, passes
from dico_tf.edge.members.ask_all import BelowQuorum, MemberAnswers, Voter, ask_all
from dico_tf.edge.members.combine import CombinedAnswer, told
from dico_tf.edge.members.outcome import Images, Missing, Outcome, Vote, count, of
from dico_tf.errors import UserError
from dico_tf.evaluation.averaging import disagreement, softmax
from dico_tf.files.manifest import COMMITTEE, Manifest

Refused = Callable[
    [list[Vote], Vote], Missing | None
]  # (those taken, another) -> why that cannot be averaged with them


def plan(manifest: Manifest) -> Committee | None:
    """The cascade of an export; UserError where what it says is none."""
    together(manifest)  # or it would be refused by the first request only
    said = manifest.content[COMMITTEE].get("cascade")
    if said is None:
        return None
    try:
        found = words.committee(said if isinstance(said, dict) else {})
    except UserError as fault:
        raise UserError(f"the cascade of the export {manifest.folder} cannot be followed: {fault}") from None
    if strangers := [name for name in found.members if name not in manifest.branches]:
        raise UserError(
            f"the cascade of the export {manifest.folder} asks {strangers[0]!r}, which is not on its committee"
        )
    return found


def together(manifest: Manifest) -> Committee | None:
    """Of an export whose members are weighted, or have temperatures, also where all are asked; None: equal ones."""
    said = manifest.content[COMMITTEE]
    if not (said.get("weights") or said.get("temperatures")):
        return None
    given = {key: said.get(key, []) for key in ("weights", "temperatures")}
    gates = ["never"] * (len(manifest.branches) - 1)
    try:
        return words.committee({**said, **given, "gates": gates, "confidence": "max_prob"}, "members")
    except UserError as fault:
        raise UserError(f"the committee of the export {manifest.folder} cannot be followed: {fault}") from None


def closed(committee: Committee) -> Committee:
    """All its members are asked: where gates of other networks say nothing."""
    return Committee(
        members=committee.members, gates=(NEVER,) * len(committee.gates), confidence=committee.confidence,
        average=committee.average, weights=committee.weights, temperatures=committee.temperatures,
    )  # fmt: skip


async def ask_in_turn(
    members: Mapping[str, Voter], cascade: Committee, images: Images, deadline: float, quorum: int,
    refused: Refused = lambda taken, vote: None, rules: Callable[[Vote], Committee] | None = None,
) -> tuple[MemberAnswers, CombinedAnswer]:  # fmt: skip
    """Raises BelowQuorum where an image passed no gate and too few members have answered.

    Each member may take its share of the time that is left, those after it taken into account. One that is late or
    missing is passed over: its gate is not asked, and the running answer is of the others. `rules`: whose gates,
    weights and temperatures hold, by the first vote; they have the cascade's order.
    """
    order = cascade.members
    votes: dict[str, Vote] = {}
    missing: dict[str, Missing] = {}
    state = _State(count(images))
    for k, name in enumerate(order):
        if not len(state.going):
            break
        now = asyncio.get_running_loop().time()
        until = now + (deadline - now) / (len(order) - k)
        image = of(images, name)
        part = image if len(state.going) == len(image) else image[state.going]
        outcome = await _asked(name, members[name], part, until)
        if isinstance(outcome, Vote):
            outcome = refused(list(votes.values()), outcome) or outcome
        if isinstance(outcome, Missing):
            missing[name] = outcome
            continue
        cascade = rules(outcome) if rules and not votes else cascade
        votes[name] = outcome
        state.take(cascade, k, outcome.logits)
    poll, enough = MemberAnswers(votes, missing), min(quorum, len(order))
    unsure = len(state.going) or (~state.passed).any()
    if not votes or (unsure and len(votes) < enough):
        raise BelowQuorum(poll, enough)
    return poll, state.verdict(poll, order)


async def _asked(name: str, member: Voter, image: np.ndarray, until: float) -> Outcome:
    found = await ask_all({name: member}, image, until, quorum=0)
    return found.votes.get(name) or found.missing[name]


class _State:
    """Of the images of one request; those that go on have all been seen by the same members."""

    def __init__(self, count: int):
        self.going = np.arange(count)
        self.passed = np.zeros(count, bool)  # a gate
        self._finished = np.zeros(count, bool)  # at a gate or by the last member
        self._stage, self._disagreement = np.zeros(count, np.int64), np.zeros(count)
        self._logits: np.ndarray | None = None  # float64 [B, C]
        self._answer: np.ndarray | None = None  # of those that go on, by the members that answered
        self._apart: np.ndarray | None = None
        self._answered: list[int] = []

    def take(self, cascade: Committee, k: int, logits: np.ndarray) -> None:
        """What member k says about the images that go on."""
        self._answer = joined(cascade, self._answer, self._answered, k, logits)
        apart = [logits[:, None]] if self._apart is None else [self._apart, logits[:, None]]
        self._apart = np.concatenate(apart, 1)
        self._answered.append(k)
        last = k + 1 == len(cascade.members)
        sure = confidence(cascade.confidence, self._answer, self._apart)
        passed = np.zeros(len(sure), bool) if last else passes(sure, cascade.gates[k])
        if self._logits is None:
            self._logits = np.empty((len(self._stage), logits.shape[1]))
        self._logits[self.going], self._stage[self.going] = self._answer, k
        self._disagreement[self.going] = disagreement(softmax(self._apart))
        self.passed[self.going] = passed
        self._finished[self.going] = passed | last
        kept = np.zeros(len(sure), bool) if last else ~passed
        self.going, self._answer, self._apart = self.going[kept], self._answer[kept], self._apart[kept]

    def verdict(self, poll: MemberAnswers, order: tuple[str, ...]) -> CombinedAnswer:
        return told(poll, self._logits, self._disagreement, self._stage, order, self._finished)
