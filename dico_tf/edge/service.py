"""The interface between the gRPC and HTTP servers and the model they serve, and the state they share."""

import asyncio
import dataclasses
import os
import time
from collections.abc import Mapping
from typing import Protocol

from dico_tf.edge.messages import InferenceRequest, InferenceResponse
from dico_tf.edge.server.metrics import Metrics

SERVER = "dico_tf"
MIXED = "mixed"  # replaces the export's id in a response that averages members of several exports


@dataclasses.dataclass(frozen=True)
class ModelMetadata:
    """Description of a model; a tensor is (name, datatype, shape), with -1 for any size."""

    name: str
    version: str
    inputs: tuple[tuple[str, str, tuple[int, ...]], ...]
    outputs: tuple[tuple[str, str, tuple[int, ...]], ...]
    properties: Mapping[str, str]
    platform: str = "dico_tf_litert"


class ModelService(Protocol):
    """One model that a server offers: a worker's member, or a gateway's committee."""

    name: str  # of the model

    def metadata(self, model: str, version: str) -> ModelMetadata:
        """Describe the model; version "" is the current one.

        Raises EdgeError NOT_FOUND for a model or version that this server does not have.
        """
        ...

    async def infer(self, request: InferenceRequest, deadline: float) -> InferenceResponse:
        """Respond before the deadline, a time of time.monotonic, or raise EdgeError."""
        ...


class Readiness:
    """Readiness of a server. Each call of `set` fires the event `change` and puts a new one in its place.

    `ended` is True once the server stops: no further change follows. Use it in one event loop only.
    """

    def __init__(self) -> None:
        self.ready, self.ended = False, False
        self.change = asyncio.Event()

    def set(self, ready: bool, *, ended: bool = False) -> None:
        self.ready, self.ended = ready, ended
        self.change.set()
        self.change = asyncio.Event()


class RequestMetrics:
    """Counts and durations of inference requests, and the process's start and memory.

    Requests are counted by protocol, grpc or http, and by code. Both protocols have gRPC's codes, such as OK; http also
    has UNSUPPORTED_MEDIA_TYPE.
    """

    def __init__(self, metrics: Metrics):
        self._requests = metrics.counter(
            "dico_requests_total", "Inference requests that ended, by protocol and code.", "protocol", "code"
        )
        self._seconds = metrics.histogram("dico_request_seconds", "Time from request to response.", "protocol")
        self._started = time.time()
        metrics.gauge("process_start_time_seconds", "Start of the process, since 1970.", lambda: self._started)
        metrics.gauge("process_resident_memory_bytes", "Resident memory of the process.", resident_bytes)

    def add(self, protocol: str, code: str, start: float) -> None:
        """Count a request, and its duration, that ends now with `code`, e.g. OK.

        `start` is a time of time.monotonic.
        """
        self._requests.add(protocol, code)
        self._seconds.observe(time.monotonic() - start, protocol)


def resident_bytes() -> int:
    """Return the resident memory of this process; 0 if the system does not report it."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
