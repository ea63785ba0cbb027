"""What the members do, in numbers: what an operator looks at when the committee gets smaller."""

from dico_tf.edge.members.ask_all import MemberAnswers
from dico_tf.edge.members.combine import CombinedAnswer
from dico_tf.edge.members.committee import RemoteCommittee
from dico_tf.edge.members.resilience import CircuitState
from dico_tf.edge.server.metrics import Metrics

_CIRCUITS = {CircuitState.CLOSED: 0, CircuitState.HALF_OPEN: 1, CircuitState.OPEN: 2}


class MemberMetrics:
    def __init__(self, numbers: Metrics, committee: RemoteCommittee):
        members = committee.members
        self._outcomes = numbers.counter(
            "dico_member_outcomes_total", "What came of asking each member.", "member", "outcome"
        )
        numbers.gauge("dico_quorum", "Members that must answer.", lambda: committee.rules.quorum)
        numbers.gauge("dico_members_present", "Members of whom an answer may be expected.",
                      lambda: len(committee.present))  # fmt: skip
        numbers.read(
            "dico_member_circuit", "Of each address: 0 closed, 1 half-open, 2 open.", "gauge", "member", "address",
            values=lambda: {(name, str(replica.address)): _CIRCUITS[replica.breaker.state]
                            for name, member in members.items() for replica in member.replicas},
        )  # fmt: skip
        numbers.read(
            "dico_member_hedges_total", "Calls to a replica because the first address was slow.", "counter", "member",
            values=lambda: {(name,): member.hedged for name, member in members.items()},
        )  # fmt: skip
        numbers.read(
            "dico_member_retries_total", "Calls again because an address could not be reached.", "counter", "member",
            values=lambda: {(name,): member.retried for name, member in members.items()},
        )  # fmt: skip

        self._exits = numbers.counter(
            "dico_cascade_exits_total", "Images by the last member whose answer they have, asked in turn.", "stage",
            "member",
        )  # fmt: skip
        self._unfinished = numbers.counter(
            "dico_cascade_unfinished_total", "Images that would have gone on to a member that was missing."
        )

    def exits(self, told: CombinedAnswer) -> None:
        """Where images stopped whose members were asked one after the other."""
        for stage, name in enumerate(told.order):
            if images := int((told.stage == stage).sum()):
                self._exits.add(str(stage), name, by=images)
        if told.finished is not None:
            self._unfinished.add(by=int((~told.finished).sum()))

    def count(self, poll: MemberAnswers) -> None:
        for name in poll.votes:
            self._outcomes.add(name, "used")
        for name, missing in poll.missing.items():
            self._outcomes.add(name, missing.why.name.lower())
