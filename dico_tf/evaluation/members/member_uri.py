"""How members are spelt: [NAME=]PLACE[:PART][@SIZE][?OPTION=VALUE[&OPTION=VALUE...]]."""

import dataclasses
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from dico_tf.errors import UserError
from dico_tf.evaluation.members.kinds import by
from dico_tf.files import member_kinds as kinds
from dico_tf.registry import suggestion

EXAMPLES = (
    "a run's folder, x.keras, x.tflite, x.onnx, a SavedModel's folder, an export's folder or manifest.json, x.npz, "
    "keras:EfficientNetB0, or preset:vit_b_16_plain?weights=FILE"
)
BACKGROUND = "background"  # the part of a network that stands for ?background=first
_NAMED = re.compile(r"([\w.@+-]+)=(.+)", re.DOTALL)
_SIZED = re.compile(r"(.+)@(\d+)", re.DOTALL)
_PREFIXES, _SUFFIXES, _MARKERS = by("prefix"), by("suffix"), by("marker")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemberURI:
    source: str  # as given, without the name
    kind: str
    place: str
    name: str = ""  # "" where none was given
    part: str = ""
    size: int = 0
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def check(self, options: Collection[str]) -> None:
        """Refuses what this kind of member has no use for."""
        for option in self.options:
            if option not in options:
                known = suggestion(option, options) if options else "it has none"
                raise UserError(f"{self.source}: a {self.kind.replace('_', ' ')} has no option {option!r}; {known}")

    def number(self, option: str, default: Any, kind: type = int) -> Any:
        try:
            value = kind(self.options[option]) if option in self.options else default
        except ValueError:
            value = -1
        if option in self.options and not 0 < value < 1e18:
            raise UserError(f"{self.source}: ?{option}={self.options[option]} is no number above 0")
        return value

    def spelt(self, part: str) -> str:
        """How one of the several networks of a source is spelt."""
        if self.part or not part:
            return self.source
        place, asked, query = self.source.rpartition("?") if self.options else (self.source, "", "")
        sized = f"@{self.size}" if self.size else ""
        return f"{place.removesuffix(sized)}:{part}{sized}{asked}{query}"

    @property
    def background(self) -> str:
        """What the part or the option says of a background class."""
        return "first" if self.part == BACKGROUND else self.options.get("background", "auto")

    def label(self, *parts: str) -> str:
        """The name given, or one made of the place; with what tells members of one source apart."""
        name = ".".join([self.name or self._stem, *filter(None, parts)])
        return f"{name}@{self.size}" if self.size and not self.name else name

    @property
    def _stem(self) -> str:
        path = Path(self.place).absolute()
        path = path.parent if _MARKERS.get(path.name) == kinds.EXPORT else path
        return path.stem if path.suffix in _SUFFIXES else path.name


def parse(text: str) -> MemberURI:
    text = text.strip()
    named = None if Path(text).expanduser().exists() else _NAMED.fullmatch(text)
    name, source = named.groups() if named else ("", text)
    if not source:
        raise UserError(f"a member has no name of its own only: give {EXAMPLES}")
    rest, options = _options(source)
    sized = None if Path(rest).expanduser().exists() or ".npz:" in rest else _SIZED.fullmatch(rest)
    rest, size = (sized[1], int(sized[2])) if sized else (rest, 0)
    if sized and not 4 <= size <= 4096:
        raise UserError(f"{source}: @{sized[2]} is no side of a picture: give 4 to 4096 pixels")
    shared = {"source": source, "name": name, "size": size, "options": options}
    for prefix, kind in _PREFIXES.items():
        if rest.startswith(prefix):
            return MemberURI(kind=kind, place=rest.removeprefix(prefix), **shared)
    place, part = _split(rest)
    return MemberURI(kind=_kind(place, source), place=str(place), part=part, **shared)


def _options(source: str) -> tuple[str, dict[str, str]]:
    if Path(source).expanduser().exists():
        return source, {}
    rest, _, query = source.partition("?")
    found = {}
    for word in query.split("&") if query else ():
        option, equals, value = word.partition("=")
        if not (option and equals and value):
            raise UserError(f"{source}: {word!r} is no option: write ?OPTION=VALUE, and & between several")
        found[option] = value
    return rest, found


def _split(rest: str) -> tuple[Path, str]:
    """The place, and the part of it that is meant."""
    path = Path(rest).expanduser()
    if path.exists() or ":" not in rest:
        return path, ""
    place, _, part = rest.partition(":") if ".npz:" in rest else rest.rpartition(":")
    return Path(place).expanduser(), part


def _kind(path: Path, source: str) -> str:
    if not path.exists():
        raise UserError(f"{source}: there is no {path}; {_near(path)}")
    if path.is_dir():
        found = [kind for marker, kind in _MARKERS.items() if (path / marker).exists()]
        if found:
            return found[0]
        raise UserError(
            f"{source}: the folder {path} is neither a run (it has no config.json), nor an export (no manifest.json), "
            "nor a SavedModel (no saved_model.pb)"
        )
    if _MARKERS.get(path.name) == kinds.EXPORT:
        return kinds.EXPORT
    if path.suffix in _SUFFIXES:
        return _SUFFIXES[path.suffix]
    if path.suffix in (".h5", ".hdf5"):
        raise UserError(f"{source}: {path.suffix} files hold weights or an older format: write it anew with "
                        "model.save('NAME.keras')")  # fmt: skip
    raise UserError(f"{source}: a file {path.suffix or path.name} is no member: give {EXAMPLES}")


def _near(path: Path) -> str:
    beside = sorted(entry.name for entry in path.parent.iterdir()) if path.parent.is_dir() else []
    near = suggestion(path.name, beside) if beside else ""
    return near if near.startswith("did you mean") else f"a member is {EXAMPLES}"
