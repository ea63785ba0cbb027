"""What both doors, gRPC and HTTP, ask of whoever answers behind them."""

import asyncio
import dataclasses
import os
import time
from collections.abc import Mapping
from typing import Protocol

from dico_tf.edge.errors import EdgeError
from dico_tf.edge.messages import InferenceRequest, InferenceResponse
from dico_tf.edge.server.metrics import Metrics

SERVER = "dico_tf"
MIXED = "mixed"  # in place of an export's id, where members of several were averaged


@dataclasses.dataclass(frozen=True)
class ModelMetadata:
    """Of a model; tensors are (name, datatype, shape), where -1 is any size."""

    name: str
    version: str
    inputs: tuple[tuple[str, str, tuple[int, ...]], ...]
    outputs: tuple[tuple[str, str, tuple[int, ...]], ...]
    properties: Mapping[str, str]
    platform: str = "dico_tf_litert"


class ModelService(Protocol):
    name: str  # of its one model

    def metadata(self, model: str, version: str) -> ModelMetadata:
        """Or the EdgeError NOT_FOUND."""
        ...

    async def infer(self, asked: InferenceRequest, deadline: float) -> InferenceResponse:
        """By the deadline, which is absolute, of time.monotonic; or an EdgeError."""
        ...


class Readiness:
    """Is it ready? And an event that is set when that has changed. Of one event loop."""

    def __init__(self) -> None:
        self.ready, self.ended = False, False
        self.change = asyncio.Event()

    def set(self, ready: bool, *, ended: bool = False) -> None:
        self.ready, self.ended = ready, ended
        self.change.set()
        self.change = asyncio.Event()


class RequestMetrics:
    """Of requests, by the way they came and the code they were answered with."""

    def __init__(self, metrics: Metrics):
        self._requests = metrics.counter("dico_requests_total", "Inference requests answered.", "protocol", "code")
        self._seconds = metrics.histogram("dico_request_seconds", "From request to answer.", "protocol")
        self._started = time.time()
        metrics.gauge("process_start_time_seconds", "Since 1970.", lambda: self._started)
        metrics.gauge("process_resident_memory_bytes", "Memory held.", resident)

    def note(self, protocol: str, code: str, start: float) -> None:
        """A request that came at `start`, of time.monotonic."""
        self._requests.add(protocol, code)
        self._seconds.observe(time.monotonic() - start, protocol)


def resident() -> int:
    """Bytes of memory this process holds; 0 where that is not told."""
    try:
        with open("/proc/self/statm") as told:
            return int(told.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def unknown(what: str, found: str, known: str) -> EdgeError:
    return EdgeError("NOT_FOUND", f"{what} {found[:60]!r} is not here; here is {known}")
