"""Who may connect: bearer tokens, and the addresses on which a server may listen."""

import errno
import hmac
import ipaddress
import os
import socket
from pathlib import Path

from dico_tf.edge.errors import EdgeError
from dico_tf.errors import UserError

TOKEN_VARIABLE = "DICO_TF_TOKEN"
_SHORTEST_TOKEN = 16


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
