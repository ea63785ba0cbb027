"""Settings of workers and gateways. Imports nothing that takes long, so that --help is fast."""

import dataclasses
from collections.abc import Iterator

from dico_tf.config import option
from dico_tf.errors import UserError

FORMATS = ("safest", "float32", "float16", "dynamic", "int8")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """Where requests come in, from whom, and how much at once."""

    host: str = option("127.0.0.1", "address to listen on; one beyond loopback needs TLS and a token or client CA")
    port: int = option(0, "port of gRPC; 0 = any that is free, which the ready line tells")
    http_port: int = option(0, "port of HTTP; 0 = any that is free; -1 = no HTTP")
    tls_cert: str = option("", "PEM file of this server's certificate, with those that lead to its root")
    tls_key: str = option("", "PEM file of the certificate's key, without a password")
    tls_client_ca: str = option("", "PEM file of the CA that signs clients' certificates, which are then required")
    token_file: str = option("", "file of the bearer token asked of clients (default: the variable DICO_TF_TOKEN)")
    insecure: bool = option(False, "listen beyond loopback without TLS or without knowing who asks")
    timeout_ms: int = option(10_000, "deadline of requests that bring none")
    max_request_bytes: int = option(16 * 2**20, "longest request")
    max_pixels: int = option(25_000_000, "largest picture that is decoded, as it is stored")
    max_batch: int = option(64, "most images of one request")
    max_concurrency: int = option(64, "most requests at once; more are refused")
    stop_seconds: float = option(10.0, "time to finish what is being answered after SIGTERM or Ctrl-C")

    def __post_init__(self) -> None:
        least = {"timeout_ms": 1, "max_request_bytes": 1024, "max_pixels": 1, "max_batch": 1, "max_concurrency": 1}
        faults = list(_below(self, {**least, "stop_seconds": 0, "port": 0, "http_port": -1}))
        faults += [f"--{n}={v} is no port" for n in ("port", "http_port") if (v := getattr(self, n)) > 65535]
        _refuse(faults)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """Which file of an export answers, and with how many threads."""

    manifest: str = option("", "manifest.json of an export, or its folder")
    member: str = option("", "member that answers here, e.g. branch_0 or committee")
    format: str = option("safest", "which of its LiteRT files; safest: the most exact there is", FORMATS)
    threads: int = option(1, "requests computed at once, each by a thread with an interpreter of its own")
    threads_each: int = option(1, "threads over which one inference is spread")
    queue: int = option(32, "requests that wait for a thread; more are refused with RESOURCE_EXHAUSTED")
    watch_seconds: float = option(1.0, "time between looks for a new export in the old one's place; SIGHUP looks now")

    def __post_init__(self) -> None:
        faults = [] if self.manifest else ["--manifest is needed: manifest.json of an export"]
        faults += [] if self.member else ["--member is needed: the member that answers here, e.g. branch_0"]
        _refuse([*faults, *_below(self, {"threads": 1, "threads_each": 1, "queue": 1, "watch_seconds": 0.05})])


@dataclasses.dataclass(frozen=True, kw_only=True)
class CommitteeOptions:
    """By which the answers of many become one."""

    manifest: str = option("", "manifest.json of an export, or its folder")
    quorum: int = option(0, "members that must answer; 0 = more than half of the committee")
    deadline_ms: int = option(1000, "time until an answer is given with the members that there are")
    cascade: bool = option(True, "where the export has a cascade, ask a member only if those before it were unsure")

    def __post_init__(self) -> None:
        faults = [] if self.manifest else ["--manifest is needed: manifest.json of an export"]
        _refuse([*faults, *_below(self, {"quorum": 0, "deadline_ms": 1})])

    def majority(self, members: int) -> int:
        """The quorum of so many members."""
        if self.quorum > members:
            raise UserError(f"--quorum={self.quorum} can never be reached: the committee has {members} members")
        return self.quorum or members // 2 + 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class GatewayOptions(CommitteeOptions):
    """Who is asked, and how."""

    members: tuple[str, ...] = option(
        (), "where each member is: branch_0=host:port|replica:port,branch_1=tfserving://host:port/name"
    )
    hedge: float = option(0.05, "share of the calls that may go to a replica too, when an answer is slow; 0 = none")
    allow_mixed_exports: bool = option(False, "average members of different exports, which were not made together")
    member_tls_ca: str = option("", "PEM file of the CA that signed the members' certificates; they are asked over TLS")
    member_tls_cert: str = option("", "PEM file of the certificate shown to members that require one")
    member_tls_key: str = option("", "PEM file of that certificate's key, without a password")
    member_token_file: str = option("", "file of the bearer token sent to members")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.hedge <= 1:
            raise UserError(f"--hedge={self.hedge} must be 0 to 1, a share of the calls")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalOptions(CommitteeOptions):
    """All of it on one machine."""

    format: str = option("safest", "which of the members' LiteRT files; safest: the most exact there is", FORMATS)


def _below(asked: object, least: dict[str, float]) -> Iterator[str]:
    for name, most in least.items():
        value = getattr(asked, name)
        if not value >= most:
            yield f"--{name}={value} must be at least {most}"


def _refuse(faults: list[str]) -> None:
    if faults:
        raise UserError("\n".join(faults))
