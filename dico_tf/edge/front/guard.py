"""What a stranger may ask of this process: how much, how large a picture, with which token, from where."""

import dataclasses
import errno
import hmac
import io
import ipaddress
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from dico_tf.data import pictures
from dico_tf.edge.errors import EdgeError, invalid
from dico_tf.errors import UserError

TOKEN_VARIABLE = "DICO_TF_TOKEN"
_SHORTEST_TOKEN = 16
_FORMATS = ("JPEG", "PNG")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    request_bytes: int = 16 * 2**20
    pixels: int = 25_000_000  # of a picture as it is stored: about 100 MB while it is decoded
    batch: int = 64  # images of one request
    concurrency: int = 64  # requests at once


def picture(content: bytes, size: int, short: int, limits: Limits) -> np.ndarray:
    """uint8 [size, size, 3] of a JPEG or PNG, as training's evaluation sees it; its header alone is read first."""
    return squares(content, [(size, short)], limits)[0]


def squares(content: bytes, views: Sequence[tuple[int, int]], limits: Limits) -> list[np.ndarray]:
    """`picture` for each (size, short) of the views, decoded once."""
    opened = pictures.tried(_pixels, content)
    if isinstance(opened, Image.DecompressionBombError) or (isinstance(opened, int) and opened > limits.pixels):
        raise invalid(f"the image has more than {limits.pixels} pixels, which is all that is decoded here: shrink it")
    if isinstance(opened, Exception):
        raise invalid("the image bytes are no JPEG and no PNG")
    decoded = pictures.tried(pictures.decode_each, io.BytesIO(content), views)
    if isinstance(decoded, Exception):
        raise invalid("the image cannot be decoded: it is cut short or damaged")
    return decoded


def _pixels(content: bytes) -> int:
    with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
        return image.width * image.height


class Gate:
    """Lets so many requests in at once, whichever way they come."""

    def __init__(self, most: int):
        self.most = most
        self.inside = 0

    @contextmanager
    def entered(self) -> Iterator[None]:
        if self.inside >= self.most:
            raise EdgeError("RESOURCE_EXHAUSTED", f"{self.most} requests are being answered already: ask again later")
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1


def token(file: str, flag: str = "token_file") -> str:
    """Of the file, else of the environment; nothing where neither names one. Never a flag: all users see those."""
    if not file:
        found, where = os.environ.get(TOKEN_VARIABLE, ""), TOKEN_VARIABLE
        if TOKEN_VARIABLE not in os.environ:
            return ""
    else:
        where = f"--{flag}={file}"
        try:
            found = Path(file).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise UserError(f"{where} cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}") from None
    found = found.strip()
    if len(found) < _SHORTEST_TOKEN or not found.isascii() or not found.isprintable() or " " in found:
        raise UserError(f"{where}: a token has at least {_SHORTEST_TOKEN} visible ASCII characters and no space")
    return found


def allowed(header: str, token: str) -> bool:
    """Is it `Bearer TOKEN`? In constant time; everything is allowed where there is no token."""
    scheme, _, given = header.partition(" ")
    right = hmac.compare_digest(given.strip().encode(errors="replace"), token.encode())
    return not token or (right and scheme.lower() == "bearer")


def unauthenticated() -> EdgeError:
    return EdgeError("UNAUTHENTICATED", "the token is missing or wrong: send authorization: Bearer TOKEN")


def loopback(host: str) -> bool:
    """Is it reached from this machine only? Names other than localhost may lead anywhere."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def check_address(host: str, *, tls: bool, known: bool, insecure: bool) -> None:
    """Strangers are let in over TLS and only if they are known, by token or certificate, unless that is waived."""
    if loopback(host) or insecure or (tls and known):
        return
    missing = [] if tls else ["--tls_cert and --tls_key"]
    missing += [] if known else ["--token_file or --tls_client_ca"]
    raise UserError(
        f"--host={host} can be reached from other machines: give {' and '.join(missing)}, "
        "or --insecure where the network itself is trusted"
    )


def check_free(host: str, port: int, flag: str) -> None:
    """Can it be listened on? Asked before anything is started for it, and in the system's words."""
    try:
        places = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        faults = [error]
    else:
        faults = [_fault(*place) for place in places]
    absent = [fault for fault in faults if fault and fault.errno == errno.EADDRNOTAVAIL]
    if len(absent) < len(faults):  # of localhost, ::1 may be absent
        faults = [fault for fault in faults if fault not in absent]
    if fault := next(filter(None, faults), None):
        raise UserError(f"--{flag}={port} on --host={host} cannot be listened on: {fault.strerror}")


def _fault(family: int, kind: int, protocol: int, _: str, place: tuple) -> OSError | None:
    """Why nobody can listen there."""
    with socket.socket(family, kind, protocol) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what has just ended is no hindrance
        try:
            tried.bind(place)
        except OSError as error:
            return error
    return None


def address(host: str, port: int) -> str:
    """host:port; IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"
