"""What a branch sees, in words: pieces joined by `+`, arguments after `:`, e.g. `crop+flip+erase:0.05:0.12:p=0.3`.

Parsing gives small frozen values and imports no TensorFlow, so that a flag is checked at once.
"""

import dataclasses
import math
from collections.abc import Sequence

from dico_tf.errors import UserError
from dico_tf.registry import Registry, suggestion


@dataclasses.dataclass(frozen=True)
class Crop:
    """A random window of the picture's own size, from the picture with a black border."""

    padding: int = 4

    def faults(self) -> str:
        return "" if self.padding >= 0 else "padding must be at least 0 pixels"


@dataclasses.dataclass(frozen=True)
class Flip:
    """Left to right, for every second image."""

    def faults(self) -> str:
        return ""


@dataclasses.dataclass(frozen=True)
class ResizedCrop:
    """A random part of the area, of aspect 3/4 to 4/3, resized to the image's size; first, of the whole picture."""

    min_area: float = 0.1

    def faults(self) -> str:
        return "" if 0 < self.min_area <= 1 else "min_area must be above 0 and at most 1"


@dataclasses.dataclass(frozen=True)
class ShortSide:
    """A square anywhere in the picture, whose short side is made U(least, most) times the image's size; first."""

    least: float = 1.14  # 182 to 228 pixels for 160, 256 to 320 for 224, as X3D is trained
    most: float = 1.43

    def faults(self) -> str:
        return "" if 1 <= self.least <= self.most else "the sides must satisfy 1 <= least <= most"


@dataclasses.dataclass(frozen=True)
class SimpleCrop:
    """A square as wide as the picture is short, anywhere in it or up to `padding` mirrored pixels beyond; first."""

    padding: int = 4

    def faults(self) -> str:
        return "" if self.padding >= 0 else "padding must be at least 0 pixels"


@dataclasses.dataclass(frozen=True)
class ThreeAugment:
    """Exactly one of grayscale, solarize from 128 and Gaussian blur."""

    def faults(self) -> str:
        return ""


@dataclasses.dataclass(frozen=True)
class Jitter:
    """Brightness, contrast and saturation, each by a factor U(1 - amount, 1 + amount), in an order of its own."""

    amount: float = 0.3

    def faults(self) -> str:
        return "" if self.amount >= 0 else "amount must be at least 0"


@dataclasses.dataclass(frozen=True)
class AutoAugmentCifar:
    """One of the 25 pairs of operations found for CIFAR-10."""

    def faults(self) -> str:
        return ""


@dataclasses.dataclass(frozen=True)
class AutoAugmentImagenet:
    """One of the 25 pairs of operations found for ImageNet."""

    def faults(self) -> str:
        return ""


@dataclasses.dataclass(frozen=True)
class RandAugment:
    """Two operations of 15, each done with probability 1/2 at level N(m, 1/2) of 10."""

    m: float = 9.0

    def faults(self) -> str:
        return "" if 0 <= self.m <= 10 else "m must lie in 0..10"


@dataclasses.dataclass(frozen=True)
class Erase:
    """With probability p, a rectangle inside the picture takes the mean colour."""

    min_area: float = 0.125
    max_area: float = 0.2
    min_aspect: float = 0.99
    p: float = 0.5
    max_aspect: float = 1.0

    def faults(self) -> str:
        if not 0 < self.min_area <= self.max_area <= 1:
            return "the areas must satisfy 0 < min_area <= max_area <= 1"
        if not 0 < self.min_aspect <= self.max_aspect:
            return "the aspects must satisfy 0 < min_aspect <= max_aspect (1 unless given)"
        return "" if 0 <= self.p <= 1 else "p must lie in 0..1"


@dataclasses.dataclass(frozen=True)
class Cutout:
    """A square of `size` pixels (0: half the side) around any pixel takes the mean colour."""

    size: int = 0

    def faults(self) -> str:
        return "" if self.size >= 0 else "size must be at least 0 pixels"


@dataclasses.dataclass(frozen=True)
class Scale:
    """Of segmentation: the picture is resized by a factor, drawn in steps where there is one, before it is cropped."""

    least: float = 0.5
    most: float = 2.0
    step: float = 0.0

    def faults(self) -> str:
        if not 0 < self.least <= self.most:
            return "the factors must satisfy 0 < least <= most"
        return "" if self.step >= 0 else "step must be at least 0"


Piece = (
    Scale | Crop | Flip | ResizedCrop | ShortSide | SimpleCrop | ThreeAugment | Jitter
    | AutoAugmentCifar | AutoAugmentImagenet | RandAugment | Erase | Cutout
)  # fmt: skip

PIECES: Registry[type] = Registry("piece of a view policy")
PIECES.add("none", type(None))
PIECES.add("scale", Scale)
PIECES.add("crop", Crop)
PIECES.add("flip", Flip)
PIECES.add("resized_crop", ResizedCrop)
PIECES.add("short_side", ShortSide)
PIECES.add("simple_crop", SimpleCrop)
PIECES.add("three_augment", ThreeAugment)
PIECES.add("jitter", Jitter)
PIECES.add("autoaugment_cifar", AutoAugmentCifar)
PIECES.add("autoaugment_imagenet", AutoAugmentImagenet)
PIECES.add("randaugment", RandAugment)
PIECES.add("erase", Erase)
PIECES.add("cutout", Cutout)


def parse(policy: str) -> tuple[Piece, ...]:
    """The pieces in the order they are applied; `none` is ()."""
    pieces = tuple(_piece(text.strip()) for text in policy.split("+"))
    if None in pieces and len(pieces) > 1:
        raise UserError(f"view policy {policy!r}: none stands alone")
    return tuple(piece for piece in pieces if piece is not None)


def parse_all(policies: Sequence[str], splits: int) -> tuple[tuple[Piece, ...], ...]:
    """One policy per branch, from one for all or one for each."""
    if len(policies) not in (1, splits):
        raise UserError(f"{len(policies)} view policies for {splits} branches: give one, or one per branch")
    parsed = tuple(parse(policy) for policy in policies)
    return parsed * splits if len(parsed) == 1 else parsed


def _piece(text: str) -> Piece | None:
    name, *words = text.split(":")
    if not name:
        raise UserError(f"a view policy has an empty piece; {suggestion(name, PIECES)}")
    kind = PIECES[name]
    fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
    values: dict[str, float] = {}
    for place, word in enumerate(words):
        field, number = _argument(text, fields, place, word)
        if field.name in values:
            raise UserError(f"{text!r} gives {field.name} twice")
        values[field.name] = number
    piece = kind(**values) if values else kind()
    if fault := piece.faults() if piece is not None else "":
        raise UserError(f"{text!r}: {fault}")
    return piece


def _argument(text: str, fields: tuple, place: int, word: str) -> tuple[dataclasses.Field, float]:
    """The field that a word like `0.2` (by its place) or `p=0.2` (by name) sets, and the number."""
    name, equals, number = word.rpartition("=")
    known = {field.name: field for field in fields}
    if equals and name not in known:
        raise UserError(f"{text!r} has no argument {name!r}; {_menu(text, known)}")
    if not equals and place >= len(fields):
        raise UserError(f"{text!r} has too many arguments; {_menu(text, known)}")
    field = known[name] if equals else fields[place]
    try:
        value = field.type(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        wanted = "a whole number" if field.type is int else "a number"
        raise UserError(f"{text!r}: {field.name} must be {wanted}, not {number!r}") from None
    return field, value


def _menu(text: str, known: dict[str, dataclasses.Field]) -> str:
    name = text.split(":")[0]
    return f"{name} takes {', '.join(known)}" if known else f"{name} takes none"
