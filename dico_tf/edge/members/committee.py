"""A committee over the network: its members, the export it serves, and the rules for combining their answers."""

import asyncio
import dataclasses
import math
from collections.abc import Callable, Collection, Mapping, Sequence

from dico_tf.committee.decision import Committee as Cascade
from dico_tf.edge.channels import async_channel
from dico_tf.edge.members.addresses import Address
from dico_tf.edge.members.ask_all import BelowQuorum, MemberAnswers, ask_all
from dico_tf.edge.members.cascade import ask_in_turn, load_cascade, load_weighted_committee, without_gates
from dico_tf.edge.members.combine import CombinedAnswer, combine_answers
from dico_tf.edge.members.member import HEDGE_SHARE, RemoteMember
from dico_tf.edge.members.outcome import Images, Missing, Vote
from dico_tf.edge.members.replica import ExpectedAnswer, Replica, other_export
from dico_tf.edge.members.resilience import CircuitState
from dico_tf.edge.server import tls
from dico_tf.errors import UserError
from dico_tf.files.manifest import Manifest

PROBE_SECONDS = 0.5  # time between health checks
RETURN_SHARE, RETURN_SECONDS = 0.1, 0.05  # time reserved for the response: share of the client's, and most


@dataclasses.dataclass(frozen=True, kw_only=True)
class CommitteePolicy:
    """When a gateway answers, and with which members."""

    quorum: int
    seconds: float  # after which a quorum of members answers alone
    hedge_share: float = HEDGE_SHARE  # share of the calls to a member that may also go to its next address
    mixed_exports: bool = False  # average answers of members that serve different exports
    cascade: bool = True  # use the export's cascade if it has one


class RemoteCommittee:
    """The members of a committee and the export whose answers they give.

    Args:
        manifest: the current export.
        exports: ids of the current and the previous export, because members change over one by one. Every Replica
            checks answers against this list, which is updated in place.
        members: by name, in the committee's order.
        policy: quorum, deadline, and use of the cascade.
    """

    def __init__(
        self, manifest: Manifest, exports: list[str], members: Mapping[str, RemoteMember], policy: CommitteePolicy
    ):
        self.manifest, self.exports, self.members, self.policy = manifest, exports, members, policy
        self._cascades = {manifest.id: load_cascade(manifest)}  # by export
        self._previous = manifest

    def switch_export(self, manifest: Manifest) -> None:
        """Serve a new export.

        Raises UserError if it has other members, other input sizes, another number of classes, or invalid gates or
        weights.
        """
        if change := _change(self.manifest, manifest):
            raise UserError(f"the new export has another {change}: restart the gateway to serve it")
        cascade = load_cascade(manifest)
        if manifest.id != self.manifest.id:
            self.exports[:] = [manifest.id, self.manifest.id]
            self._previous = self.manifest
        self.manifest = manifest
        self._cascades = {export: self._cascades.get(export) for export in self.exports} | {manifest.id: cascade}

    @property
    def cascade(self) -> Cascade | None:
        """The current export's cascade; None if all members are asked at once."""
        return self._cascades[self.manifest.id] if self.policy.cascade else None

    @property
    def member_seconds(self) -> float:
        """Seconds that a member normally gets: 90 % of `policy.seconds`, shared equally by the members of a cascade."""
        return self.policy.seconds * (1 - RETURN_SHARE) / (len(self.cascade.members) if self.cascade else 1)

    def manifest_of(self, exports: Collection[str]) -> Manifest:
        """Return the manifest for answers of these exports.

        It is the previous one if its id is among them and the current one's is not; else the current one.
        """
        previous = self._previous.id in exports and self.manifest.id not in exports
        return self._previous if previous else self.manifest

    def deadline(self, client: float = math.inf) -> float:
        """Return the deadline for the members of a request that starts now.

        It is `policy.seconds` from now, or shortly before the client's deadline if that is earlier: a tenth of the
        client's time, at most RETURN_SECONDS, is left for the response. Both are on the event loop's clock.
        """
        now = asyncio.get_running_loop().time()
        return min(now + self.policy.seconds, client - min(RETURN_SHARE * max(client - now, 0.0), RETURN_SECONDS))

    async def ask(self, images: Images, deadline: float) -> tuple[MemberAnswers, CombinedAnswer]:
        """Return the members' answers and their combination; the deadline is on the event loop's clock.

        Raises BelowQuorum if too few votes can be used.
        """
        policy = self.policy
        if cascade := self.cascade:
            rules = {"reject": self._reject, "cascade_for": lambda vote: self._cascade_for(vote, cascade)}
            rules = {} if policy.mixed_exports else rules
            return await ask_in_turn(self.members, cascade, images, deadline, policy.quorum, **rules)
        answers = await ask_all(self.members, images, deadline, policy.quorum)
        if not policy.mixed_exports:
            answers = self._one_export(answers)
        source = self.manifest_of({vote.export for vote in answers.votes.values()})
        return answers, combine_answers(answers, source.average, load_weighted_committee(source))

    def _reject(self, accepted: Sequence[Vote], vote: Vote) -> Missing | None:
        """Return the cause if a vote is of another export than the request's first vote; None if the vote counts.

        The first vote counts if its export is one of `exports`. Votes of TensorFlow Serving always count: they name
        no export.
        """
        if not vote.known:
            return None
        first = next((each.export for each in accepted if each.known), None)
        if first is None:
            first = vote.export if vote.export in self.exports else self.exports[0]
        return other_export(vote.export, first) if vote.export != first else None

    def _cascade_for(self, vote: Vote, cascade: Cascade) -> Cascade:
        """Return the cascade of the vote's export; `cascade` itself if the vote names no export.

        If that export has no cascade, or one with members in another order, returns `cascade` without gates.
        """
        own = self._cascades.get(vote.export) if vote.known else cascade
        return own if own and own.members == cascade.members else without_gates(cascade)

    def _one_export(self, answers: MemberAnswers) -> MemberAnswers:
        """Return the answers with only the votes of one export; the others count as missing.

        It is the export with most votes, at a tie the one loaded last. Votes that name no export are not removed.
        Raises BelowQuorum if fewer votes than the quorum remain.
        """
        exports = {name: vote.export for name, vote in answers.votes.items() if vote.known}
        chosen = max(self.exports, key=list(exports.values()).count)
        others = {name: export for name, export in exports.items() if export != chosen}
        if not others:
            return answers
        missing = {name: other_export(export, chosen) for name, export in others.items()}
        votes = {name: vote for name, vote in answers.votes.items() if name not in others}
        answers = MemberAnswers(votes, answers.missing | missing)
        if len(votes) < self.policy.quorum:
            raise BelowQuorum(answers, self.policy.quorum)
        return answers

    @property
    def replicas(self) -> list[Replica]:
        """All addresses of all members."""
        return [replica for member in self.members.values() for replica in member.replicas]

    @property
    def present(self) -> list[str]:
        """Members with an address that is ready and whose circuit is not open."""
        return [name for name, member in self.members.items() if any(map(_present, member.replicas))]

    @property
    def ready(self) -> bool:
        return len(self.present) >= self.policy.quorum

    async def watch(self, on_change: Callable[[bool], None] = lambda ready: None) -> None:
        """Probe all addresses until cancelled; give `on_change` the readiness after the first probe and each change."""
        ready = None
        while True:
            await self.probe()
            if ready != self.ready:
                ready = self.ready
                on_change(ready)
            await asyncio.sleep(PROBE_SECONDS)

    async def probe(self) -> None:
        """Call the health check of every address once."""
        await asyncio.gather(*(replica.probe() for replica in self.replicas))

    async def close(self) -> None:
        await asyncio.gather(*(replica.close() for replica in self.replicas))


def _change(old: Manifest, new: Manifest) -> str:
    """Return the difference that a running gateway cannot follow, or ""."""
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
    policy: CommitteePolicy,
    security: tls.ClientTLS = tls.ClientTLS(),
    token: str = "",
) -> RemoteCommittee:
    """Open channels to all members. Call it in the running event loop that will use them.

    Args:
        manifest: the export that members are to serve.
        addresses: by member; the first one is preferred.
        policy: as in RemoteCommittee.
        security: TLS to the members; by default none.
        token: bearer token to send to members; "" = none.
    """
    exports: list[str] = [manifest.id]
    members: dict[str, RemoteMember] = {}
    committee = RemoteCommittee(manifest, exports, members, policy)
    for name, places in addresses.items():
        classes = len(manifest.member(name)["class_names"])
        accepted = None if policy.mixed_exports else exports
        expected = ExpectedAnswer(classes, accepted, lambda: committee.member_seconds)
        replicas = [Replica(name, place, async_channel(place.target, security), expected, token) for place in places]
        members[name] = RemoteMember(replicas, policy.hedge_share)
    return committee
