"""One address of a member: its gRPC channel, circuit breaker, response times, and the checks of its answers."""

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

LOG = logging.getLogger(__name__)
PROBE_TIMEOUT = 1.0  # seconds
_LONGEST_DETAIL = 200  # characters of a member's error message that are passed on
_CAUSES = {
    grpc.StatusCode.UNAVAILABLE: Cause.UNREACHABLE,
    grpc.StatusCode.CANCELLED: Cause.UNREACHABLE,  # by the member: it is stopping and has not started the request
    grpc.StatusCode.DEADLINE_EXCEEDED: Cause.LATE,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Cause.BUSY,
    grpc.StatusCode.INTERNAL: Cause.UNUSABLE,
    grpc.StatusCode.UNKNOWN: Cause.UNUSABLE,
    grpc.StatusCode.DATA_LOSS: Cause.UNUSABLE,
}  # any other code: the member refused the request


@dataclasses.dataclass(frozen=True)
class ExpectedAnswer:
    """Requirements for a member's answers to be averaged, and the time that it normally gets to answer."""

    classes: int
    exports: Sequence[str] | None  # current and previous export, updated in place; None: any export
    usual_seconds: Callable[[], float]  # the time a member normally gets; being late after less is not its fault


class Replica:
    """One address of a member. It implements `Endpoint`, the protocol by which RemoteMember calls its addresses."""

    def __init__(
        self, name: str, address: Address, channel: grpc.aio.Channel, expected: ExpectedAnswer, token: str = ""
    ):
        self.address = address
        self.ready = False
        self.breaker = CircuitBreaker(time.monotonic)
        self.response_times = ResponseTimes()
        self._name, self._expected = name, expected
        self._channel = channel
        self._protocol: MemberProtocol = (
            TensorFlowServing(address.served_as) if address.served_as else OpenInference(name)
        )
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        # Bytes both ways: invalid answers then raise our Unusable and not an error of gRPC.
        self._infer = channel.unary_unary(self._protocol.infer_method)
        self._status = channel.unary_unary(self._protocol.probe_method)

    def hedge_after(self) -> float | None:
        """Return the seconds within which 95 % of recent answers came; None while too few came to know."""
        return self.response_times.p95()

    async def ask(self, image: np.ndarray, deadline: float) -> Outcome:
        """Return the member's vote or the cause why there is none; the deadline is on the event loop's clock."""
        now = asyncio.get_running_loop().time
        started, outcome = now(), None
        self.breaker.start_call()
        try:
            outcome = await self._ask(image, deadline - started)
            return outcome
        except asyncio.CancelledError:
            outcome = Missing(Cause.LATE) if now() >= deadline else None
            raise
        finally:
            self._record(outcome, now() - started, deadline - started)

    async def _ask(self, image: np.ndarray, timeout: float) -> Outcome:
        try:
            request = self._protocol.infer_request(image)
            content = await self._infer(request, timeout=timeout, metadata=self._metadata)
            vote = self._protocol.parse_vote(content)
        except grpc.aio.AioRpcError as error:
            return _missing(error, self.address)
        except grpc.aio.UsageError:  # the channel is being closed
            return Missing(Cause.UNREACHABLE)
        except Unusable as error:
            return Missing(Cause.UNUSABLE, str(error))
        exports = self._expected.exports
        if exports is not None and vote.known and vote.export not in exports:
            return other_export(vote.export, exports[0])
        fault = _fault(vote, len(image), self._expected.classes)
        return Missing(Cause.UNUSABLE, fault) if fault else vote

    def _record(self, outcome: Outcome | None, seconds: float, timeout: float) -> None:
        """Update response times and circuit after a call that took `seconds`, when `timeout` seconds were left for it.

        `outcome` is None if the call was cancelled before its deadline.
        """
        before = self.breaker.state
        if isinstance(outcome, Vote) or seconds > (self.hedge_after() or timeout):
            self.response_times.add(seconds)  # an unfinished call counts too: it would have taken even longer
        if isinstance(outcome, Vote):
            self.breaker.call_succeeded()
        elif outcome is None or outcome.cause not in FAULTS or (outcome.cause is Cause.LATE and self._short(timeout)):
            self.breaker.call_cancelled()
        else:
            self.breaker.call_failed()
        self._log_change(before, outcome.reason if isinstance(outcome, Missing) else "")

    def _log_change(self, before: CircuitState, reason: str) -> None:
        state = self.breaker.state
        if state is before or state is CircuitState.HALF_OPEN:
            return
        if state is CircuitState.OPEN:
            LOG.warning("%s at %s is skipped for now: it %s", self._name, self.address, reason)
        else:
            LOG.warning("%s at %s answers again", self._name, self.address)

    def _short(self, timeout: float) -> bool:
        """Return True if the client left less time than a member normally gets."""
        return timeout < self._expected.usual_seconds()

    async def probe(self) -> None:
        """Call the health check; update `ready` and the circuit. Never raises an error."""
        try:
            request = self._protocol.probe_request()
            content = await self._status(request, timeout=PROBE_TIMEOUT, metadata=self._metadata)
            self.ready = self._protocol.parse_ready(content)
        except Exception as error:  # whatever it is, the address is not ready
            LOG.debug("%s is not ready: %s", self.address, error)
            self.ready = False
        before = self.breaker.state
        self.breaker.probe_ended(self.ready)
        self._log_change(before, "is not ready")

    async def close(self) -> None:
        await self._channel.close()


def _missing(error: grpc.aio.AioRpcError, address: Address) -> Missing:
    """Return the cause of a failed call; it has the message only if a worker refused the request.

    Other messages may reveal addresses to clients.
    """
    cause = _CAUSES.get(error.code(), Cause.REFUSED)
    LOG.info("a call of %s failed: %s: %s", address, error.code().name, error.details())
    if cause is not Cause.REFUSED:
        return Missing(cause)
    detail = "" if address.served_as else f": {error.details()}"[:_LONGEST_DETAIL]  # workers' sentences name no host
    return Missing(cause, error.code().name + detail)


def other_export(export: str, expected: str) -> Missing:
    """Return the cause for a vote of an export other than the expected one. It opens no circuit."""
    return Missing(Cause.FOREIGN, f"{export or 'unknown'}, expected {expected}")


def _fault(vote: Vote, batch: int, classes: int) -> str:
    """Return the reason why a vote cannot be averaged, or "" if it can."""
    if vote.logits.dtype.kind != "f" or vote.logits.shape != (batch, classes):
        return f"its logits must be float32{[batch, classes]}, got {vote.logits.dtype}{list(vote.logits.shape)}"
    return "" if np.isfinite(vote.logits).all() else "its logits are not finite"
