"""The committee as a gateway has it: members at addresses, and the rules by which their answers become one."""

import asyncio
import dataclasses
import math
from collections.abc import Callable, Collection, Mapping, Sequence

from dico_tf.committee.decision import Committee as Cascade
from dico_tf.edge.channels import asynchronous
from dico_tf.edge.members import cascade as cascades
from dico_tf.edge.members.addresses import Address
from dico_tf.edge.members.ask_all import BelowQuorum, MemberAnswers, ask_all
from dico_tf.edge.members.combine import CombinedAnswer, verdict
from dico_tf.edge.members.member import HEDGES, RemoteMember
from dico_tf.edge.members.outcome import Images, Missing, Vote
from dico_tf.edge.members.replica import ExpectedAnswer, Replica, foreign
from dico_tf.edge.members.resilience import CircuitState
from dico_tf.edge.server import tls
from dico_tf.errors import UserError
from dico_tf.files.manifest import Manifest

PROBED_EVERY = 0.5  # seconds
WAY_BACK = 0.1, 0.05  # of a client's time, and seconds at most, kept for the answer to reach it


@dataclasses.dataclass(frozen=True, kw_only=True)
class CommitteePolicy:
    quorum: int
    seconds: float  # until an answer is due
    hedges: float = HEDGES
    mixed_exports: bool = False
    cascade: bool = True  # members are asked one after the other where the export says so


class RemoteCommittee:
    def __init__(
        self, manifest: Manifest, exports: list[str], members: Mapping[str, RemoteMember], rules: CommitteePolicy
    ):
        """`exports`: the manifest's, and the one before it: members take a new one each in its own time."""
        self.manifest, self.exports, self.members, self.rules = manifest, exports, members, rules
        self._plans = {manifest.id: cascades.plan(manifest)}  # of the exports that are known
        self._before = manifest

    def take(self, manifest: Manifest) -> None:
        """A new export in the old one's place, or a UserError where its answers would have another form."""
        if changed := _changed(self.manifest, manifest):
            raise UserError(f"the new export has another {changed}: start the gateway again for it")
        plan = cascades.plan(manifest)
        if manifest.id != self.manifest.id:
            self.exports[:] = [manifest.id, self.manifest.id]
            self._before = self.manifest
        self.manifest = manifest
        self._plans = {export: self._plans.get(export) for export in self.exports} | {manifest.id: plan}

    @property
    def plan(self) -> Cascade | None:
        """By which members are asked one after the other; None: all at once."""
        return self._plans[self.manifest.id] if self.rules.cascade else None

    @property
    def patience(self) -> float:
        """Seconds that a member has of a request whose client leaves all the time there is."""
        share, _ = WAY_BACK
        return self.rules.seconds * (1 - share) / (len(self.plan.members) if self.plan else 1)

    def source(self, exports: Collection[str]) -> Manifest:
        """Whose classes and rule answers of these exports have: the one before it where all are still of that."""
        old = self._before.id in exports and self.manifest.id not in exports
        return self._before if old else self.manifest

    def deadline(self, client: float = math.inf) -> float:
        """Of what is asked now, on the event loop's clock; `client`: when whoever asked stops waiting."""
        now = asyncio.get_running_loop().time()
        share, most = WAY_BACK
        return min(now + self.rules.seconds, client - min(share * max(client - now, 0.0), most))

    async def ask(self, images: Images, deadline: float) -> tuple[MemberAnswers, CombinedAnswer]:
        """Raises BelowQuorum."""
        if plan := self.plan:
            rules, quorum = self.rules, self.rules.quorum
            refused = {} if rules.mixed_exports else {"refused": self._foreign, "rules": lambda v: self._of(v, plan)}
            return await cascades.ask_in_turn(self.members, plan, images, deadline, quorum, **refused)
        poll = await ask_all(self.members, images, deadline, self.rules.quorum)
        if not self.rules.mixed_exports:
            poll = self._of_one_export(poll)
        source = self.source({vote.export for vote in poll.votes.values()})
        return poll, verdict(poll, source.average, cascades.together(source))

    def _foreign(self, taken: Sequence[Vote], vote: Vote) -> Missing | None:
        """While members change over, the export of the first that answered is that of the answer."""
        if not vote.known:
            return None
        ours = next((each.export for each in taken if each.known), vote.export)
        ours = ours if ours in self.exports else self.exports[0]  # two new ones may come during one request
        return foreign(vote.export, ours) if vote.export != ours else None

    def _of(self, vote: Vote, plan: Cascade) -> Cascade:
        """The rules of the vote's own export; without gates where they were fitted to others, or in another order."""
        own = self._plans.get(vote.export) if vote.known else plan
        return own if own and own.members == plan.members else cascades.closed(plan)

    def _of_one_export(self, poll: MemberAnswers) -> MemberAnswers:
        """While members change over, the export that most have answered with, or of equally many the newer."""
        found = {name: vote.export for name, vote in poll.votes.items() if vote.known}
        ours = max(self.exports, key=list(found.values()).count)
        lost = {name: export for name, export in found.items() if export != ours}
        if not lost:
            return poll
        missing = {name: foreign(export, ours) for name, export in lost.items()}
        votes = {name: vote for name, vote in poll.votes.items() if name not in lost}
        poll = MemberAnswers(votes, poll.missing | missing)
        if len(votes) < self.rules.quorum:
            raise BelowQuorum(poll, self.rules.quorum)
        return poll

    @property
    def replicas(self) -> list[Replica]:
        return [replica for member in self.members.values() for replica in member.replicas]

    @property
    def present(self) -> list[str]:
        """Members of whom an answer may be expected."""
        return [name for name, member in self.members.items() if any(map(_present, member.replicas))]

    @property
    def ready(self) -> bool:
        return len(self.present) >= self.rules.quorum

    async def watch(self, noted: Callable[[bool], None] = lambda ready: None) -> None:
        """Probes all addresses again and again, until it is cancelled; says when its readiness has changed."""
        ready = None
        while True:
            await self.probe()
            if ready != self.ready:
                ready = self.ready
                noted(ready)
            await asyncio.sleep(PROBED_EVERY)

    async def probe(self) -> None:
        await asyncio.gather(*(replica.probe() for replica in self.replicas))

    async def close(self) -> None:
        await asyncio.gather(*(replica.close() for replica in self.replicas))


def _changed(old: Manifest, new: Manifest) -> str:
    """What of its answers' form; nothing where a gateway can go on with it."""
    if new.branches != old.branches:
        return "committee"
    for name in old.branches:
        for key in ("input_size", "short_side"):
            if new.member(name).get(key) != old.member(name).get(key):
                return key
        if len(new.member(name)["class_names"]) != len(old.member(name)["class_names"]):
            return "number of classes"
    return ""


def _present(replica: Replica) -> bool:
    return replica.ready and replica.breaker.state is not CircuitState.OPEN


def connect(
    manifest: Manifest,
    addresses: Mapping[str, Sequence[Address]],
    rules: CommitteePolicy,
    security: tls.ClientTLS = tls.ClientTLS(),
    token: str = "",
) -> RemoteCommittee:
    """Within a running event loop, to which the channels belong."""
    exports: list[str] = [manifest.id]
    members: dict[str, RemoteMember] = {}
    found = RemoteCommittee(manifest, exports, members, rules)
    for name, places in addresses.items():
        classes = len(manifest.member(name)["class_names"])
        expected = ExpectedAnswer(classes, None if rules.mixed_exports else exports, lambda: found.patience)
        replicas = [Replica(name, place, asynchronous(place.target, security), expected, token) for place in places]
        members[name] = RemoteMember(replicas, rules.hedges)
    return found
