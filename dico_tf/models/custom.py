"""A network of one's own, from a .keras file, in the place of a preset."""

import dataclasses
import functools
import json
import re
from pathlib import Path
from typing import Any

import keras

from dico_tf.divide.networks.architecture import from_dict, to_dict
from dico_tf.divide.networks.cost import NetworkCost
from dico_tf.divide.networks.division import Plan, plan
from dico_tf.divide.networks.graph import flat, weightless
from dico_tf.divide.networks.strip_softmax import unsupported_activation
from dico_tf.errors import UserError
from dico_tf.layers.image_input import Normalisation

SUFFIX = ".keras"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CustomBranch:
    """What a plan builds, fed by raw pictures under the name `image` and answering logits."""

    plan: Plan

    def build(self, image_size: int, classes: int, normalisation: Normalisation = Normalisation()) -> keras.Model:
        """The network normalises as its own layers say, whatever the data set's means."""
        if keras.config.dtype_policy().name != "float32":
            raise UserError(
                f"precision {keras.config.dtype_policy().name} is for presets: a network of your own computes as the "
                "dtype policies of its layers say; give --precision=float32"
            )
        return self.plan.build("branch", logits=True)

    def cost(self, image_size: int, classes: int) -> NetworkCost:
        return self.plan.branch


@dataclasses.dataclass(frozen=True, kw_only=True)
class CustomNetwork:
    """An architecture as JSON, so that it can be kept with a run and divided again."""

    name: str
    text: str

    task = "classification"
    family_name = ""
    classifier = ""  # of another task, on the same backbone
    heads = ("logits", "auxiliary")

    @property
    def reference(self) -> dict[str, Any]:
        return {"name": self.name, "blueprint": json.loads(self.text)}

    def dropping(self, rate: float) -> "CustomNetwork":
        if rate != -1:
            raise UserError(f"--drop_path={rate:g} is for presets: a network of your own drops what its layers say")
        return self

    def divided(self, splits: int, division: str = "params", image_size: int = 0, classes: int = 0) -> CustomBranch:
        """By budget; nothing is published of it, so `published` means params."""
        budget = "params" if division == "published" else division
        return CustomBranch(plan=_plan(self.text, self.name, splits, budget, image_size, classes))

    def cost(self, image_size: int, classes: int) -> NetworkCost:
        return self.divided(1, "params", image_size, classes).cost(image_size, classes)

    def division(self, asked: str) -> str:
        return "params" if asked == "published" else asked

    def differences(self, branch: CustomBranch) -> tuple[dict[str, list], dict[str, list]]:
        """Widths and drop rates: {layers: [whole, branch]}."""
        return branch.plan.changes, branch.plan.regularisation


@functools.lru_cache(32)
def _plan(text: str, name: str, splits: int, budget: str, image_size: int, classes: int) -> Plan:
    whole = from_dict(json.loads(text))
    _check(whole, name, image_size)
    return plan(weightless(_fed, whole, name, image_size), splits, budget, classes=classes)


def _fed(whole: keras.Model, name: str, image_size: int) -> keras.Model:
    """The same, fed by raw pictures of this size."""
    image = keras.Input((image_size, image_size, 3), name="image", dtype="float32")
    try:
        answer = whole(image)
    except ValueError as error:
        said = re.search(r"\033\[1m(.+?)\033\[0m", str(error), re.DOTALL)  # Keras prints the reason bold
        raise UserError(
            f"{name} cannot take pictures of {image_size}x{image_size} pixels; give another --image_size\n"
            f"{said[1] if said else error}"
        ) from error
    return flat(keras.Model(image, answer, name=whole.name))


def _check(whole: keras.Model, name: str, image_size: int) -> None:
    shapes = [tuple(x.shape[1:]) for x in whole.inputs]
    if len(shapes) != 1 or len(shapes[0]) != 3 or shapes[0][-1] != 3:
        raise UserError(f"{name} takes {shapes}: a network to train here takes one picture [height, width, 3]")
    if shapes[0][:2] not in ((image_size, image_size), (None, None)):
        raise UserError(
            f"{name} takes pictures of {shapes[0][0]}x{shapes[0][1]} pixels and would get {image_size}x{image_size}: "
            f"give --image_size={shapes[0][0]}, or save it with keras.Input((None, None, 3))"
        )
    if len(whole.outputs) != 1 or len(whole.outputs[0].shape) != 2:
        raise UserError(f"{name} answers {[tuple(x.shape) for x in whole.outputs]}: one score per class is needed")
    if ending := unsupported_activation(whole):
        raise UserError(f"{name} ends in {ending}: classes that exclude one another want softmax there, or nothing")


def load(path: str) -> CustomNetwork:
    """The architecture in a .keras file; its weights are left where they are."""
    if not path.endswith(SUFFIX):
        raise UserError(
            f"--model={path} is neither a preset nor a {SUFFIX} file; write one: model.save('NAME{SUFFIX}')"
        )
    if not Path(path).is_file():
        raise UserError(f"--model={path} does not exist; give a preset, or a file that model.save wrote")
    try:
        whole = keras.saving.load_model(path, compile=False)
    except Exception as error:  # zip, JSON, unknown layers: Keras raises any kind
        raise UserError(
            f"--model={path} cannot be read: {(str(error) or type(error).__name__).splitlines()[0]}\n"
            "It must be written by model.save in the .keras format; a model with layers of your own is trained from "
            "Python, where they are registered: DiCo(model=path)"
        ) from error
    return CustomNetwork(name=Path(path).name, text=json.dumps(to_dict(whole)))
