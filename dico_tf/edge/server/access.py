"""Access control: bearer tokens, and which addresses and ports a server may listen on."""

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
    """Read the token from a file, or from DICO_TF_TOKEN if no file is given; return "" if neither is set.

    A token is never a flag's value, because all users of a machine can read flags. `flag` is the file's flag, for
    messages. Raises UserError if the file cannot be read, or if the token is too short or has spaces or characters that
    are not ASCII.
    """
    if not file:
        text, source = os.environ.get(TOKEN_VARIABLE, ""), TOKEN_VARIABLE
        if TOKEN_VARIABLE not in os.environ:
            return ""
    else:
        source = f"--{flag}={file}"
        try:
            text = Path(file).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is not a text file"
            raise UserError(f"{source} cannot be read: {reason}") from None
    text = text.strip()
    if len(text) < _SHORTEST_TOKEN or not text.isascii() or not text.isprintable() or " " in text:
        raise UserError(f"{source}: a token has at least {_SHORTEST_TOKEN} visible ASCII characters and no space")
    return text


def allowed(header: str, token: str) -> bool:
    """Return True if the header is `Bearer TOKEN`, compared in constant time, or if the token is ""."""
    scheme, _, credential = header.partition(" ")
    right = hmac.compare_digest(credential.strip().encode(errors="replace"), token.encode())
    return not token or (right and scheme.lower() == "bearer")


def unauthenticated() -> EdgeError:
    """Return the error for a request whose token is missing or wrong."""
    return EdgeError("UNAUTHENTICATED", "the token is missing or wrong: send authorization: Bearer TOKEN")


def loopback(host: str) -> bool:
    """Return True if only this machine can reach the host; names other than localhost never count."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def check_address(host: str, *, tls: bool, authenticated: bool, insecure: bool) -> None:
    """Raise UserError if other machines can reach the host without TLS or without authentication.

    `authenticated`: clients need a token or a certificate. `insecure` waives the check.
    """
    if loopback(host) or insecure or (tls and authenticated):
        return
    missing = [] if tls else ["--tls_cert and --tls_key"]
    missing += [] if authenticated else ["one of --token_file and --tls_client_ca"]
    raise UserError(
        f"--host={host} can be reached from other machines: give {', and '.join(missing)}; "
        "or give --insecure if the network itself is trusted"
    )


def check_free(host: str, port: int, flag: str) -> None:
    """Raise UserError, with the system's reason, if the port, given by `--flag`, cannot be listened on."""
    try:
        addresses = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        errors = [error]
    else:
        errors = [_bind_error(*address) for address in addresses]
    absent = [error for error in errors if error and error.errno == errno.EADDRNOTAVAIL]
    if len(absent) < len(errors):  # localhost may have no ::1
        errors = [error for error in errors if error not in absent]
    if error := next(filter(None, errors), None):
        raise UserError(f"--{flag}={port} on --host={host} cannot be listened on: {error.strerror}")


def _bind_error(family: int, kind: int, protocol: int, _: str, address: tuple) -> OSError | None:
    """Bind a socket to the address for a moment; return the error, or None if it worked."""
    with socket.socket(family, kind, protocol) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server that has just ended does not count
        try:
            trial.bind(address)
        except OSError as error:
            return error
    return None


def address(host: str, port: int) -> str:
    """Return host:port, with an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"
