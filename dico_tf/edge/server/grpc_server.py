"""The gRPC door: the Open Inference Protocol and the health protocol, before any service."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
from google.protobuf.message import Message

from dico_tf import __version__
from dico_tf.edge import channels, messages
from dico_tf.edge.errors import EdgeError
from dico_tf.edge.server import access
from dico_tf.edge.server.limits import ConcurrencyLimit
from dico_tf.edge.service import SERVER, ModelService, Readiness, RequestMetrics, unknown
from dico_tf.wire import health_pb2, inference_pb2

LOG = logging.getLogger(__name__)
INFERENCE, HEALTH = "inference.GRPCInferenceService", "grpc.health.v1.Health"
PUBLIC = frozenset({
    f"/{INFERENCE}/ServerLive", f"/{INFERENCE}/ServerReady", f"/{HEALTH}/Check", f"/{HEALTH}/Watch",
})  # need no token: whoever balances loads has none  # fmt: skip
UPLOAD_SECONDS = 20.0  # in all, for the message of a request
STRANGERS = WATCHERS = 16  # calls of public methods at once: who has no token cannot take the others' places
Context = grpc.aio.ServicerContext
_SERVING = health_pb2.HealthCheckResponse


class TokenInterceptor(grpc.aio.ServerInterceptor):
    """Asks for `authorization: Bearer TOKEN`; a call without it is refused before any of its message is read."""

    def __init__(self, token: str):
        self._token = token

    async def intercept_service(self, continuation, details):
        sent = dict(details.invocation_metadata or ()).get("authorization", "")
        text = sent if isinstance(sent, str) else ""
        if details.method in PUBLIC or access.allowed(text, self._token):
            return await continuation(details)

        async def refuse(_, context: Context) -> None:
            fault = access.unauthenticated()
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, fault.sentence)

        return grpc.stream_unary_rpc_method_handler(refuse)


class InferenceServicer:
    """The methods of GRPCInferenceService; a message is read by us, so that garbage is answered with a sentence."""

    def __init__(
        self,
        service: ModelService,
        readiness: Readiness,
        numbers: RequestMetrics,
        default_seconds: float,
        strangers: ConcurrencyLimit,
    ):
        self._service, self._readiness, self._numbers = service, readiness, numbers
        self._default_seconds, self._strangers = default_seconds, strangers
        self.inside = 0  # requests that are not answered yet

    def handler(self) -> grpc.GenericRpcHandler:
        m = inference_pb2
        methods = {
            "ServerLive": _unary(m.ServerLiveRequest, self._live, self._strangers),
            "ServerReady": _unary(m.ServerReadyRequest, self._server_ready, self._strangers),
            "ModelReady": _unary(m.ModelReadyRequest, self._model_ready),
            "ServerMetadata": _unary(m.ServerMetadataRequest, self._server_metadata),
            "ModelMetadata": _unary(m.ModelMetadataRequest, self._model_metadata),
            "ModelInfer": grpc.stream_unary_rpc_method_handler(self._infer),
        }
        return grpc.method_handlers_generic_handler(INFERENCE, methods)

    async def _live(self, _) -> Message:
        return inference_pb2.ServerLiveResponse(live=True)

    async def _server_ready(self, _) -> Message:
        return inference_pb2.ServerReadyResponse(ready=self._readiness.ready)

    async def _model_ready(self, asked: inference_pb2.ModelReadyRequest) -> Message:
        self._service.metadata(asked.name, asked.version)
        return inference_pb2.ModelReadyResponse(ready=self._readiness.ready)

    async def _server_metadata(self, _) -> Message:
        return inference_pb2.ServerMetadataResponse(name=SERVER, version=__version__)

    async def _model_metadata(self, asked: inference_pb2.ModelMetadataRequest) -> Message:
        found = self._service.metadata(asked.name, asked.version)
        inputs, outputs = (
            [inference_pb2.TensorMetadata(name=name, datatype=datatype, shape=shape) for name, datatype, shape in side]
            for side in (found.inputs, found.outputs)
        )
        return inference_pb2.ModelMetadataResponse(
            name=found.name, versions=[found.version], platform=found.platform, inputs=inputs, outputs=outputs,
            properties=dict(found.properties),
        )  # fmt: skip

    async def _infer(self, contents: AsyncIterator[bytes], context: Context) -> bytes:
        self.inside += 1
        try:
            return await self._answered(contents, context)
        finally:
            self.inside -= 1

    async def _answered(self, contents: AsyncIterator[bytes], context: Context) -> bytes:
        start, left = time.monotonic(), context.time_remaining()
        seconds = self._default_seconds if left is None else left
        code, said = "OK", b""
        try:
            said = await self._answer(await _message(contents, seconds), start + seconds)
        except EdgeError as fault:
            code, said = fault.code, fault.sentence
        except asyncio.CancelledError:  # whoever asked has gone
            self._numbers.note("grpc", "CANCELLED", start)
            raise
        except Exception:
            LOG.exception("a request failed")
            code, said = "INTERNAL", "internal error"
        self._numbers.note("grpc", code, start)
        if code != "OK":
            await _abort(context, code, said)
        return said

    async def _answer(self, content: bytes, deadline: float) -> bytes:
        asked = messages.request_from_message(messages.parse_message(inference_pb2.ModelInferRequest, content))
        return messages.response_to_message(await self._service.infer(asked, deadline)).SerializeToString()


async def _message(contents: AsyncIterator[bytes], seconds: float = UPLOAD_SECONDS) -> bytes:
    """A call's one message. Methods are handled as streams, so that it is read here, and not for ever."""
    try:
        async with asyncio.timeout(min(seconds, UPLOAD_SECONDS)):
            return await anext(contents)
    except StopAsyncIteration:
        raise EdgeError("INVALID_ARGUMENT", "the request has no message") from None
    except TimeoutError:
        raise EdgeError("DEADLINE_EXCEEDED", "the request took too long to arrive") from None


def _unary(
    kind: type[Message],
    method: Callable[..., Awaitable[Message]],
    gate: ConcurrencyLimit | None = None,
) -> grpc.RpcMethodHandler:

    async def call(contents: AsyncIterator[bytes], context: Context) -> bytes:
        try:
            with gate.entered() if gate else contextlib.nullcontext():
                return (await method(messages.parse_message(kind, await _message(contents)))).SerializeToString()
        except EdgeError as found:
            fault = found
        await _abort(context, fault.code, fault.sentence)

    return grpc.stream_unary_rpc_method_handler(call)


async def _abort(context: Context, code: str, said: str) -> None:
    try:
        await context.abort(grpc.StatusCode[code], said)
    except grpc.aio.AbortError:
        raise
    except Exception:  # the call has ended already, e.g. because its message is too long
        raise asyncio.CancelledError from None


class HealthServicer:
    """The health of the server, and of its model and the inference service by their names."""

    def __init__(self, service: ModelService, readiness: Readiness, strangers: ConcurrencyLimit):
        self._readiness, self._known = readiness, ("", service.name, INFERENCE)
        self._strangers, self._watchers = strangers, ConcurrencyLimit(WATCHERS)

    def handler(self) -> grpc.GenericRpcHandler:
        methods = {
            "Check": _unary(health_pb2.HealthCheckRequest, self._check, self._strangers),
            "Watch": grpc.stream_stream_rpc_method_handler(self._watch),
        }
        return grpc.method_handlers_generic_handler(HEALTH, methods)

    def _status(self) -> Message:
        return _SERVING(status=_SERVING.SERVING if self._readiness.ready else _SERVING.NOT_SERVING)

    async def _check(self, asked: health_pb2.HealthCheckRequest) -> Message:
        if asked.service not in self._known:
            raise unknown("the service", asked.service, self._known[1])
        return self._status()

    async def _watch(self, contents: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        try:
            with self._watchers.entered():
                asked = messages.parse_message(health_pb2.HealthCheckRequest, await _message(contents))
                async for status in self._changes(asked.service in self._known):
                    yield status.SerializeToString()
                return
        except EdgeError as found:
            fault = found
        await _abort(context, fault.code, fault.sentence)

    async def _changes(self, known: bool) -> AsyncIterator[Message]:
        """What is so now, and whatever becomes of it until the server ends."""
        while True:
            change = self._readiness.change
            yield self._status() if known else _SERVING(status=_SERVING.SERVICE_UNKNOWN)
            if self._readiness.ended:
                return
            await change.wait()


def server(most: int, request_bytes: int, token: str) -> grpc.aio.Server:
    """Which answers at most so many calls at once, and reads no longer message."""
    return grpc.aio.server(
        interceptors=[TokenInterceptor(token)] if token else [],
        maximum_concurrent_rpcs=most + STRANGERS + WATCHERS,
        options=[
            ("grpc.max_receive_message_length", request_bytes),
            ("grpc.so_reuseport", 0),  # a port that is taken must be refused, not shared
            ("grpc.max_metadata_size", 16 * 2**10),
            ("grpc.max_concurrent_streams", most + STRANGERS + WATCHERS),
            ("grpc.max_allowed_incoming_connections", 4 * most),
            ("grpc.server_handshake_timeout_ms", 10_000),
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", channels.KEEPALIVE_MS // 2),  # or it hangs up on them
        ],
    )
