"""Branches that are networks of any kind, each with its own architecture and image size, instead of a division."""

import dataclasses
import functools
import itertools
import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from dico_tf.divide.networks.architecture import from_dict, to_dict
from dico_tf.divide.networks.cost import NetworkCost, cost
from dico_tf.divide.networks.graph import FrozenLayers, calls, flat, flat_with_origins, frozen_layers, weightless
from dico_tf.divide.networks.strip_softmax import PASSES
from dico_tf.errors import UserError
from dico_tf.layers.image_input import Normalisation, head_layer
from dico_tf.layers.resizing import ResizeImage

Arrays = Mapping[str, Sequence[np.ndarray]]  # {layer: its weights}, of the layers below the head
_OWN_LAYERS = ("branch_resize", "branch_flatten", "logits")  # names of the layers that a branch adds to the network


@dataclasses.dataclass(frozen=True, kw_only=True)
class ListedBranch:
    """One branch: the layers of a network below its head, to which `build` adds a head for the classes of the data.

    Attributes:
        name: a name to show to the user.
        image_size: side in pixels of the images that the network takes; `build` adds a layer that resizes others.
        text: JSON of the architecture (see `to_dict`) from raw images of `image_size` to the input of the head.
        source: URI of the member that it was made from.
    """

    name: str
    image_size: int
    text: str
    source: str = ""

    def build(self, image_size: int, classes: int, normalisation: Normalisation = Normalisation()) -> keras.Model:
        """Return the network from raw images of `image_size` pixels to logits, with new weights (see `fill`).

        `normalisation` is ignored, since the network's own layers normalise. Raises UserError unless Keras' dtype
        policy is float32.
        """
        if keras.config.dtype_policy().name != "float32":
            raise UserError(
                f"precision {keras.config.dtype_policy().name} is for presets: listed branches use the dtype policies "
                'of their layers; give --precision=float32 (in Python: dtype="float32")'
            )
        return flat(_skeleton(self.text, self.name, self.image_size, image_size, classes))

    def cost(self, image_size: int, classes: int) -> NetworkCost:
        """Return the parameters and multiply-adds of the branch with a head for these classes.

        Images of `image_size` pixels are resized to the branch's own size, so that `image_size` changes neither.
        """
        return cost(_skeleton(self.text, self.name, self.image_size, image_size, classes))

    def fill(self, network: keras.Model, arrays: Arrays) -> None:
        """Assign the weights of all layers but the head to a network that `build` returned.

        Raises UserError, and changes nothing, if the arrays are those of another architecture.
        """
        layers = {layer.name: layer for layer in network.layers if layer.weights and layer.name != "logits"}
        shapes = {name: [tuple(w.shape) for w in layer.weights] for name, layer in layers.items()}
        if shapes != {name: [array.shape for array in values] for name, values in arrays.items()}:
            raise UserError(
                f"{self.source or self.name} is another network than when the run was started; "
                "restore it, or start a new run"
            )
        for name, layer in layers.items():
            layer.set_weights(arrays[name])


@dataclasses.dataclass(frozen=True, kw_only=True)
class BranchList:
    """S networks that are the branches of a run; `whole` is the network that the audit compares them with.

    Attributes:
        whole: (name, cost), or None to compare with no network.
    """

    listed: tuple[ListedBranch, ...]
    whole: tuple[str, NetworkCost] | None = None

    task = "classification"
    family_name = ""
    classifier = ""  # no preset classifies with the same backbone
    heads = ("logits", "auxiliary")
    normalisation = None  # the branches' own layers normalise images
    wheel = None  # no package has weights of the whole list

    @property
    def name(self) -> str:
        """Names of all branches, joined by "+"."""
        return "+".join(branch.name for branch in self.listed)

    @property
    def image_size(self) -> int:
        """The largest image size of a branch; the run's, unless --image_size gives another."""
        return max(branch.image_size for branch in self.listed)

    @property
    def reference(self) -> dict[str, Any]:
        """Description for JSON, from which `from_reference` makes an equal list."""
        branches = [
            {"name": b.name, "image_size": b.image_size, "source": b.source, "blueprint": json.loads(b.text)}
            for b in self.listed
        ]
        whole = self.whole and {"name": self.whole[0], "params": self.whole[1].params, "macs": self.whole[1].macs}
        return {"branches": branches, "whole": whole}

    def is_head(self, layer: str) -> bool:
        """Return True if a layer of this name does not belong to the backbone."""
        return layer == "logits"

    is_classifier = is_head

    def with_drop_path(self, rate: float) -> "BranchList":
        """Return this list if the rate is -1; other rates raise UserError."""
        if rate != -1:
            raise UserError(
                f"--drop_path={rate:g} is for presets: a listed branch has the drop rates of its layers; leave it out"
            )
        return self

    def branches(
        self, splits: int, division: str = "published", image_size: int = 0, classes: int = 0
    ) -> list[ListedBranch]:
        """Return the branches. Only `splits` is used; raises UserError if it is not their number."""
        if splits != len(self.listed):
            raise UserError(f"splits={splits} differs from the number of branches: give splits={len(self.listed)}")
        return list(self.listed)

    def division(self, requested: str) -> str:
        """Return "listed": nothing is divided."""
        return "listed"

    def cost(self, image_size: int, classes: int) -> NetworkCost | None:
        """Return the cost of the network `whole`, or None if there is none; the arguments are ignored."""
        return self.whole and self.whole[1]

    def differences(self, branches: Sequence[Any]) -> tuple[dict[str, list], dict[str, list]]:
        """Return two empty dictionaries: no widths and no drop rates are changed."""
        return {}, {}


def from_reference(reference: Mapping[str, Any]) -> BranchList:
    """Return the BranchList of a `reference`."""
    branches = [
        ListedBranch(
            name=entry["name"],
            image_size=entry["image_size"],
            text=json.dumps(entry["blueprint"]),
            source=entry.get("source", ""),
        )
        for entry in reference["branches"]
    ]
    whole = reference.get("whole")
    counted = whole and (whole["name"], NetworkCost(params=whole["params"], macs=whole["macs"]))
    return BranchList(listed=tuple(branches), whole=counted)


def listed_branch(
    network: keras.Model, name: str, image_size: int, source: str, frozen: FrozenLayers | None = None
) -> tuple[ListedBranch, Arrays, FrozenLayers]:
    """Return a network as a branch, its weights below the head, and the branch's layers that its owner froze.

    Args:
        network: takes raw images float32 [B, H, W, 3] of 0..255; functional or sequential, maybe with nested models.
        frozen: layers of the network that its owner froze; None = those with `trainable=False`, and those called with
            `training=False`.

    Raises:
        UserError: if it is neither functional nor sequential, has a layer that cannot be copied from its config, or
            does not end in a dense layer of one output per class (or a 1x1 convolution of a map of one pixel), with or
            without an activation.
    """
    image = keras.Input((image_size, image_size, 3), name="image", dtype="float32")
    try:
        on_images = keras.Model(image, network(image), name=network.name)
        copy, origins = flat_with_origins(on_images)
        below = _below_head(copy)
    except UserError as error:
        raise UserError(f"{source} cannot be a branch: {error}") from None
    layers = {id(call.operation) for call in calls(below)}
    origins = [(origin, layer) for origin, layer in origins if id(layer) in layers]
    arrays = {layer.name: origin.get_weights() for origin, layer in origins if getattr(layer, "weights", None)}
    if frozen is None:
        frozen = frozen_layers(on_images, origins)
    else:
        frozen = frozen.renamed({origin.name: layer.name for origin, layer in origins})
    branch = ListedBranch(name=name, image_size=image_size, text=json.dumps(to_dict(below)), source=source)
    return branch, arrays, frozen


def _below_head(network: keras.Model) -> keras.Model:
    """Return the network up to the input of its head; layers with a name in _OWN_LAYERS are renamed."""
    makers = {id(tensor): call for call in calls(network) for tensor in call.outputs}
    tensor, head = network.outputs[0], None
    while (call := makers.get(id(tensor))) is not None and head is None:
        tensor = call.inputs[0]
        if _is_head(call):
            head = call.operation
        elif not _may_follow_head(call.operation):
            raise UserError(
                "it must end in a dense layer of one output per class, with or without an activation after it, got "
                f"{type(call.operation).__name__} {call.operation.name!r}; replace its head, and save it again"
            )
    if head is None:
        raise UserError("it has no dense layer of one output per class; add one, and save it again")
    names = {call.operation.name for call in calls(network)}
    for name in _OWN_LAYERS:
        operation = next((call.operation for call in calls(network) if call.operation.name == name), None)
        if operation not in (None, head):
            operation.name = next(f"{name}_{n}" for n in itertools.count(1) if f"{name}_{n}" not in names)
    return keras.Model(network.inputs, tensor, name=network.name)


def _is_head(call: Any) -> bool:
    """Return True for a dense layer on features [B, C], and for a 1x1 convolution on a map of one pixel."""
    layer, shape = call.operation, call.inputs[0].shape
    if type(layer) is keras.layers.Conv2D:
        return layer.kernel_size == (1, 1) and shape[1:3] == (1, 1)
    return type(layer) is keras.layers.Dense and len(shape) == 2


def _may_follow_head(operation: Any) -> bool:
    return isinstance(operation, (*PASSES, keras.layers.Activation)) or type(operation).__name__ == "Softmax"


@functools.lru_cache(32)
def _skeleton(text: str, name: str, own_size: int, image_size: int, classes: int) -> keras.Model:
    """Return a branch without weights, as nested models, from raw images of `image_size` pixels to logits."""
    state = random.getstate()
    try:
        return weightless(_compose, from_dict(json.loads(text)), name, own_size, image_size, classes)
    finally:
        random.setstate(state)  # a seed gives the same weights whether or not the skeleton is cached


def _compose(below: keras.Model, name: str, own_size: int, image_size: int, classes: int) -> keras.Model:
    image = keras.Input((image_size, image_size, 3), name="image", dtype="float32")
    x = image if own_size == image_size else ResizeImage(own_size, name="branch_resize")(image)
    x = below(x)
    if len(x.shape) > 2:
        x = keras.layers.Flatten(name="branch_flatten")(x)
    return keras.Model(image, head_layer(classes)(x), name="branch")
