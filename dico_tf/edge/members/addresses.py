"""Addresses of members, from --members=branch_0=host:port|replica:port,branch_1=tfserving://host:port/name"""

import dataclasses
import re
from collections.abc import Sequence

from dico_tf.errors import UserError
from dico_tf.registry import suggestion

FORM = "branch_0=host:port|replica:port,branch_1=tfserving://host:port/name"
_ADDRESS = re.compile(r"(?:tfserving://(?P<served>[^/|]+)/(?P<name>[\w.-]+)|(?P<plain>[^/|]+))")
_TARGET = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[\w.-]+):(?P<port>\d{1,5})")


@dataclasses.dataclass(frozen=True)
class Address:
    """The address of a worker or of a TensorFlow Serving server."""

    target: str  # host:port
    served_as: str = ""  # the model's name on a TensorFlow Serving server; "" for a worker

    @property
    def host(self) -> str:
        return self.target.rpartition(":")[0]

    def __str__(self) -> str:
        return f"tfserving://{self.target}/{self.served_as}" if self.served_as else self.target


def parse(words: Sequence[str], branches: Sequence[str]) -> dict[str, list[Address]]:
    """Parse --members; return the addresses of each branch, in the order of `branches`. Raises UserError."""
    addresses: dict[str, list[Address]] = {}
    for word in words:
        name, _, places = word.partition("=")
        if name not in branches:
            raise UserError(
                f"--members={word}: {name!r} is not in the manifest's committee; {suggestion(name, branches)}"
            )
        if name in addresses:
            raise UserError(f"--members names {name} twice: write {name}=host:port|replica:port for a replica")
        addresses[name] = [_address(name, place) for place in places.split("|")]
    if absent := [name for name in branches if name not in addresses]:
        raise UserError(f"--members has no address of {', '.join(absent)}: write --members={FORM}")
    return {name: addresses[name] for name in branches}


def _address(name: str, place: str) -> Address:
    match = _ADDRESS.fullmatch(place.strip())
    target = match and (match["served"] or match["plain"])
    port = target and _TARGET.fullmatch(target)
    if not match or not port or not 0 < int(port["port"]) < 65536:
        raise UserError(
            f"--members={name}={place} is not an address with a port from 1 to 65535: write --members={FORM}"
        )
    return Address(target, match["name"] or "")
