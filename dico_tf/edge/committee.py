"""The committee as a gateway has it: members at addresses, and the rules by which their answers become one."""

import asyncio
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from dico_tf.edge import tls
from dico_tf.edge.addresses import Address
from dico_tf.edge.breaker import State
from dico_tf.edge.channels import asynchronous
from dico_tf.edge.member import HEDGES, Member
from dico_tf.edge.poll import Poll, ask_all
from dico_tf.edge.replica import Expected, Replica
from dico_tf.edge.verdict import Verdict, verdict
from dico_tf.export.manifest import Manifest

PROBED_EVERY = 0.5  # seconds
WAY_BACK = 0.1, 0.05  # of a client's time, and seconds at most, kept for the answer to reach it


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rules:
    quorum: int
    seconds: float  # until an answer is due
    hedges: float = HEDGES
    mixed_exports: bool = False


class Committee:
    def __init__(self, manifest: Manifest, members: Mapping[str, Member], rules: Rules):
        self.manifest, self.members, self.rules = manifest, members, rules

    def deadline(self, client: float = math.inf) -> float:
        """Of what is asked now, on the event loop's clock; `client`: when whoever asked stops waiting."""
        now = asyncio.get_running_loop().time()
        share, most = WAY_BACK
        return min(now + self.rules.seconds, client - min(share * max(client - now, 0.0), most))

    async def ask(self, image: np.ndarray, deadline: float) -> tuple[Poll, Verdict]:
        """image [B, H, W, 3]; raises BelowQuorum."""
        poll = await ask_all(self.members, image, deadline, self.rules.quorum)
        return poll, verdict(poll, self.manifest.average)

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


def _present(replica: Replica) -> bool:
    return replica.ready and replica.breaker.state is not State.OPEN


def convene(
    manifest: Manifest,
    addresses: Mapping[str, Sequence[Address]],
    rules: Rules,
    security: tls.Client = tls.Client(),
    token: str = "",
) -> Committee:
    """Within a running event loop, to which the channels belong."""
    members = {}
    for name, places in addresses.items():
        classes = len(manifest.member(name)["class_names"])
        export = "" if rules.mixed_exports else manifest.id
        expected = Expected(classes, export, rules.seconds * (1 - WAY_BACK[0]))
        replicas = [Replica(name, place, asynchronous(place.target, security), expected, token) for place in places]
        members[name] = Member(replicas, rules.hedges)
    return Committee(manifest, members, rules)
