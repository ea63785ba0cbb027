"""Where members are: branch_0=host:port|replica:port,branch_1=tfserving://host:port/name"""

import dataclasses
import re
from collections.abc import Sequence

from dico_tf.errors import UserError
from dico_tf.registry import suggestion

FORM = "branch_0=host:port|replica:port,branch_1=tfserving://host:port/name"
_PLACE = re.compile(r"(?:tfserving://(?P<served>[^/|]+)/(?P<name>[\w.-]+)|(?P<plain>[^/|]+))")
_TARGET = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[\w.-]+):(?P<port>\d{1,5})")


@dataclasses.dataclass(frozen=True)
class Address:
    target: str  # host:port
    served_as: str = ""  # the model's name on a TensorFlow Serving server; a worker has none

    @property
    def host(self) -> str:
        return self.target.rpartition(":")[0]

    def __str__(self) -> str:
        return f"tfserving://{self.target}/{self.served_as}" if self.served_as else self.target


def read(words: Sequence[str], committee: Sequence[str]) -> dict[str, list[Address]]:
    """--members, which must say where every branch of the committee is; in the committee's order."""
    found: dict[str, list[Address]] = {}
    for word in words:
        name, _, places = word.partition("=")
        if name not in committee:
            raise UserError(
                f"--members={word}: {name!r} is not on the manifest's committee; {suggestion(name, committee)}"
            )
        if name in found:
            raise UserError(f"--members names {name} twice: write {name}=host:port|replica:port for a replica")
        found[name] = [_address(name, place) for place in places.split("|")]
    if lost := [name for name in committee if name not in found]:
        raise UserError(f"--members has no address of {', '.join(lost)}: write --members={FORM}")
    return {name: found[name] for name in committee}


def _address(name: str, place: str) -> Address:
    match = _PLACE.fullmatch(place.strip())
    target = match and (match["served"] or match["plain"])
    port = target and _TARGET.fullmatch(target)
    if not match or not port or not 0 < int(port["port"]) < 65536:
        raise UserError(f"--members={name}={place} is no address: write --members={FORM}")
    return Address(target, match["name"] or "")
