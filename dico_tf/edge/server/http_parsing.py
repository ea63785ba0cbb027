"""Parser of the head of an HTTP/1.1 request. It refuses whatever two parsers could read differently."""

import dataclasses
import http
import re
import urllib.parse
from collections.abc import Mapping

HEAD_BYTES = 16 * 2**10
REASONS = {status.value: status.phrase for status in http.HTTPStatus}
_MOST_HEADERS = 64
_MOST_PARAMETERS = 32
_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) (/[!-~]*|\*|https?://[!-~]+) HTTP/1\.([01])")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_VALUE = re.compile(rb"[\t -~\x80-\xff]*")
_LENGTH = re.compile(r"[0-9]{1,15}")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[\t -~]*)?")
_ONCE = {"host", "content-length", "transfer-encoding", "content-type", "authorization", "expect"}


class HttpError(Exception):
    """A request that is refused: an HTTP status and a sentence for the client."""

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


@dataclasses.dataclass(frozen=True)
class RequestHead:
    """Request line and headers, parsed; header names are in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    close: bool  # close the connection after the response
    chunked: bool
    length: int | None

    @property
    def has_body(self) -> bool:
        return self.chunked or bool(self.length)


def parse_head(content: bytes) -> RequestHead:
    """Parse the request line and headers, up to and including the empty line. Raises HttpError."""
    first, *rest = content.removesuffix(b"\r\n\r\n").split(b"\r\n")
    line = _REQUEST_LINE.fullmatch(first)
    if not line:
        raise HttpError(400, "the request line must be METHOD PATH HTTP/1.1")
    headers = _headers(rest)
    is_1_1 = line[3] == b"1"
    if is_1_1 and "host" not in headers:
        raise HttpError(400, "the Host header is missing, which HTTP/1.1 requires")
    chunked, length = _framing(headers, is_1_1)
    connection = {word.strip().lower() for word in headers.get("connection", "").split(",")}
    path, query = _target(line[2].decode())
    return RequestHead(line[1].decode(), path, query, headers, not is_1_1 or "close" in connection, chunked, length)


def _headers(lines: list[bytes]) -> dict[str, str]:
    if len(lines) > _MOST_HEADERS:
        raise HttpError(431, f"the request has more than {_MOST_HEADERS} headers")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise HttpError(
                400, "a header must be Name: value, with a name of at most 64 characters and without control characters"
            )
        key, text = name.decode().lower(), value.strip(b" \t").decode("latin-1")
        if key in headers and key in _ONCE:
            raise HttpError(400, f"the header {key} is given twice")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers


def _framing(headers: Mapping[str, str], is_1_1: bool) -> tuple[bool, int | None]:
    """Return (chunked, length) of the body; (False, None) means that no body is announced. Raises HttpError."""
    length, coding = headers.get("content-length"), headers.get("transfer-encoding")
    if coding is not None:
        if length is not None:
            raise HttpError(400, "Transfer-Encoding is not allowed together with Content-Length: send one of them")
        if not is_1_1:
            raise HttpError(400, "Transfer-Encoding is not allowed in HTTP/1.0: send Content-Length, or HTTP/1.1")
        if coding.lower() != "chunked":
            raise HttpError(501, "the only supported Transfer-Encoding is chunked")
        return True, None
    if length is not None and not _LENGTH.fullmatch(length):
        raise HttpError(400, "Content-Length must be a whole number of at most 15 digits")
    return False, None if length is None else int(length)


def _target(target: str) -> tuple[str, dict[str, str]]:
    if target.partition("?")[2].count("&") >= _MOST_PARAMETERS:
        raise HttpError(400, f"the query has more than {_MOST_PARAMETERS} parameters")
    try:
        parts = urllib.parse.urlsplit(target)
        path = urllib.parse.unquote(parts.path, errors="strict")
        pairs = urllib.parse.parse_qsl(parts.query, keep_blank_values=True, errors="strict")
    except ValueError:
        raise HttpError(400, "the path or query cannot be decoded: expected UTF-8 with percent escapes") from None
    if not path.isprintable():
        raise HttpError(400, "the path contains a character that cannot be printed")
    return path, dict(pairs)


def chunk_size(line: bytes) -> int:
    """Return the size that the first line of a chunk gives. Raises HttpError."""
    match = _SIZE.fullmatch(line)
    if not match:
        raise HttpError(400, "a chunk must start with its size: expected 1 to 8 hexadecimal digits")
    return int(match[1], 16)
