"""The HTTP server with normal clients, and with slow, endless and malformed requests."""

import asyncio
import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dico_tf.edge.errors import EdgeError
from dico_tf.edge.server import http_server, tls
from dico_tf.edge.server.http_parsing import HttpError, parse_head
from tests.edge import certificates

TIMES = http_server.Times(head=60.0, body=60.0, idle=1.0, write=60.0, linger=0.2)  # of a busy machine
SHORT = http_server.Times(head=0.3, body=0.4, idle=1.0, write=1.0, linger=0.2)


async def hello(request):
    return http_server.HttpResponse(body=json.dumps([request.method, request.path, dict(request.query)]).encode())


async def echo(request, name):
    return http_server.HttpResponse(body=request.body, type=name)


async def broken(request):
    raise RuntimeError("/secret/path")


async def refusing(request):
    raise EdgeError("RESOURCE_EXHAUSTED", "full")


async def slow(request):
    await asyncio.sleep(0.3)
    return http_server.HttpResponse(body=b"late")


ROUTES = http_server.Routes(
    {
        ("GET", "/"): hello,
        ("POST", "/echo/{name}"): echo,
        ("GET", "/broken"): broken,
        ("GET", "/full"): refusing,
        ("GET", "/slow"): slow,
    }
)


def talk(*pieces, pause=0.0, conversation=None, **options):
    """Send the pieces; return all that the server sends back until it closes the connection."""

    async def run():
        server = http_server.HttpServer(ROUTES, **{"request_bytes": 1000, "times": TIMES, **options})
        port = await server.start("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        if conversation:
            return await conversation(server, port, reader, writer)
        for piece in pieces:
            with contextlib.suppress(ConnectionError):
                writer.write(piece)
                await writer.drain()
            await asyncio.sleep(pause)
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(60):
                response = await reader.read()
        writer.close()
        await server.stop(0)
        return response

    return asyncio.run(run())


def status(response):
    return int(response.split()[1]), response.partition(b"\r\n\r\n")[2]


CLOSE = b"Host: h\r\nConnection: close\r\n"
CHUNKED = b"POST /echo/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"GET / HTTP/1.1\r\n" + CLOSE + b"\r\n", (200, b'["GET", "/", {}]')),
        (b"GET /?a=1&b= HTTP/1.0\r\n\r\n", (200, b'["GET", "/", {"a": "1", "b": ""}]')),
        (b"POST /echo/x HTTP/1.1\r\n" + CLOSE + b"Content-Length: 3\r\n\r\nabc", (200, b"abc")),
        (b"POST /echo/x HTTP/1.1\r\n" + CLOSE + b"Content-Length: 0\r\n\r\n", (200, b"")),
        (
            b"POST /echo/%41 HTTP/1.1\r\n" + CLOSE + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\n"
            b"Trailer: x\r\n\r\n",
            (200, b"abc"),
        ),
        (b"HEAD / HTTP/1.1\r\n" + CLOSE + b"\r\n", (200, b"")),
    ],
)
def test_what_is_asked_properly_is_answered(sent, expected):
    assert status(talk(sent)) == expected


@pytest.mark.parametrize(
    ("sent", "code", "response"),
    [
        (b"GET /nothing HTTP/1.1\r\n" + CLOSE + b"\r\n", 404, "this path does not exist"),
        (b"POST / HTTP/1.1\r\nContent-Length: 0\r\n" + CLOSE + b"\r\n", 405, "POST is not allowed for this path"),
        (b"GET /echo/x HTTP/1.1\r\n" + CLOSE + b"\r\n", 405, "GET is not"),
        (b"POST /echo/x HTTP/1.1\r\nHost: h\r\n\r\n", 411, "Content-Length"),
        (b"POST /echo/x HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n", 413, "longer than 1000"),
        (b"POST /echo/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n", 413, "longer than 1000"),
        (b"POST /echo/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", 400, "with its size"),
        (b"POST /echo/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", 400, "not as long"),
        (b"POST /echo/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 999, 408, "body took"),
        (CHUNKED + b"1" * 999 + b"\r\n", 400, "line of a chunk's size is longer than 256"),
        (CHUNKED + b"0\r\nA: " + b"b" * 16385 + b"\r\n", 400, "trailer is longer than 16384"),
        (b"POST /echo/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "chunked"),
        (b"POST /echo/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", 400, "gether"),
        (b"POST /echo/x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "not allowed in HTTP/1.0"),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "given twice"),
        (b"POST /echo/x HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\n", 400, "must be a whole number"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "Host"),
        (b"GET / HTTP/1.1\r\nHost : h\r\n\r\n", 400, "a header must be"),
        (b"GET / HTTP/1.1\r\nHost: h\r\n folded\r\n\r\n", 400, "a header must be"),
        (b"GET / HTTP/2.0\r\nHost: h\r\n\r\n", 400, "request line"),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400, "request line"),
        (b"GET /%ff HTTP/1.1\r\nHost: h\r\n\r\n", 400, "path or query cannot be decoded"),
        (b"GET /%07 HTTP/1.1\r\nHost: h\r\n\r\n", 400, "cannot be printed"),
        (b"GET /?" + b"a&" * 32 + b" HTTP/1.1\r\nHost: h\r\n\r\n", 400, "more than 32 parameters"),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 65 + b"\r\n", 431, "more than 64"),
        (b"GET / HTTP/1.1\r\nA: " + b"b" * 20000, 431, "longer than"),
        (b"GET /broken HTTP/1.1\r\n" + CLOSE + b"\r\n", 500, "internal error"),
        (b"GET /full HTTP/1.1\r\n" + CLOSE + b"\r\n", 429, "full"),
    ],
)
def test_what_is_not_asked_properly_is_refused_with_a_sentence(sent, code, response):
    result, body = status(talk(sent, times=SHORT if code == 408 else TIMES))
    assert result == code and response in json.loads(body)["error"]
    assert b"secret" not in body and b"Traceback" not in body


def test_a_head_that_drips_is_cut_off():
    assert status(talk(b"GET ", *[b"a"] * 8, pause=0.06, times=SHORT))[0] == 408


def test_a_body_that_drips_is_cut_off():
    start = b"POST /echo/x HTTP/1.1\r\nHost: h\r\nContent-Length: 900\r\n\r\n"
    assert status(talk(start, *[b"a"] * 9, pause=0.06, times=SHORT))[0] == 408


def test_an_upload_without_end_is_cut_off_and_told_why():
    start = b"POST /echo/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert status(talk(start, *[b"64\r\n" + b"a" * 100 + b"\r\n"] * 30, pause=0.005))[0] == 413


def test_a_connection_is_kept_for_the_next_request():
    one = b"POST /echo/x HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n"
    response = talk(one + b"a" + one + b"b", b"GET / HTTP/1.1\r\n" + CLOSE + b"\r\n")
    assert response.count(b"HTTP/1.1 200") == 3 and response.count(b"keep-alive") == 2


def test_whoever_waits_to_be_told_is_told_to_go_on():
    sent = b"POST /echo/x HTTP/1.1\r\nExpect: 100-continue\r\n" + CLOSE + b"Content-Length: 1\r\n\r\n"
    assert talk(sent, b"a", pause=0.1).startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200")


def test_a_token_is_asked_for_before_the_body():
    options = {"token": "a" * 16, "public": frozenset({"/"})}
    post = b"POST /echo/x HTTP/1.1\r\nHost: h\r\nContent-Length: 900\r\n"
    assert status(talk(post + b"\r\n", **options))[0] == 401
    assert status(talk(post + b"Authorization: Bearer b\r\n\r\n", **options))[0] == 401
    assert status(talk(post + b"Authorization: Basic " + b"a" * 16 + b"\r\n\r\n", **options))[0] == 401
    right = post.replace(b"900", b"1") + CLOSE.replace(b"Host: h\r\n", b"") + b"Authorization: bearer " + b"a" * 16
    assert status(talk(right + b"\r\n\r\nx", **options)) == (200, b"x")
    assert status(talk(b"GET / HTTP/1.1\r\n" + CLOSE + b"\r\n", **options))[0] == 200


def test_more_connections_than_allowed_are_turned_away():
    async def conversation(server, port, reader, writer):
        await asyncio.sleep(0.05)
        other, _ = await asyncio.open_connection("127.0.0.1", port)
        return status(await other.read())

    assert talk(conversation=conversation, connections=1)[0] == 503


def test_stopping_lets_what_was_asked_be_answered():
    async def conversation(server, port, reader, writer):
        writer.write(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
        idle, _ = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.sleep(0.1)
        await server.stop(2.0)
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionError):
            assert await idle.read() == b""
        return status(await reader.read())

    assert talk(conversation=conversation) == (200, b"late")


def established(port):
    """Return the number of open TCP connections whose local end has this port."""
    rows = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    return sum(int(row[1].rpartition(":")[2], 16) == port and row[3] == "01" for row in rows)


async def large(request):
    return http_server.HttpResponse(body=bytes(2**25))


@pytest.mark.parametrize("secure", [False, True])
def test_answers_that_nobody_reads_are_given_up(secure, tmp_path):
    """Otherwise a client could keep descriptors and memory occupied for ever."""
    made = certificates.make(tmp_path)
    ours = tls.ServerTLS(cert=made.server.cert, key=made.server.key).context() if secure else None
    theirs = tls.ClientTLS(ca=made.ca).context() if secure else None

    async def until(count, port):
        """Wait until the server's ends of so many connections are open."""
        async with asyncio.timeout(60):
            while established(port) != count:
                await asyncio.sleep(0.05)

    async def run():
        server = http_server.HttpServer(http_server.Routes({("GET", "/"): large}), times=SHORT)
        port = await server.start("127.0.0.1", 0, ours)
        clients = []
        for last in (b"", b"Connection: close\r\n"):
            clients.append(await asyncio.open_connection("localhost", port, limit=2**12, ssl=theirs))
            clients[-1][1].write(b"GET / HTTP/1.1\r\nHost: h\r\n" + last + b"\r\n")
        await until(2, port)
        await until(0, port)
        for _, writer in clients:
            writer.transport.abort()
        await server.stop(0)

    asyncio.run(run())


LINES = st.lists(
    st.binary(max_size=30)
    | st.sampled_from([b"Host: h", b"Content-Length: 3", b"Transfer-Encoding: chunked", b"Connection: close"]),
    max_size=5,
)
FIRST = st.binary(max_size=40) | st.binary(max_size=20).map(lambda path: b"GET /" + path + b" HTTP/1.1")


@settings(deadline=None, max_examples=400)
@given(FIRST, LINES)
def test_any_head_is_read_or_refused(first, lines):
    try:
        result = parse_head(b"\r\n".join([first, *lines]) + b"\r\n\r\n")
    except HttpError as fault:
        assert fault.status in (400, 431, 501)
    else:
        assert result.path.startswith(("/", "*")) or "//" in first.decode()
