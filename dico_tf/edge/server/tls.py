"""TLS and mutual TLS of servers and clients, for gRPC and HTTP from the same PEM files."""

import dataclasses
import ssl
from pathlib import Path

import grpc

from dico_tf.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServerTLS:
    """Paths of a server's certificate and key, PEM files; "" = no TLS. Its bool() tells if TLS is on.

    With `client_ca`, clients need a certificate that this CA signed. Raises UserError if only one of `cert` and `key`
    is given, if `client_ca` is given without them, or if a file is missing or unusable.
    """

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
        chain = (read("--tls_key", self.key), read("--tls_cert", self.cert))
        ca = read("--tls_client_ca", self.client_ca) if self.client_ca else None
        return grpc.ssl_server_credentials([chain], root_certificates=ca, require_client_auth=bool(ca))

    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        _load(context, "--tls_", self.cert, self.key)
        if self.client_ca:
            _trust(context, "--tls_client_ca", self.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClientTLS:
    """Paths of PEM files: the CA that a client trusts, and its own certificate and key. Its bool() tells if TLS is on.

    Without a CA there is no TLS. The certificate is for servers that require one; it needs a key and the CA. `prefix`
    goes before the names tls_ca, tls_cert and tls_key in errors. Raises UserError if one of these is missing, or if a
    file cannot be used.
    """

    ca: str = ""
    cert: str = ""
    key: str = ""
    prefix: str = ""

    def __post_init__(self) -> None:
        names = f"{self.prefix}tls_cert and {self.prefix}tls_key"
        if bool(self.cert) != bool(self.key):
            raise UserError(f"{names} must be given together")
        if self.cert and not self.ca:
            raise UserError(f"{names} need {self.prefix}tls_ca, the CA that signed the server's certificate")
        if self.ca:
            self.context()  # raises UserError for unusable files

    def __bool__(self) -> bool:
        return bool(self.ca)

    def credentials(self) -> grpc.ChannelCredentials:
        key, cert = (self._read("key"), self._read("cert")) if self.cert else (None, None)
        return grpc.ssl_channel_credentials(self._read("ca"), key, cert)

    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
        _trust(context, f"{self.prefix}tls_ca", self.ca)
        if self.cert:
            _load(context, f"{self.prefix}tls_", self.cert, self.key)
        return context

    def _read(self, name: str) -> bytes:
        return read(f"{self.prefix}tls_{name}", getattr(self, name))


def read(name: str, path: str) -> bytes:
    """Read a file; `name` is the flag or argument that gave its path. Raises UserError."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{name}={path} cannot be read: {error.strerror}") from None


def _load(context: ssl.SSLContext, prefix: str, cert: str, key: str) -> None:
    read(f"{prefix}cert", cert), read(f"{prefix}key", key)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(cert, key, password="")  # without it OpenSSL asks for a password on the terminal
    except (ssl.SSLError, OSError):
        raise UserError(
            f"{prefix}cert={cert} and {prefix}key={key} are not a certificate and its key: "
            "expected PEM files, the key without a password"
        ) from None


def _trust(context: ssl.SSLContext, name: str, ca: str) -> None:
    read(name, ca)
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError:
        raise UserError(f"{name}={ca} is not a certificate: expected a PEM file") from None
