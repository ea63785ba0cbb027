"""A small HTTP/1.1 server on asyncio that limits the bytes and the time of every request.

The head and the body each have one deadline, so a client that sends one byte at a time is disconnected. A request whose
end is ambiguous is refused. Error responses contain no path, address or traceback of this host.
"""

import asyncio
import contextlib
import dataclasses
import json
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping

from dico_tf.edge.errors import EdgeError
from dico_tf.edge.server import access
from dico_tf.edge.server.http_parsing import HEAD_BYTES, REASONS, HttpError, RequestHead, chunk_size, parse_head

LOG = logging.getLogger(__name__)
JSON = "application/json"
_SIZE_LINE_BYTES = 256  # longest line with the size of a chunk
_MOST_TRAILERS = 32
_LINGER_BYTES = 16 * 2**20
_READ_BYTES = 2**16
_BODIES = 16  # memory for bodies, in bodies of the largest size


@dataclasses.dataclass(frozen=True)
class HttpRequest:
    """One request with its whole body."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]  # names in lower case
    body: bytes


@dataclasses.dataclass(frozen=True)
class HttpResponse:
    """One response; the server adds the headers Content-Type (from `type`), Content-Length and Connection."""

    status: int = 200
    body: bytes = b""
    type: str = JSON
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)


Handler = Callable[[HttpRequest], Awaitable[HttpResponse]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Times:
    """Timeouts, in seconds."""

    head: float = 5.0
    body: float = 20.0
    idle: float = 60.0
    write: float = 20.0
    linger: float = 1.0  # reading on after an error: closing at once could lose the response


def error_response(status: int, sentence: str, **headers: str) -> HttpResponse:
    """Return a JSON response {"error": sentence}; `Retry_After=...` sets the header Retry-After."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpResponse(status, json.dumps({"error": sentence}).encode(), JSON, named)


class Routes:
    """Handlers by method and path, e.g. ("GET", "/v2/models/{model}").

    A handler is called with the request, and with the parts of the path that are named in braces.
    """

    def __init__(self, handlers: Mapping[tuple[str, str], Callable[..., Awaitable[HttpResponse]]]):
        self._routes = [(method, path.split("/"), handler) for (method, path), handler in handlers.items()]

    async def __call__(self, request: HttpRequest) -> HttpResponse:
        parts, methods = request.path.split("/"), []
        for method, pattern, handler in self._routes:
            named = _match(pattern, parts)
            if named is not None:
                if request.method in (method, {"GET": "HEAD"}.get(method)):
                    return await handler(request, **named)
                methods += ["GET", "HEAD"] if method == "GET" else [method]
        if methods:
            return error_response(
                405, f"{request.method} is not allowed for this path", Allow=", ".join(dict.fromkeys(methods))
            )
        return error_response(404, "this path does not exist")


def _match(pattern: list[str], parts: list[str]) -> dict[str, str] | None:
    if len(pattern) != len(parts):
        return None
    named = {}
    for expected, part in zip(pattern, parts, strict=True):
        if expected.startswith("{") and part:
            named[expected[1:-1]] = part
        elif expected != part:
            return None
    return named


class HttpServer:
    """An HTTP server that gives all requests to one handler.

    Args:
        handler: returns the response; an EdgeError becomes an error response, any other error a 500.
        request_bytes: most bytes of one body.
        connections: most open connections; more get a 503.
        token: bearer token that requests must carry; "" = none.
        public: paths that need no token.
        times: timeouts of the parts of a request.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        request_bytes: int = 16 * 2**20,
        connections: int = 256,
        token: str = "",
        public: frozenset[str] = frozenset(),
        times: Times = Times(),
    ):
        self._handler, self._request_bytes, self._connections = handler, request_bytes, connections
        self._token, self._public, self._times = token, public, times
        self._server: asyncio.Server | None = None
        self._busy: dict[asyncio.Task, bool] = {}  # connections; True while a request is processed
        self._body_bytes = 0  # memory of the bodies of all requests
        self._stopping = False

    async def start(self, host: str, port: int, context: ssl.SSLContext | None = None) -> int:
        """Listen, with TLS if there is a context, and return the port; port 0 takes any free one."""
        handshake = {"ssl_handshake_timeout": self._times.head, "ssl_shutdown_timeout": 1.0} if context else {}
        self._server = await asyncio.start_server(
            self._serve, host.strip("[]"), port, limit=HEAD_BYTES, ssl=context, **handshake
        )
        return self._server.sockets[0].getsockname()[1]

    async def stop(self, grace: float) -> None:
        """Accept no more requests, finish the current ones for up to `grace` seconds, and close all connections."""
        self._stopping = True
        if self._server:
            self._server.close()
        for task, busy in self._busy.items():
            if not busy:
                task.cancel()
        if self._busy:
            await asyncio.wait(self._busy, timeout=grace)
        for task in self._busy:
            task.cancel()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._busy[task] = False
        writer.transport.set_write_buffer_limits(
            0
        )  # drain() returns only when all is sent, so `write` limits slow readers
        try:
            if len(self._busy) > self._connections:
                await self._send(
                    writer, error_response(503, "too many connections: try again later", Retry_After="1"), True
                )
            else:
                while await self._exchange(task, reader, writer):
                    self._busy[task] = False
        except (OSError, TimeoutError, asyncio.IncompleteReadError, ssl.SSLError):
            writer.transport.abort()  # the client has gone or reads nothing; close() would wait for it
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            del self._busy[task]
            writer.close()

    async def _exchange(self, task: asyncio.Task, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Handle one request; return True if the connection stays open for another."""
        head, body, unread = None, bytearray(), True
        try:
            async with asyncio.timeout(self._times.idle):
                first = await reader.readexactly(1)
            head = await self._head(first, reader)
            self._busy[task] = True
            response = self._unauthorized(head)
            if response is None:
                await self._body(head, body, reader, writer)
                response = await self._handle(head, bytes(body))
                unread = False
            else:
                unread = head.has_body
        except HttpError as error:
            response = error_response(error.status, error.sentence)
        finally:
            self._body_bytes -= len(body)
        last = unread or self._stopping or (head is not None and head.close)
        await self._send(writer, response, last, with_body=head is None or head.method != "HEAD")
        if unread:
            await self._linger(reader, writer)
        return not last

    async def _head(self, first: bytes, reader: asyncio.StreamReader) -> RequestHead:
        try:
            async with asyncio.timeout(self._times.head):
                return parse_head(first + await reader.readuntil(b"\r\n\r\n"))
        except TimeoutError:
            raise HttpError(408, f"the request line and headers took longer than {self._times.head:g} s") from None
        except asyncio.LimitOverrunError:
            raise HttpError(431, f"the request line and headers are longer than {HEAD_BYTES} bytes") from None

    def _unauthorized(self, head: RequestHead) -> HttpResponse | None:
        if head.path in self._public or access.allowed(head.headers.get("authorization", ""), self._token):
            return None
        return error_response(401, access.unauthenticated().sentence, WWW_Authenticate="Bearer")

    async def _body(
        self, head: RequestHead, body: bytearray, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if not head.has_body:
            if head.method == "POST" and head.length is None:
                raise HttpError(411, "a POST needs a length: send Content-Length, or Transfer-Encoding: chunked")
            return
        self._check_length(head.length or 0)
        if head.headers.get("expect", "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            async with asyncio.timeout(self._times.body):
                if head.chunked:
                    await self._chunks(body, reader)
                else:
                    await self._read(body, head.length, reader)
        except TimeoutError:
            raise HttpError(408, f"the body took longer than {self._times.body:g} s") from None

    def _check_length(self, length: int) -> None:
        if length > self._request_bytes:
            raise HttpError(413, f"the body is longer than {self._request_bytes} bytes, the most this server accepts")

    async def _read(self, body: bytearray, size: int, reader: asyncio.StreamReader) -> None:
        """Read `size` more bytes into the body; memory grows with the bytes that arrive, not with `size`."""
        while size:
            part = await reader.read(min(size, _READ_BYTES))
            if not part:
                raise asyncio.IncompleteReadError(b"", size)
            body += part
            size -= len(part)
            self._body_bytes += len(part)
            if self._body_bytes > _BODIES * self._request_bytes:
                raise HttpError(503, "other clients are sending too much at the moment: try again later")

    async def _chunks(self, body: bytearray, reader: asyncio.StreamReader) -> None:
        while size := chunk_size(await self._line(reader, "line of a chunk's size", _SIZE_LINE_BYTES)):
            self._check_length(len(body) + size)
            await self._read(body, size, reader)
            if await reader.readexactly(2) != b"\r\n":
                raise HttpError(400, "a chunk is not as long as its size says")
        for _ in range(_MOST_TRAILERS):
            if await self._line(reader, "trailer", HEAD_BYTES) == b"":
                return
        raise HttpError(400, f"expected fewer than {_MOST_TRAILERS} trailers after the body")

    async def _line(self, reader: asyncio.StreamReader, what: str, most: int) -> bytes:
        line = None
        with contextlib.suppress(asyncio.LimitOverrunError):  # longer than HEAD_BYTES
            line = await reader.readuntil(b"\r\n")
        if line is None or len(line) > most:
            raise HttpError(400, f"the {what} is longer than {most} bytes")
        return line[:-2]

    async def _handle(self, head: RequestHead, body: bytes) -> HttpResponse:
        try:
            return await self._handler(HttpRequest(head.method, head.path, head.query, head.headers, body))
        except EdgeError as error:
            wait = {"Retry_After": "1"} if error.code in ("RESOURCE_EXHAUSTED", "UNAVAILABLE") else {}
            return error_response(error.status, error.sentence, **wait)
        except Exception:
            LOG.exception("a request failed with an unexpected error")
            return error_response(500, "internal error")

    async def _send(
        self, writer: asyncio.StreamWriter, response: HttpResponse, last: bool, with_body: bool = True
    ) -> None:
        """Send a response, to HEAD requests without its body; `last` announces that the connection will be closed."""
        headers = {
            "Content-Type": response.type,
            "Content-Length": str(len(response.body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Connection": "close" if last else "keep-alive",
            **response.headers,
        }
        lines = [f"HTTP/1.1 {response.status} {REASONS.get(response.status, '')}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + (response.body if with_body else b""))
        async with asyncio.timeout(self._times.write):
            await writer.drain()

    async def _linger(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """End our side and read on for a while: closing at once could make the client lose the response."""
        with contextlib.suppress(OSError, TimeoutError, ssl.SSLError):
            if writer.can_write_eof():
                writer.write_eof()
            async with asyncio.timeout(self._times.linger):
                remaining = _LINGER_BYTES
                while remaining > 0 and (part := await reader.read(_READ_BYTES)):
                    remaining -= len(part)
