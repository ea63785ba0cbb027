"""A member at one address: one long-lived channel, its circuit, its latencies, and the check of what it answers."""

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable, Sequence

import grpc
import numpy as np

from dico_tf.edge.members.addresses import Address
from dico_tf.edge.members.outcome import FAULTS, Cause, Missing, Outcome, Vote
from dico_tf.edge.members.protocols import MemberProtocol, OpenInference, TensorFlowServing, Unusable
from dico_tf.edge.members.resilience import CircuitBreaker, CircuitState, ResponseTimes

log = logging.getLogger(__name__)
PROBE = 1.0  # seconds a probe may take
_SHOWN = 200  # characters of a member's own words that are passed on
_WHY = {
    grpc.StatusCode.UNAVAILABLE: Cause.UNREACHABLE,
    grpc.StatusCode.CANCELLED: Cause.UNREACHABLE,  # not by us: it is stopping, and has not begun with the request
    grpc.StatusCode.DEADLINE_EXCEEDED: Cause.LATE,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Cause.BUSY,
    grpc.StatusCode.INTERNAL: Cause.UNUSABLE,
    grpc.StatusCode.UNKNOWN: Cause.UNUSABLE,
    grpc.StatusCode.DATA_LOSS: Cause.UNUSABLE,
}  # the others refuse


@dataclasses.dataclass(frozen=True)
class ExpectedAnswer:
    """What an answer must be like to be averaged."""

    classes: int
    exports: Sequence[str] | None  # that are known, as they change; None: any may be averaged
    patience: Callable[[], float]  # seconds after which being late is its fault, and not that of a hurried client


class Replica:
    def __init__(
        self, name: str, address: Address, channel: grpc.aio.Channel, expected: ExpectedAnswer, token: str = ""
    ):
        self.address = address
        self.ready = False
        self.breaker = CircuitBreaker(time.monotonic)
        self.latencies = ResponseTimes()
        self._name, self._expected = name, expected
        self._channel = channel
        self._dialect: MemberProtocol = (
            TensorFlowServing(address.served_as) if address.served_as else OpenInference(name)
        )
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._infer = channel.unary_unary(self._dialect.ask)  # bytes both ways: what cannot be parsed is ours to say
        self._status = channel.unary_unary(self._dialect.probe)

    def patience(self) -> float | None:
        """Seconds after which a replica is worth asking: 95 % of the answers have come by then."""
        return self.latencies.p95()

    async def ask(self, image: np.ndarray, deadline: float) -> Outcome:
        now = asyncio.get_running_loop().time
        started, outcome = now(), None
        self.breaker.enter()
        try:
            outcome = await self._ask(image, deadline - started)
            return outcome
        except asyncio.CancelledError:
            outcome = Missing(Cause.LATE) if now() >= deadline else None
            raise
        finally:
            self._note(outcome, now() - started, deadline - started)

    async def _ask(self, image: np.ndarray, timeout: float) -> Outcome:
        try:
            question = self._dialect.question(image)
            content = await self._infer(question, timeout=timeout, metadata=self._metadata)
            vote = self._dialect.vote(content)
        except grpc.aio.AioRpcError as error:
            return _missing(error, self.address)
        except grpc.aio.UsageError:  # the channel is being closed
            return Missing(Cause.UNREACHABLE)
        except Unusable as fault:
            return Missing(Cause.UNUSABLE, str(fault))
        known = self._expected.exports
        if known is not None and vote.known and vote.export not in known:
            return foreign(vote.export, known[0])
        fault = _fault(vote, len(image), self._expected.classes)
        return Missing(Cause.UNUSABLE, fault) if fault else vote

    def _note(self, outcome: Outcome | None, seconds: float, given: float) -> None:
        """What an address is to blame for opens its circuit; one that lost a race is not judged."""
        before = self.breaker.state
        if isinstance(outcome, Vote) or seconds > (self.patience() or given):
            self.latencies.add(seconds)  # also of what was given up late: it would have taken longer still
        if isinstance(outcome, Vote):
            self.breaker.succeeded()
        elif outcome is None or outcome.why not in FAULTS or (outcome.why is Cause.LATE and self._hurried(given)):
            self.breaker.withdrawn()
        else:
            self.breaker.failed()
        self._log_change(before, outcome.reason if isinstance(outcome, Missing) else "")

    def _log_change(self, before: CircuitState, why: str) -> None:
        state = self.breaker.state
        if state is not before and state is not CircuitState.HALF_OPEN:
            what = f"is left alone: {why}" if state is CircuitState.OPEN else "answers again"
            log.warning("%s at %s %s", self._name, self.address, what)

    def _hurried(self, given: float) -> bool:
        return given < self._expected.patience()

    async def probe(self) -> None:
        """Whether it is ready, and if so whether a rested circuit may let one request through."""
        try:
            content = await self._status(self._dialect.probing(), timeout=PROBE, metadata=self._metadata)
            self.ready = self._dialect.ready(content)
        except Exception as error:  # whatever it is, it is not ready
            log.debug("%s is not ready: %s", self.address, error)
            self.ready = False
        before = self.breaker.state
        self.breaker.probed(self.ready)
        self._log_change(before, "it is not ready")

    async def close(self) -> None:
        await self._channel.close()


def _missing(error: grpc.aio.AioRpcError, address: Address) -> Missing:
    """In our words: gRPC's name addresses, which are nobody's business."""
    why = _WHY.get(error.code(), Cause.REFUSED)
    log.info("%s: %s: %s", address, error.code().name, error.details())
    if why is not Cause.REFUSED:
        return Missing(why)
    said = "" if address.served_as else f": {error.details()}"[:_SHOWN]  # a worker's sentences name no host
    return Missing(why, error.code().name + said)


def foreign(export: str, ours: str) -> Missing:
    """Nobody's fault while members change over to a new export: it opens no circuit."""
    return Missing(Cause.FOREIGN, f"{export or 'unknown'}, the committee of {ours}")


def _fault(vote: Vote, batch: int, classes: int) -> str:
    """Why a vote cannot be averaged; nothing where it can."""
    if vote.logits.dtype.kind != "f" or vote.logits.shape != (batch, classes):
        found = f"{vote.logits.dtype}{list(vote.logits.shape)}"
        return f"its logits are {found}, expected float32{[batch, classes]}"
    return "" if np.isfinite(vote.logits).all() else "its logits are not finite"
