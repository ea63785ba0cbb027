"""Flags of `serve.py worker`, `gateway` and `local`. Imports nothing slow, so that --help is fast."""

import dataclasses
from collections.abc import Iterator

from dico_tf.config import option
from dico_tf.errors import UserError

FORMATS = ("safest", "float32", "float16", "dynamic", "int8")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """Ports, access control and limits of a server."""

    host: str = option(
        "127.0.0.1",
        "address to listen on; one that other machines can reach needs TLS and a token or client CA, or --insecure",
    )
    port: int = option(0, "gRPC port; 0 = any free port, printed in the ready line")
    http_port: int = option(0, "HTTP port; 0 = any free port; -1 = no HTTP")
    tls_cert: str = option("", "PEM file of this server's certificate and its chain")
    tls_key: str = option("", "PEM file of the certificate's key, without a password")
    tls_client_ca: str = option("", "PEM file of a CA; every client then needs a certificate that it signed")
    token_file: str = option(
        "", "file with the bearer token that clients must send (default: the variable DICO_TF_TOKEN)"
    )
    insecure: bool = option(False, "allow other machines to connect without TLS or without authentication")
    timeout_ms: int = option(10_000, "milliseconds after which a request without its own deadline fails")
    max_request_bytes: int = option(
        16 * 2**20, "largest size in bytes of a request, and of its decoded images at a gateway"
    )
    max_pixels: int = option(25_000_000, "largest number of pixels of an encoded image")
    max_batch: int = option(64, "largest number of images in a request")
    max_concurrency: int = option(64, "largest number of requests at the same time; more are refused")
    stop_seconds: float = option(10.0, "seconds to finish current requests after SIGTERM or Ctrl-C")

    def __post_init__(self) -> None:
        smallest = {"timeout_ms": 1, "max_request_bytes": 1024, "max_pixels": 1, "max_batch": 1, "max_concurrency": 1}
        errors = list(_too_small(self, {**smallest, "stop_seconds": 0, "port": 0, "http_port": -1}))
        errors += [f"--{n}={v} must be at most 65535" for n in ("port", "http_port") if (v := getattr(self, n)) > 65535]
        _raise_all(errors)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """The member that a worker serves, and its threads."""

    manifest: str = option("", "manifest.json of an export, or its folder")
    member: str = option("", "member to serve, e.g. branch_0 or committee")
    format: str = option(
        "safest", "which of its LiteRT files to run; safest = the most accurate one in the export", FORMATS
    )
    threads: int = option(1, "requests to compute at the same time, each in its own thread with its own interpreter")
    threads_each: int = option(1, "threads that compute one request together")
    queue: int = option(32, "requests that wait for a thread; more are refused with RESOURCE_EXHAUSTED")
    watch_seconds: float = option(1.0, "seconds between checks for a new export in the same place; SIGHUP checks now")

    def __post_init__(self) -> None:
        errors = [] if self.manifest else ["--manifest is required: give manifest.json of an export"]
        errors += [] if self.member else ["--member is required: give the member to serve, e.g. branch_0"]
        _raise_all([*errors, *_too_small(self, {"threads": 1, "threads_each": 1, "queue": 1, "watch_seconds": 0.05})])


@dataclasses.dataclass(frozen=True, kw_only=True)
class CommitteeOptions:
    """The export of a committee, how many of its members must answer, by when, and if its cascade is used."""

    manifest: str = option("", "manifest.json of an export, or its folder")
    quorum: int = option(0, "members that must answer; 0 = more than half of the committee")
    deadline_ms: int = option(
        1000, "milliseconds after which the members that have answered decide alone, if they are a quorum"
    )
    cascade: bool = option(
        True, "if the export has a cascade, ask each member only about images that the members before it were unsure of"
    )

    def __post_init__(self) -> None:
        errors = [] if self.manifest else ["--manifest is required: give manifest.json of an export"]
        _raise_all([*errors, *_too_small(self, {"quorum": 0, "deadline_ms": 1})])

    def majority(self, members: int) -> int:
        """Return --quorum, or if it is 0 more than half of `members`. Raises UserError if it exceeds `members`."""
        if self.quorum > members:
            raise UserError(f"--quorum={self.quorum} must be at most {members}, the members of the committee")
        return self.quorum or members // 2 + 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class GatewayOptions(CommitteeOptions):
    """The members that a gateway asks, and how it reaches them."""

    members: tuple[str, ...] = option(
        (), "address of each member: branch_0=host:port|replica:port,branch_1=tfserving://host:port/name"
    )
    hedge: float = option(0.05, "share of calls that may also go to a replica when the first address is slow; 0 = none")
    allow_mixed_exports: bool = option(False, "average answers of members that serve different exports")
    member_tls_ca: str = option("", "PEM file of the CA that signed the members' certificates; turns TLS to members on")
    member_tls_cert: str = option("", "PEM file of the client certificate for members that require one")
    member_tls_key: str = option("", "PEM file of the client certificate's key, without a password")
    member_token_file: str = option("", "file with the bearer token to send to members")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.hedge <= 1:
            raise UserError(f"--hedge={self.hedge} must be between 0 and 1, a share of the calls")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalOptions(CommitteeOptions):
    """All workers and their gateway on one machine."""

    format: str = option(
        "safest", "which of the members' LiteRT files to run; safest = the most accurate one in the export", FORMATS
    )


def _too_small(options: object, smallest: dict[str, float]) -> Iterator[str]:
    """Yield one message for each option below its smallest value."""
    for name, bound in smallest.items():
        value = getattr(options, name)
        if not value >= bound:
            yield f"--{name}={value} must be at least {bound}"


def _raise_all(errors: list[str]) -> None:
    if errors:
        raise UserError("\n".join(errors))
