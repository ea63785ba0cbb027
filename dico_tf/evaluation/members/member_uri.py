"""URIs of members: [NAME=]PLACE[:PART][@SIZE][?OPTION=VALUE[&OPTION=VALUE...]].

Example: `small=runs/digits:branch_0@48` is branch 0 of a run for images of 48 pixels, under the name `small`.
"""

import dataclasses
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from dico_tf.errors import UserError
from dico_tf.evaluation.members.kinds import kinds_by
from dico_tf.files import member_kinds as kinds
from dico_tf.registry import suggestion

EXAMPLES = (
    "a run's folder, x.keras, x.tflite, x.onnx, a SavedModel's folder, an export's folder or manifest.json, x.npz, "
    "keras:EfficientNetB0, or preset:vit_b_16_plain?weights=FILE"
)
BACKGROUND = "background"  # the part :background means ?background=first
_NAMED = re.compile(r"([\w.@+-]+)=(.*)", re.DOTALL)
_SIZED = re.compile(r"(.+)@(\d+)", re.DOTALL)
_PREFIXES, _SUFFIXES, _MARKERS = kinds_by("prefix"), kinds_by("suffix"), kinds_by("marker")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemberURI:
    """A parsed URI of one or several members."""

    source: str  # the URI without the name
    kind: str
    place: str  # a path, or the name of a network
    name: str = ""
    part: str = ""  # one of several networks or signatures at the place, or "background"; "" = none named
    size: int = 0  # of images; 0 = the network's own
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def check(self, options: Collection[str]) -> None:
        """Raise UserError if the URI has an option that is not among `options`."""
        for option in self.options:
            if option not in options:
                known = suggestion(option, options) if options else "it takes none"
                kind = self.kind.replace("_", " ")
                raise UserError(f"{self.source}: a member of kind {kind} has no option {option!r}; {known}")

    def number(self, option: str, default: Any, kind: type = int) -> Any:
        """Return the value of a numeric option as `kind`, int or float; `default` if the URI does not have the option.

        Raises UserError unless the value is above 0 and below 1e18.
        """
        try:
            value = kind(self.options[option]) if option in self.options else default
        except ValueError:
            value = -1
        if option in self.options and not 0 < value < 1e18:
            whole = "whole " if kind is int else ""
            raise UserError(
                f"{self.source}: ?{option}={self.options[option]} must be a {whole}number above 0 and below 1e18"
            )
        return value

    def with_part(self, part: str) -> str:
        """Return the URI without the name; this part is added unless the URI has one already."""
        if self.part or not part:
            return self.source
        place, mark, query = self.source.rpartition("?") if self.options else (self.source, "", "")
        sized = f"@{self.size}" if self.size else ""
        return f"{place.removesuffix(sized)}:{part}{sized}{mark}{query}"

    def with_size(self, size: int) -> str:
        """Return the URI without the name and with this image size; the URI must not have a size yet."""
        place, mark, query = self.source.rpartition("?") if self.options else (self.source, "", "")
        return f"{place}@{size}{mark}{query}"

    @property
    def background(self) -> str:
        """The value of ?background, or "auto" without it; the part :background means "first"."""
        return "first" if self.part == BACKGROUND else self.options.get("background", "auto")

    def label(self, *parts: str) -> str:
        """Return a member's name: "NAME.part" if the URI has a name, else "PLACE.part" or "PLACE.part@SIZE".

        PLACE is the last component of a path, without a suffix such as .keras. `parts`, which may be none, distinguish
        several members of one URI. Example: "digits.branch_0@48" for runs/digits@48.
        """
        name = ".".join([self.name or self._stem, *filter(None, parts)])
        return f"{name}@{self.size}" if self.size and not self.name else name

    @property
    def _stem(self) -> str:
        path = Path(self.place).absolute()
        path = path.parent if _MARKERS.get(path.name) == kinds.EXPORT else path
        return path.stem if path.suffix in _SUFFIXES else path.name


def parse(text: str) -> MemberURI:
    """Parse a member's URI. Raises UserError if it is malformed, or if nothing at this place can be a member."""
    text = text.strip()
    named = None if Path(text).expanduser().exists() else _NAMED.fullmatch(text)
    name, source = named.groups() if named else ("", text)
    if not source:
        raise UserError(f"expected a member, got {text!r}: give {EXAMPLES}")
    rest, options = _options(source)
    sized = None if Path(rest).expanduser().exists() or ".npz:" in rest else _SIZED.fullmatch(rest)
    rest, size = (sized[1], int(sized[2])) if sized else (rest, 0)
    if sized and not 4 <= size <= 4096:
        raise UserError(f"{source}: @{sized[2]} must be an image size of 4 to 4096 pixels")
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
    options = {}
    for word in query.split("&") if query else ():
        option, equals, value = word.partition("=")
        if not (option and equals and value):
            raise UserError(f"{source}: expected ?OPTION=VALUE, with & between several, got {word!r}")
        options[option] = value
    return rest, options


def _split(rest: str) -> tuple[Path, str]:
    """Split PLACE[:PART] into place and part; the part is "" without a colon, or if `rest` is an existing path."""
    path = Path(rest).expanduser()
    if path.exists() or ":" not in rest:
        return path, ""
    place, _, part = rest.partition(":") if ".npz:" in rest else rest.rpartition(":")
    return Path(place).expanduser(), part


def _kind(path: Path, source: str) -> str:
    if not path.exists():
        raise UserError(f"{source}: there is no {path}; {_near(path)}")
    if path.is_dir():
        matching = [kind for marker, kind in _MARKERS.items() if (path / marker).exists()]
        if matching:
            return matching[0]
        raise UserError(
            f"{source}: the folder {path} is neither a run (it has no config.json), nor an export (no manifest.json), "
            "nor a SavedModel (no saved_model.pb)"
        )
    if _MARKERS.get(path.name) == kinds.EXPORT:
        return kinds.EXPORT
    if path.suffix in _SUFFIXES:
        return _SUFFIXES[path.suffix]
    if path.suffix in (".h5", ".hdf5"):
        raise UserError(
            f"{source}: {path.suffix} files (weights, or Keras' older format) cannot be members: save the model with "
            "model.save('NAME.keras')"
        )
    raise UserError(f"{source}: expected a member, got a file {path.suffix or path.name}: give {EXAMPLES}")


def _near(path: Path) -> str:
    beside = sorted(entry.name for entry in path.parent.iterdir()) if path.parent.is_dir() else []
    near = suggestion(path.name, beside) if beside else ""
    return near if near.startswith("did you mean") else f"a member is {EXAMPLES}"
