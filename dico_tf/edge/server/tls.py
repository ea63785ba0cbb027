"""TLS and mutual TLS for gRPC and HTTP, from the same PEM files."""

import dataclasses
import ssl
from pathlib import Path

import grpc

from dico_tf.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServerTLS:
    """Certificate and key of a server. With `client_ca`, clients need a certificate that this CA signed."""

    cert: str = ""
    key: str = ""
    client_ca: str = ""

    def __post_init__(self) -> None:
        if bool(self.cert) != bool(self.key):
            raise UserError("--tls_cert and --tls_key must be given together")
        if self.client_ca and not self.cert:
            raise UserError("--tls_client_ca needs --tls_cert and --tls_key")
        if self.cert:
            self.context()  # raises UserError for unusable files before a port is opened

    def __bool__(self) -> bool:
        return bool(self.cert)

    def credentials(self) -> grpc.ServerCredentials:
        chain = (read("tls_key", self.key), read("tls_cert", self.cert))
        ca = read("tls_client_ca", self.client_ca) if self.client_ca else None
        return grpc.ssl_server_credentials([chain], root_certificates=ca, require_client_auth=bool(ca))

    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        _load(context, self.cert, self.key)
        if self.client_ca:
            _trust(context, "tls_client_ca", self.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClientTLS:
    """The CA that a client trusts, and its own certificate for servers that require one; no CA = no TLS."""

    ca: str = ""
    cert: str = ""
    key: str = ""

    def __post_init__(self) -> None:
        if bool(self.cert) != bool(self.key):
            raise UserError("the client's certificate and key must be given together")
        if self.cert and not self.ca:
            raise UserError("a client's certificate needs the CA that signed the server's certificate: give it too")

    def __bool__(self) -> bool:
        return bool(self.ca)

    def credentials(self) -> grpc.ChannelCredentials:
        key, cert = (read("key", self.key), read("cert", self.cert)) if self.cert else (None, None)
        return grpc.ssl_channel_credentials(read("ca", self.ca), key, cert)

    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
        _trust(context, "ca", self.ca)
        if self.cert:
            _load(context, self.cert, self.key)
        return context


def read(flag: str, path: str) -> bytes:
    """Read a file that a flag names. Raises UserError."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"--{flag}={path} cannot be read: {error.strerror}") from None


def _load(context: ssl.SSLContext, cert: str, key: str) -> None:
    read("tls_cert", cert), read("tls_key", key)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(cert, key, password="")  # without it OpenSSL asks for a password on the terminal
    except (ssl.SSLError, OSError):
        raise UserError(
            f"{cert} and {key} are not a certificate and its key: expected PEM files, the key without a password"
        ) from None


def _trust(context: ssl.SSLContext, flag: str, ca: str) -> None:
    read(flag, ca)
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError:
        raise UserError(f"--{flag}={ca} is not a certificate: expected a PEM file") from None
