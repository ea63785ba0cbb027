"""Networks of the user's own, from .keras files, used like presets."""

import dataclasses
import functools
import json
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from dico_tf.divide.networks.architecture import from_dict, to_dict
from dico_tf.divide.networks.cost import NetworkCost
from dico_tf.divide.networks.division import Plan, plan
from dico_tf.divide.networks.graph import flat, last_weighted_layers, weightless
from dico_tf.divide.networks.strip_softmax import unsupported_activation
from dico_tf.errors import UserError
from dico_tf.layers.image_input import Normalisation

SUFFIX = ".keras"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CustomBranch:
    """One branch of a divided custom network, from raw images (input `image`) to logits."""

    plan: Plan

    def build(self, image_size: int, classes: int, normalisation: Normalisation = Normalisation()) -> keras.Model:
        """Return the branch with new weights.

        All arguments are ignored: `divided` has set size and classes, and the network's own layers normalise images.
        Raises UserError unless Keras' dtype policy is float32.
        """
        if keras.config.dtype_policy().name != "float32":
            raise UserError(
                f"precision {keras.config.dtype_policy().name} is for presets: a network of your own uses the dtype "
                'policies of its layers; give --precision=float32 (in Python: dtype="float32")'
            )
        return self.plan.build("branch", logits=True)

    def cost(self, image_size: int, classes: int) -> NetworkCost:
        """Return the parameters and multiply-adds of the branch, at the size and classes it was divided for.

        Both arguments are ignored.
        """
        return self.plan.branch


@dataclasses.dataclass(frozen=True, kw_only=True)
class CustomNetwork:
    """Architecture of a network of the user's own, as JSON, so that a run can store it and divide it again."""

    name: str
    text: str

    task = "classification"
    family_name = ""
    classifier = ""  # no preset classifies with the same backbone
    normalisation = None  # its own layers normalise images
    wheel = None  # no package has its weights

    @property
    def reference(self) -> dict[str, Any]:
        """Name and architecture, with which `presets.find` returns this network."""
        return {"name": self.name, "blueprint": json.loads(self.text)}

    @property
    def heads(self) -> tuple[str, ...]:
        """Names of the layers that do not belong to the backbone: the last ones with weights before an output."""
        return _heads(self.text)

    def is_head(self, layer: str) -> bool:
        """Return True if a layer of this name does not belong to the backbone."""
        return layer in self.heads

    is_classifier = is_head

    def with_drop_path(self, rate: float) -> "CustomNetwork":
        """Return the network if the rate is -1; other rates raise UserError."""
        if rate != -1:
            raise UserError(f"--drop_path={rate:g} is for presets: set the drop rates in the layers of your network")
        return self

    def divided(self, splits: int, division: str = "params", image_size: int = 0, classes: int = 0) -> CustomBranch:
        """Return one of S branches, divided by params or macs, counted at this image size and number of classes.

        Both numbers must be given. `published` stands for params, as there is no published rule. Raises UserError if
        the network does not classify RGB images of this size.
        """
        budget = "params" if division == "published" else division
        return CustomBranch(plan=_plan(self.text, self.name, splits, budget, image_size, classes))

    def branches(
        self, splits: int, division: str = "params", image_size: int = 0, classes: int = 0
    ) -> list[CustomBranch]:
        """Return the S branches, which are equal. Size and number of classes must be given, see `divided`."""
        return [self.divided(splits, division, image_size, classes)] * splits

    def cost(self, image_size: int, classes: int) -> NetworkCost:
        """Return the parameters and multiply-adds of the whole network at this size and number of classes."""
        return self.divided(1, "params", image_size, classes).cost(image_size, classes)

    def division(self, requested: str) -> str:
        """Return the requested division; params if it is published, as no rule is published for such a network."""
        return "params" if requested == "published" else requested

    def differences(self, branches: Sequence[CustomBranch]) -> tuple[dict[str, list], dict[str, list]]:
        """Return the widths and the drop rates that differ, each as {layers: [whole, branch]}."""
        return branches[0].plan.changes, branches[0].plan.regularisation


@functools.lru_cache(32)
def _heads(text: str) -> tuple[str, ...]:
    return tuple(last_weighted_layers(from_dict(json.loads(text))))


@functools.lru_cache(32)
def _plan(text: str, name: str, splits: int, budget: str, image_size: int, classes: int) -> Plan:
    state = random.getstate()
    try:
        whole = from_dict(json.loads(text))
        _check(whole, name, image_size)
        return plan(weightless(_on_raw_images, whole, name, image_size), splits, budget, classes=classes)
    finally:
        random.setstate(state)  # a seed gives the same weights whether or not the plan is cached


def _on_raw_images(whole: keras.Model, name: str, image_size: int) -> keras.Model:
    """Return the network with one input `image` of this size. Raises UserError if it cannot take the size."""
    image = keras.Input((image_size, image_size, 3), name="image", dtype="float32")
    try:
        answer = whole(image)
    except ValueError as error:
        reason = re.search(r"\033\[1m(.+?)\033\[0m", str(error), re.DOTALL)  # Keras prints the reason bold
        raise UserError(
            f"{name} cannot take images of {image_size}x{image_size} pixels; give another --image_size\n"
            f"{reason[1] if reason else error}"
        ) from error
    return flat(keras.Model(image, answer, name=whole.name))


def _check(whole: keras.Model, name: str, image_size: int) -> None:
    """Raise UserError unless the network classifies RGB images of image_size x image_size pixels."""
    shapes = [tuple(x.shape[1:]) for x in whole.inputs]
    if len(shapes) != 1 or len(shapes[0]) != 3 or shapes[0][-1] != 3:
        raise UserError(f"{name}: expected one input, an image [height, width, 3], got {shapes}")
    height, width = shapes[0][:2]
    if height != width:
        raise UserError(
            f"{name} takes images of {height}x{width} pixels, expected square images: save it with "
            "keras.Input((None, None, 3))"
        )
    if height not in (image_size, None):
        raise UserError(
            f"{name} takes images of {height}x{width} pixels, got {image_size}x{image_size}: "
            f"give --image_size={height}, or save it with keras.Input((None, None, 3))"
        )
    if len(whole.outputs) != 1 or len(whole.outputs[0].shape) != 2:
        raise UserError(f"{name}: expected one output [batch, classes], got {[tuple(x.shape) for x in whole.outputs]}")
    if ending := unsupported_activation(whole):
        raise UserError(f"{name} ends in {ending}: expected softmax or no activation")


def load(path: str) -> CustomNetwork:
    """Return the architecture in a .keras file, without its weights. Raises UserError if the file cannot be used."""
    if not path.endswith(SUFFIX):
        raise UserError(
            f"--model={path} is neither a preset nor a {SUFFIX} file; write one: model.save('NAME{SUFFIX}')"
        )
    if not Path(path).is_file():
        raise UserError(f"--model={path} does not exist; give a preset, or a file written by model.save")
    return CustomNetwork(name=Path(path).name, text=json.dumps(to_dict(read(path, "--model"))))


def read(path: str | Path, flag: str) -> keras.Model:
    """Load a .keras file with its weights. Raises UserError, which names the flag, if it cannot be read."""
    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:  # zip, JSON, unknown layers: Keras raises any kind
        raise UserError(
            f"{flag}={path} cannot be read: {(str(error) or type(error).__name__).splitlines()[0]}\n"
            "It must be written by model.save in the .keras format; a model with layers of your own is trained from "
            "Python, where they are registered: DiCo(model=path)"
        ) from error
