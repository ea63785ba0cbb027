"""A small HTTP/1.1 server on asyncio: bounded in bytes and in time, whoever calls.

The head and the body each have one deadline in all, so that neither can be dripped for ever; what is ambiguous about
where a request ends is refused, and no answer tells of this host.
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
from dico_tf.edge.server.http_parsing import HEAD_BYTES, REASONS, HttpError, RequestHead, chunk_size, head

LOG = logging.getLogger(__name__)
JSON = "application/json"
_LINE_BYTES = 256  # of a chunk's size
_TRAILERS = 32
_LINGER_BYTES = 16 * 2**20
_PIECE = 2**16
_BODIES = 16  # of the largest size, that are held at once


@dataclasses.dataclass(frozen=True)
class HttpRequest:
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]  # names in small letters
    body: bytes


@dataclasses.dataclass(frozen=True)
class HttpResponse:
    status: int = 200
    body: bytes = b""
    type: str = JSON
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)


Handler = Callable[[HttpRequest], Awaitable[HttpResponse]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Times:
    """Seconds."""

    head: float = 5.0
    body: float = 20.0
    idle: float = 60.0
    write: float = 20.0
    linger: float = 1.0  # what a refused request still sends is read, or the refusal would be lost


def error_response(status: int, sentence: str, **headers: str) -> HttpResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpResponse(status, json.dumps({"error": sentence}).encode(), JSON, named)


class Routes:
    """{(method, "/v2/models/{model}/infer"): handler}; a handler takes the request and the named parts of its path."""

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
                405, f"{request.method} is not for this path", Allow=", ".join(dict.fromkeys(methods))
            )
        return error_response(404, "nothing is served at this path")


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
    """Serves a handler; paths in `public` need no token."""

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
        self._busy: dict[asyncio.Task, bool] = {}
        self._held = 0  # bytes of bodies
        self._stopping = False

    async def start(self, host: str, port: int, context: ssl.SSLContext | None = None) -> int:
        """The port, which is found where 0 was asked for."""
        handshake = {"ssl_handshake_timeout": self._times.head, "ssl_shutdown_timeout": 1.0} if context else {}
        self._server = await asyncio.start_server(
            self._serve, host.strip("[]"), port, limit=HEAD_BYTES, ssl=context, **handshake
        )
        return self._server.sockets[0].getsockname()[1]

    async def stop(self, grace: float) -> None:
        """Takes no more, lets what was asked be answered for `grace` seconds, and ends."""
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
        writer.transport.set_write_buffer_limits(0)  # so that what is drained has left: nobody reads what stays
        try:
            if len(self._busy) > self._connections:
                await self._send(
                    writer, error_response(503, "too many connections: try again later", Retry_After="1"), True
                )
            else:
                while await self._exchange(task, reader, writer):
                    self._busy[task] = False
        except (OSError, TimeoutError, asyncio.IncompleteReadError, ssl.SSLError):
            writer.transport.abort()  # whoever called has gone, or takes nothing: closing would wait for that
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            del self._busy[task]
            writer.close()

    async def _exchange(self, task: asyncio.Task, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its response; may another follow on this connection?"""
        asked, body, unread = None, bytearray(), True
        try:
            async with asyncio.timeout(self._times.idle):
                first = await reader.readexactly(1)
            asked = await self._head(first, reader)
            self._busy[task] = True
            response = self._unknown(asked)
            if response is None:
                await self._body(asked, body, reader, writer)
                response = await self._answered(asked, bytes(body))
                unread = False
            else:
                unread = asked.has_body
        except HttpError as fault:
            response = error_response(fault.status, fault.sentence)
        finally:
            self._held -= len(body)
        last = unread or self._stopping or (asked is not None and asked.close)
        await self._send(writer, response, last, bare=asked is not None and asked.method == "HEAD")
        if unread:
            await self._linger(reader, writer)
        return not last

    async def _head(self, first: bytes, reader: asyncio.StreamReader) -> RequestHead:
        try:
            async with asyncio.timeout(self._times.head):
                return head(first + await reader.readuntil(b"\r\n\r\n"))
        except TimeoutError:
            raise HttpError(408, f"the head took longer than {self._times.head:g} s") from None
        except asyncio.LimitOverrunError:
            raise HttpError(431, f"the head is longer than {HEAD_BYTES} bytes") from None

    def _unknown(self, asked: RequestHead) -> HttpResponse | None:
        if asked.path in self._public or access.allowed(asked.headers.get("authorization", ""), self._token):
            return None
        return error_response(401, access.unauthenticated().sentence, WWW_Authenticate="Bearer")

    async def _body(
        self, asked: RequestHead, body: bytearray, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if not asked.has_body:
            if asked.method == "POST" and asked.length is None:
                raise HttpError(411, "give Content-Length, or Transfer-Encoding: chunked")
            return
        self._check_length(asked.length or 0)
        if asked.headers.get("expect", "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            async with asyncio.timeout(self._times.body):
                if asked.chunked:
                    await self._chunks(body, reader)
                else:
                    await self._read(body, asked.length, reader)
        except TimeoutError:
            raise HttpError(408, f"the body took longer than {self._times.body:g} s") from None
        except asyncio.LimitOverrunError:
            raise HttpError(400, "a chunk has no size") from None

    def _check_length(self, length: int) -> None:
        if length > self._request_bytes:
            raise HttpError(413, f"the body is longer than {self._request_bytes} bytes")

    async def _read(self, body: bytearray, size: int, reader: asyncio.StreamReader) -> None:
        """In pieces, so that memory is held for what has come, not for what was announced."""
        while size:
            piece = await reader.read(min(size, _PIECE))
            if not piece:
                raise asyncio.IncompleteReadError(b"", size)
            body += piece
            size -= len(piece)
            self._held += len(piece)
            if self._held > _BODIES * self._request_bytes:
                raise HttpError(503, "too much is being sent at once: try again later")

    async def _chunks(self, body: bytearray, reader: asyncio.StreamReader) -> None:
        while size := chunk_size(await self._line(reader)):
            self._check_length(len(body) + size)
            await self._read(body, size, reader)
            if await reader.readexactly(2) != b"\r\n":
                raise HttpError(400, "a chunk is not as long as it says")
        for _ in range(_TRAILERS):
            if await self._line(reader, HEAD_BYTES) == b"":
                return
        raise HttpError(400, "too many trailers")

    async def _line(self, reader: asyncio.StreamReader, most: int = _LINE_BYTES) -> bytes:
        line = await reader.readuntil(b"\r\n")
        if len(line) > most:
            raise HttpError(400, "a chunk has no size")
        return line[:-2]

    async def _answered(self, asked: RequestHead, body: bytes) -> HttpResponse:
        try:
            return await self._handler(HttpRequest(asked.method, asked.path, asked.query, asked.headers, body))
        except EdgeError as fault:
            wait = {"Retry_After": "1"} if fault.code in ("RESOURCE_EXHAUSTED", "UNAVAILABLE") else {}
            return error_response(fault.status, fault.sentence, **wait)
        except Exception:
            LOG.exception("a request failed")
            return error_response(500, "internal error")

    async def _send(self, writer: asyncio.StreamWriter, response: HttpResponse, last: bool, bare: bool = False) -> None:
        """`last` closes the connection; a `bare` response, to HEAD, has no body."""
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
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + (b"" if bare else response.body))
        async with asyncio.timeout(self._times.write):
            await writer.drain()

    async def _linger(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Says that no more comes, and reads a while: a reset would take the answer back."""
        with contextlib.suppress(OSError, TimeoutError, ssl.SSLError):
            if writer.can_write_eof():
                writer.write_eof()
            async with asyncio.timeout(self._times.linger):
                left = _LINGER_BYTES
                while left > 0 and (read := await reader.read(2**16)):
                    left -= len(read)
