"""Prometheus metrics about the members of a gateway's committee."""

from dico_tf.edge.members.ask_all import MemberAnswers
from dico_tf.edge.members.combine import CombinedAnswer
from dico_tf.edge.members.committee import RemoteCommittee
from dico_tf.edge.members.resilience import CircuitState
from dico_tf.edge.server.metrics import Metrics

_CIRCUITS = {CircuitState.CLOSED: 0, CircuitState.HALF_OPEN: 1, CircuitState.OPEN: 2}


class MemberMetrics:
    """Counts outcomes by member, and images by the stage of a cascade; reports circuits, hedges and retries."""

    def __init__(self, metrics: Metrics, committee: RemoteCommittee):
        members = committee.members
        self._outcomes = metrics.counter(
            "dico_member_outcomes_total",
            "Outcomes of asking each member: used, or a cause.",
            "member",
            "outcome",
        )
        metrics.gauge("dico_quorum", "Members that must answer.", lambda: committee.policy.quorum)
        metrics.gauge(
            "dico_members_present",
            "Members with an address that is ready and whose circuit is not open.",
            lambda: len(committee.present),
        )
        metrics.callback(
            "dico_member_circuit",
            "Circuit of each address: 0 closed, 1 half-open, 2 open.",
            "gauge",
            "member",
            "address",
            values=lambda: {
                (name, str(replica.address)): _CIRCUITS[replica.breaker.state]
                for name, member in members.items()
                for replica in member.replicas
            },
        )
        metrics.callback(
            "dico_member_hedges_total",
            "Calls to a replica because the first address was slow.",
            "counter",
            "member",
            values=lambda: {(name,): member.hedged for name, member in members.items()},
        )
        metrics.callback(
            "dico_member_retries_total",
            "Calls repeated because an address could not be reached.",
            "counter",
            "member",
            values=lambda: {(name,): member.retried for name, member in members.items()},
        )
        self._exits = metrics.counter(
            "dico_cascade_exits_total",
            "Images of cascades by the last member that answered for them.",
            "stage",
            "member",
        )
        self._unfinished = metrics.counter(
            "dico_cascade_unfinished_total", "Images that needed a further member of the cascade that was missing."
        )

    def count(self, answers: MemberAnswers) -> None:
        """Count one outcome for each member of the answers: used, or the cause of its missing vote, such as late."""
        for name in answers.votes:
            self._outcomes.add(name, "used")
        for name, missing in answers.missing.items():
            self._outcomes.add(name, missing.cause.name.lower())

    def count_stages(self, combined: CombinedAnswer) -> None:
        """Count images by the last member that answered for them, and images that needed a missing member.

        Counts nothing if all members were asked at once.
        """
        for stage, name in enumerate(combined.order):
            if images := int((combined.stage == stage).sum()):
                self._exits.add(str(stage), name, by=images)
        if combined.finished is not None:
            self._unfinished.add(by=int((~combined.finished).sum()))
