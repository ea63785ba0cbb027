"""The grammar of `--views`: pieces joined by `+`, arguments after `:`, e.g. `crop+flip+erase:0.05:0.12:p=0.3`.

Parsing gives small frozen values and imports no TensorFlow, so that a wrong flag is reported at once.
"""

import dataclasses
import importlib
import math
from collections.abc import Sequence

from dico_tf.errors import UserError
from dico_tf.registry import Registry, suggestion
from dico_tf.views.piece import Piece, SharedPiece

Policy = tuple[Piece, ...]

PIECES: Registry[str] = Registry("piece of a view policy")  # name -> module.Class in dico_tf.views.pieces
PIECES.add("none", "")
PIECES.add("scale", "windows.Scale")
PIECES.add("crop", "pixels.Crop")
PIECES.add("flip", "pixels.Flip")
PIECES.add("resized_crop", "windows.ResizedCrop")
PIECES.add("short_side", "windows.ShortSide")
PIECES.add("simple_crop", "pixels.SimpleCrop")
PIECES.add("three_augment", "colour.ThreeAugment")
PIECES.add("jitter", "colour.Jitter")
PIECES.add("autoaugment_cifar", "augmentation.AutoAugmentCifar")
PIECES.add("autoaugment_imagenet", "augmentation.AutoAugmentImagenet")
PIECES.add("randaugment", "augmentation.RandAugment")
PIECES.add("trivialaugment", "trivial_augment.TrivialAugment")
PIECES.add("erase", "pixels.Erase")
PIECES.add("cutout", "pixels.Cutout")


def parse(policy: str) -> Policy:
    """Parse one view policy: return its pieces in the order in which they are applied; `none` gives ().

    Raises:
        UserError: if the policy names an unknown piece, or a piece has wrong arguments.
    """
    pieces = tuple(_piece(text.strip()) for text in policy.split("+"))
    if None in pieces and len(pieces) > 1:
        raise UserError(f"view policy {policy!r}: none must stand alone; leave it out, or give only none")
    return tuple(piece for piece in pieces if piece is not None)


def parse_all(policies: Sequence[str], splits: int, task: str) -> tuple[Policy, ...]:
    """Return one parsed policy per branch, from one for all branches or one for each.

    Raises:
        UserError: if a policy cannot be parsed, if the policies do not fit the task, or if their number is neither 1
            nor `splits`.
    """
    if len(policies) not in (1, splits):
        raise UserError(f"got {len(policies)} view policies for {splits} branches: give one, or one per branch")
    parsed = tuple(parse(policy) for policy in policies)
    for fault in _segmentation_faults(parsed) if task == "segmentation" else _image_faults(parsed):
        raise UserError(f"--views={','.join(policies)}: {fault}")
    return parsed * splits if len(parsed) == 1 else parsed


def shared_and_own(policy: Policy) -> tuple[tuple[SharedPiece, ...], Policy]:
    """Return the pieces that segmentation draws once for all branches, and those that it draws for each branch."""
    shared = tuple(piece for piece in policy if isinstance(piece, SharedPiece))
    return shared, tuple(piece for piece in policy if not isinstance(piece, SharedPiece))


def _image_faults(parsed: Sequence[Policy]) -> list[str]:
    return [_misplaced(piece) for policy in parsed for piece in policy if "classification" not in piece.tasks]


def _segmentation_faults(parsed: Sequence[Policy]) -> list[str]:
    shared, others = zip(*map(shared_and_own, parsed), strict=True)
    if len(set(shared)) > 1:
        return [
            "branches of a segmentation run see the same place of an image; give scale, crop and flip with the same "
            "arguments and in the same order for all"
        ]
    faults = []
    for piece in (piece for policy in others for piece in policy):
        if "segmentation" not in piece.tasks:
            faults.append(_misplaced(piece))
        elif piece.moves_pixels:
            faults.append(f"{type(piece).__name__} moves pixels of the image, but not of the mask; leave it out")
    if len({type(piece) for piece in shared[0]}) < len(shared[0]):
        faults.append("give scale, crop and flip at most once each for segmentation")
    return faults


def _misplaced(piece: Piece) -> str:
    return piece.instead or f"{type(piece).__name__} is for {' and '.join(piece.tasks)} only; leave it out"


def _piece(text: str) -> Piece | None:
    name, *words = text.split(":")
    if not name:
        raise UserError(
            f"expected a view piece that begins with its name, got {text!r}; put a single + between two pieces; "
            f"{suggestion(name, PIECES)}"
        )
    kind = _load(PIECES[name])
    fields = dataclasses.fields(kind) if kind else ()
    values: dict[str, float] = {}
    for position, word in enumerate(words):
        field, number = _argument(text, fields, position, word)
        if field.name in values:
            raise UserError(f"{text!r} gives {field.name} twice: give it once")
        values[field.name] = number
    piece = kind(**values) if kind else None
    if fault := piece.faults() if piece else "":
        raise UserError(f"{text!r}: {fault}")
    return piece


def _load(path: str) -> type[Piece] | None:
    """Import the class that a registry entry such as `pixels.Crop` names; None for the empty entry of `none`."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(f"dico_tf.views.pieces.{module}"), name) if path else None


def _argument(
    text: str, fields: Sequence[dataclasses.Field], position: int, word: str
) -> tuple[dataclasses.Field, float]:
    """Return the field that a word like `0.2` (by position) or `p=0.2` (by name) sets, and its number.

    Raises UserError if there is no such field, or if the number is not finite or not of the field's type.

    Args:
        text: the piece with all its words, for errors.
        position: index of the word, from 0.
    """
    name, equals, number = word.rpartition("=")
    known = {field.name: field for field in fields}
    if equals and name not in known:
        raise UserError(f"{text!r} has no argument {name!r}; {_usage(text, known)}")
    if not equals and position >= len(fields):
        raise UserError(f"{text!r} has too many arguments; {_usage(text, known)}")
    field = known[name] if equals else fields[position]
    try:
        value = field.type(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        expected = "a whole number" if field.type is int else "a finite number"
        raise UserError(f"{text!r}: {field.name} must be {expected}, got {number!r}") from None
    return field, value


def _usage(text: str, known: dict[str, dataclasses.Field]) -> str:
    name = text.split(":")[0]
    return f"{name} takes {', '.join(known)}" if known else f"{name} takes no arguments"
