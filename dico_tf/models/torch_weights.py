"""Loads the weights of published PyTorch networks into Keras branches, layer by layer."""

import dataclasses
import functools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from dico_tf.data.known_datasets import CIFAR_LARGEST
from dico_tf.errors import UserError
from dico_tf.models import timm_names, weight_matching
from dico_tf.models.checkpoints import SAFE, SUFFIXES, read
from dico_tf.models.custom import CustomNetwork
from dico_tf.models.preset import Preset
from dico_tf.models.presets import PRESETS, find
from dico_tf.models.weight_matching import Entry


@dataclasses.dataclass(frozen=True)
class Carried:
    """Names of what was not transferred: our variables that stay fresh, and unused layers of the checkpoint."""

    fresh: list[str]
    unused: list[str]


def holds_weights(path: str | Path) -> bool:
    """Return True for a file, and for a path where nothing is if it ends in .pth, .pt, .tar or .safetensors."""
    path = Path(path)
    return path.is_file() or (path.suffix in SUFFIXES and not path.is_dir())


def load(model: Any, path: str | Path, classes: str = "same") -> Carried:
    """Load a checkpoint into a DiCo with as many branches. Raises UserError, and changes nothing, if it does not fit.

    Args:
        classes: "same", or "any": a head for another number of classes stays fresh.
    """
    return fill(model.branches, path, find(model.get_config()["model"]), classes)


def preset_of(preset: Preset, path: str | Path) -> Preset:
    """Return the preset that a checkpoint was made of, which may be another form of `preset`.

    The forms of a network, such as efficientnet_b0 and tf_efficientnet_b0, differ in padding or normalisation; each is
    a preset. The names of the checkpoint's layers tell which of these presets it can be of. If they tell none, `preset`
    is returned. If they tell one, and `preset` is a listed one, such as efficientnet_b0, that one is returned.
    Otherwise `preset` is returned if it is among them; if it is not, UserError is raised.
    """
    if not preset.family.forms:
        return preset
    names = preset.presets_of_checkpoint(read(path)[0])
    if len(names) == 1 and preset.name in list(PRESETS):
        return PRESETS[names[0]]
    _check_form(preset, names, path)
    return preset


def _check_form(preset: Preset, names: Sequence[str], path: str | Path) -> None:
    if names and preset.name not in names:
        which = "as the model the one of them that it was trained as" if len(names) > 1 else "that preset as the model"
        raise UserError(
            f"{path}: expected a checkpoint of {preset.name}, got one whose layers are named as those of "
            f"{' and '.join(names)}, which pads or normalises differently and would answer wrongly; give {which}"
        )


def fill(branches: Sequence[Any], path: str | Path, preset: Preset | CustomNetwork, classes: str = "same") -> Carried:
    """Load a checkpoint into as many networks of a preset, one branch each; arguments and result as in `load`."""
    family = preset.family_name
    orderless = Path(path).suffix == SAFE
    if orderless and family not in timm_names.TABLES:
        raise UserError(
            f"{path}: {SAFE} files lose the order of layers, which {family or preset.name} needs: "
            "give a PyTorch checkpoint"
        )
    checkpoint = read(path)
    named = orderless or family not in timm_names.IN_ORDER
    if isinstance(preset, Preset):
        _check_form(preset, preset.presets_of_checkpoint(checkpoint[0]), path)
        _warn_of_strides(preset, branches[0].input_shape[1], path)
    try:
        return carry(checkpoint, branches, classes, family if named else "")
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _warn_of_strides(preset: Preset, image_size: int | None, path: str | Path) -> None:
    if not preset.spec.layout and image_size and image_size <= CIFAR_LARGEST:
        logging.getLogger(__name__).warning(
            "%s: at %d pixels %s is built with the strides for CIFAR. Weights trained on images above %d pixels, such "
            "as ImageNet's, belong to a network with other strides: for such weights, give an image size above %d",
            path,
            image_size,
            preset.name,
            CIFAR_LARGEST,
            CIFAR_LARGEST,
        )


def carry(
    checkpoint: Sequence[Mapping[str, np.ndarray]], branches: Sequence[Any], classes: str = "same", family: str = ""
) -> Carried:
    """Load the arrays of `read` into as many Keras models. Raises UserError, and changes nothing, if they do not fit.

    Args:
        classes: as in `load`.
        family: layers are matched by name if timm_names has this family, else by order and shape (weight_matching).
    """
    if classes not in ("same", "any"):
        raise UserError(f"classes: expected same or any, got {classes!r}")
    if len(checkpoint) != len(branches):
        raise UserError(
            f"the checkpoint holds {len(checkpoint)} branches and the network {len(branches)}: "
            f"give --splits={len(checkpoint)}, or a checkpoint with as many branches as the network"
        )
    plan = functools.partial(_named, family) if family in timm_names.TABLES else _plan
    plans = [plan(s, *both, classes) for s, both in enumerate(zip(checkpoint, branches, strict=True))]
    for plan in plans:
        for variable, array in plan.values:
            variable.assign(array)
    names = [name for plan in plans for name in plan.fresh], [name for plan in plans for name in plan.unused]
    return Carried(*names)


@dataclasses.dataclass(frozen=True)
class _Plan:
    """Values to assign to a branch, and the names of what is fresh or unused."""

    values: list[tuple[Any, np.ndarray]]
    fresh: list[str]
    unused: list[str]


def _named(family: str, s: int, arrays: Mapping[str, np.ndarray], branch: Any, classes: str) -> _Plan:
    try:
        values, fresh = timm_names.pairs(family, branch, arrays, classes)
    except UserError as error:
        raise UserError(f"branch {s}: {error}; give the --model, --splits and classes it was trained with") from None
    return _Plan(values, [f"branch_{s}/{name}" for name in fresh], [])


def _plan(s: int, arrays: Mapping[str, np.ndarray], branch: Any, classes: str) -> _Plan:
    """Return the plan for branch s, matched by order and shape; nothing is assigned yet."""
    layers = {layer.name: layer for layer in branch.layers if layer.weights}
    try:
        ours, theirs, fresh = [_ours(layer) for layer in layers.values()], entries(arrays), []
        if classes == "any" and theirs and _other_classes(ours[-1], theirs[-1]):
            head = layers[ours[-1].name]
            fresh = [f"branch_{s}/{head.name}/{variable.name}" for variable in head.weights]
            ours, theirs = ours[:-1], theirs[:-1]
        matched = weight_matching.match(weight_matching.blocks(ours), theirs)
    except UserError as error:
        raise UserError(f"branch {s}: {error}; give the --model, --splits and classes it was trained with") from None
    values = []
    for our, their in matched.pairs:
        values += _values(layers[our.name], their.name, arrays)
    return _Plan(values, fresh, [f"models.{s}.{entry.name}" for entry in matched.unused])


def _other_classes(our: Entry, their: Entry) -> bool:
    """Return True if two last layers have equal inputs and different numbers of classes."""
    return our.kind == their.kind == "matrix" and our.shape[1:] == their.shape[1:] and our.shape[0] != their.shape[0]


_MATRIX = ("weight", "bias")
_NORM = ("weight", "bias", "running_mean", "running_var")


def entries(arrays: Mapping[str, np.ndarray]) -> list[Entry]:
    """Return the checkpoint's layers in the order of the file. Raises UserError for an unknown kind of layer."""
    layers: dict[str, dict[str, tuple[int, ...]]] = {}
    for key, array in arrays.items():
        name, _, part = key.rpartition(".")
        layers.setdefault(name, {})[part] = array.shape
    return [_theirs(name, shapes) for name, shapes in layers.items()]


def _theirs(name: str, shapes: dict[str, tuple[int, ...]]) -> Entry:
    weight, others = shapes.get("weight", ()), {shape for part, shape in shapes.items() if part != "weight"}
    if len(weight) in (2, 4) and shapes.keys() <= set(_MATRIX) and others <= {weight[:1]}:
        return Entry(name, "matrix", (*weight, 1, 1)[:4], "bias" in shapes)
    if len(weight) == 1 and shapes.keys() == set(_NORM) and others == {weight}:
        return Entry(name, "norm", weight)
    tensors = ", ".join(f"{name}.{part} {'x'.join(map(str, shape))}".lstrip(".") for part, shape in shapes.items())
    raise UserError(f"expected a convolution, dense layer or batch normalisation, got {tensors}")


def _ours(layer: Any) -> Entry:
    if isinstance(layer, keras.layers.BatchNormalization):
        return Entry(layer.name, "norm", tuple(layer.gamma.shape))
    bias = getattr(layer, "bias", None) is not None
    match layer:
        case keras.layers.Dense():
            return Entry(layer.name, "matrix", (*layer.kernel.shape[::-1], 1, 1), bias)
        case keras.layers.DepthwiseConv2D():
            height, width, channels, each = layer.kernel.shape
            return Entry(layer.name, "matrix", (channels, each, height, width), bias)
        case keras.layers.Conv2D():
            height, width, inputs, outputs = layer.kernel.shape
            return Entry(layer.name, "matrix", (outputs, inputs, height, width), bias)
    raise UserError(f"{layer.name}: layers of class {type(layer).__name__} cannot take PyTorch weights")


def _values(layer: Any, name: str, arrays: Mapping[str, np.ndarray]) -> list[tuple[Any, np.ndarray]]:
    """Return each variable of a layer with its array of the checkpoint's layer `name`, in the axis order of Keras.

    Raises KeyError if `arrays` lacks one.
    """
    if isinstance(layer, keras.layers.BatchNormalization):
        variables = (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)
        return [(variable, arrays[f"{name}.{part}"]) for variable, part in zip(variables, _NORM, strict=True)]
    weight = arrays[f"{name}.weight"]
    weight = weight.reshape((*weight.shape, 1, 1)[:4])  # [out, in / groups, height, width]
    axes = (2, 3, 0, 1) if isinstance(layer, keras.layers.DepthwiseConv2D) else (2, 3, 1, 0)
    kernel = weight.transpose(axes).reshape(layer.kernel.shape)
    return [(layer.kernel, kernel)] + ([(layer.bias, arrays[f"{name}.bias"])] if layer.bias is not None else [])
