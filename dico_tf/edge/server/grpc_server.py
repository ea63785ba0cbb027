"""gRPC services of a model: the Open Inference Protocol, and gRPC health checks."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
from google.protobuf.message import Message

from dico_tf import __version__
from dico_tf.edge import channels, messages
from dico_tf.edge.errors import EdgeError, not_found
from dico_tf.edge.server import access
from dico_tf.edge.server.limits import ConcurrencyLimit
from dico_tf.edge.service import SERVER, ModelService, Readiness, RequestMetrics
from dico_tf.wire import health_pb2, inference_pb2

LOG = logging.getLogger(__name__)
INFERENCE, HEALTH = "inference.GRPCInferenceService", "grpc.health.v1.Health"
PUBLIC = frozenset(
    {
        f"/{INFERENCE}/ServerLive",
        f"/{INFERENCE}/ServerReady",
        f"/{HEALTH}/Check",
        f"/{HEALTH}/Watch",
    }
)  # need no token: load balancers have none
UPLOAD_SECONDS = 20.0  # for the whole message of a request
PUBLIC_CALLS = WATCHERS = 16  # calls at once to methods without a token; they take no places from inference
Context = grpc.aio.ServicerContext
_SERVING = health_pb2.HealthCheckResponse


class TokenInterceptor(grpc.aio.ServerInterceptor):
    """Refuses calls without `authorization: Bearer TOKEN` before their message is read; methods in PUBLIC need none."""

    def __init__(self, token: str):
        self._token = token

    async def intercept_service(self, continuation, details):
        value = dict(details.invocation_metadata or ()).get("authorization", "")
        header = value if isinstance(value, str) else ""
        if details.method in PUBLIC or access.allowed(header, self._token):
            return await continuation(details)

        async def refuse(_, context: Context) -> None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, access.unauthenticated().sentence)

        return grpc.stream_unary_rpc_method_handler(refuse)


class InferenceServicer:
    """The methods of GRPCInferenceService.

    Messages are parsed here and not by gRPC, so that a client that sends invalid bytes gets an error sentence.
    """

    def __init__(
        self,
        service: ModelService,
        readiness: Readiness,
        request_metrics: RequestMetrics,
        default_seconds: float,
        public_limit: ConcurrencyLimit,
    ):
        self._service, self._readiness, self._request_metrics = service, readiness, request_metrics
        self._default_seconds, self._public_limit = default_seconds, public_limit
        self.active = 0  # inference requests without a response yet

    def handler(self) -> grpc.GenericRpcHandler:
        m = inference_pb2
        methods = {
            "ServerLive": _unary(m.ServerLiveRequest, self._live, self._public_limit),
            "ServerReady": _unary(m.ServerReadyRequest, self._server_ready, self._public_limit),
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

    async def _model_ready(self, request: inference_pb2.ModelReadyRequest) -> Message:
        self._service.metadata(request.name, request.version)
        return inference_pb2.ModelReadyResponse(ready=self._readiness.ready)

    async def _server_metadata(self, _) -> Message:
        return inference_pb2.ServerMetadataResponse(name=SERVER, version=__version__)

    async def _model_metadata(self, request: inference_pb2.ModelMetadataRequest) -> Message:
        metadata = self._service.metadata(request.name, request.version)
        inputs, outputs = (
            [inference_pb2.TensorMetadata(name=name, datatype=datatype, shape=shape) for name, datatype, shape in side]
            for side in (metadata.inputs, metadata.outputs)
        )
        return inference_pb2.ModelMetadataResponse(
            name=metadata.name,
            versions=[metadata.version],
            platform=metadata.platform,
            inputs=inputs,
            outputs=outputs,
            properties=dict(metadata.properties),
        )

    async def _infer(self, contents: AsyncIterator[bytes], context: Context) -> bytes:
        self.active += 1
        try:
            return await self._respond(contents, context)
        finally:
            self.active -= 1

    async def _respond(self, contents: AsyncIterator[bytes], context: Context) -> bytes:
        start, remaining = time.monotonic(), context.time_remaining()
        seconds = self._default_seconds if remaining is None else remaining
        code, sentence, response = "OK", "", b""
        try:
            response = await self._answer(await _message(contents, seconds), start + seconds)
        except EdgeError as error:
            code, sentence = error.code, error.sentence
        except asyncio.CancelledError:  # the client has gone
            self._request_metrics.add("grpc", "CANCELLED", start)
            raise
        except Exception:
            LOG.exception("a request failed with an unexpected error")
            code, sentence = "INTERNAL", "internal error"
        self._request_metrics.add("grpc", code, start)
        if code != "OK":
            await _abort(context, code, sentence)
        return response

    async def _answer(self, content: bytes, deadline: float) -> bytes:
        request = messages.request_from_message(messages.parse_message(inference_pb2.ModelInferRequest, content))
        return messages.response_to_message(await self._service.infer(request, deadline)).SerializeToString()


async def _message(contents: AsyncIterator[bytes], seconds: float = UPLOAD_SECONDS) -> bytes:
    """Read the one message of a call. Raises EdgeError if there is none within `seconds`, at most UPLOAD_SECONDS.

    Methods are registered as streams, so that this timeout can apply.
    """
    try:
        async with asyncio.timeout(min(seconds, UPLOAD_SECONDS)):
            return await anext(contents)
    except StopAsyncIteration:
        raise EdgeError("INVALID_ARGUMENT", "the request contains no message") from None
    except TimeoutError:
        raise EdgeError("DEADLINE_EXCEEDED", "the request took too long to arrive") from None


def _unary(
    kind: type[Message],
    method: Callable[..., Awaitable[Message]],
    limit: ConcurrencyLimit | None = None,
) -> grpc.RpcMethodHandler:
    """Make a handler of one request message; `method` gets it parsed and returns the response message.

    Calls above the `limit` are refused.
    """

    async def call(contents: AsyncIterator[bytes], context: Context) -> bytes:
        try:
            with limit.entered() if limit else contextlib.nullcontext():
                return (await method(messages.parse_message(kind, await _message(contents)))).SerializeToString()
        except EdgeError as raised:
            error = raised
        await _abort(context, error.code, error.sentence)

    return grpc.stream_unary_rpc_method_handler(call)


async def _abort(context: Context, code: str, sentence: str) -> None:
    """End a call with an error."""
    try:
        await context.abort(grpc.StatusCode[code], sentence)
    except grpc.aio.AbortError:
        raise
    except Exception:  # the call has ended already, e.g. because its message is too long
        raise asyncio.CancelledError from None


class HealthServicer:
    """The gRPC health service. Known services: "" (the server), the model's name, and the inference service."""

    def __init__(self, service: ModelService, readiness: Readiness, public_limit: ConcurrencyLimit):
        self._readiness, self._names = readiness, ("", service.name, INFERENCE)
        self._public_limit, self._watchers = public_limit, ConcurrencyLimit(WATCHERS)

    def handler(self) -> grpc.GenericRpcHandler:
        methods = {
            "Check": _unary(health_pb2.HealthCheckRequest, self._check, self._public_limit),
            "Watch": grpc.stream_stream_rpc_method_handler(self._watch),
        }
        return grpc.method_handlers_generic_handler(HEALTH, methods)

    def _status(self) -> Message:
        return _SERVING(status=_SERVING.SERVING if self._readiness.ready else _SERVING.NOT_SERVING)

    async def _check(self, request: health_pb2.HealthCheckRequest) -> Message:
        if request.service not in self._names:
            raise not_found("service", request.service, self._names[1])
        return self._status()

    async def _watch(self, contents: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        try:
            with self._watchers.entered():
                request = messages.parse_message(health_pb2.HealthCheckRequest, await _message(contents))
                async for status in self._changes(request.service in self._names):
                    yield status.SerializeToString()
                return
        except EdgeError as raised:
            error = raised
        await _abort(context, error.code, error.sentence)

    async def _changes(self, exists: bool) -> AsyncIterator[Message]:
        """Yield the current status, and every new status until the server stops; SERVICE_UNKNOWN unless `exists`."""
        while True:
            change = self._readiness.change
            yield self._status() if exists else _SERVING(status=_SERVING.SERVICE_UNKNOWN)
            if self._readiness.ended:
                return
            await change.wait()


def create(most: int, request_bytes: int, token: str) -> grpc.aio.Server:
    """Return a gRPC server without services yet.

    Args:
        most: inference calls that it can take at once; there is extra room for health checks.
        request_bytes: most bytes of a message.
        token: bearer token that calls must carry, except those in PUBLIC; "" = none.
    """
    return grpc.aio.server(
        interceptors=[TokenInterceptor(token)] if token else [],
        maximum_concurrent_rpcs=most + PUBLIC_CALLS + WATCHERS,
        options=[
            ("grpc.max_receive_message_length", request_bytes),
            ("grpc.so_reuseport", 0),  # a port in use is an error, not shared with the other process
            ("grpc.max_metadata_size", 16 * 2**10),
            ("grpc.max_concurrent_streams", most + PUBLIC_CALLS + WATCHERS),
            ("grpc.max_allowed_incoming_connections", 4 * most),
            ("grpc.server_handshake_timeout_ms", 10_000),
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 20_000),
            (
                "grpc.http2.min_recv_ping_interval_without_data_ms",
                channels.KEEPALIVE_MS // 2,
            ),  # else it disconnects our clients
        ],
    )
