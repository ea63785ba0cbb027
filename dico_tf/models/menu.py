"""Every preset by its paper's name. A new family is one file and one line here."""

import dataclasses
import functools
import itertools
import json
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

import keras

from dico_tf.data.known_datasets import CIFAR_LARGEST
from dico_tf.divide import budget
from dico_tf.divide.networks.cost import NetworkCost, cost
from dico_tf.divide.networks.graph import weightless
from dico_tf.errors import UserError
from dico_tf.layers.image import Normalisation, Sides, sides
from dico_tf.models import (
    convnext,
    deeplab,
    densenet,
    efficientnet,
    own,
    pit,
    pyramidnet,
    regnet,
    resnet,
    resnexst,
    resnext,
    se_resnet,
    shake_shake,
    sliding,
    swin,
    upernet,
    vit,
    wrn,
    x3d,
    xcit,
)
from dico_tf.registry import Registry

FAMILIES = (
    resnet, wrn, resnext, se_resnet, densenet, pyramidnet, shake_shake, resnexst, efficientnet, deeplab, x3d, vit,
    convnext, regnet, swin, pit, xcit, upernet,
)  # fmt: skip
REGULARISERS = ("dropout", "shake_drop", "drop_path", "drop_block")
TOLERANCE = 0.02  # of a budget


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preset:
    """A family and a Spec of it.

    A family is a module: Spec (with layout and splits), PRESETS, divide (as published), regularised and narrow (the two
    halves of a division by budget), and build.
    """

    name: str
    family: ModuleType
    spec: Any

    @property
    def reference(self) -> str:
        """What finds it again."""
        return self.name

    @property
    def family_name(self) -> str:
        return self.family.__name__.rsplit(".", 1)[1]

    @property
    def task(self) -> str:
        """What it learns to say: the class of an image, unless its Spec says otherwise."""
        return getattr(self.spec, "task", "classification")

    @property
    def tiny(self) -> bool:
        """For tests and toy runs on 32x32 pixels; called mini where a paper has a tiny network of its own."""
        return self.name.endswith(("_tiny", "_mini"))

    @property
    def fixed(self) -> bool:
        """Whether it takes pictures of the size that it was built for alone, and others window by window."""
        return getattr(self.spec, "fixed", False)

    def takes(self, image_size: int) -> bool:
        """Whether it can be built for squares of this size."""
        return image_size % getattr(self.spec, "side_step", 1) == 0

    @property
    def classifier(self) -> str:
        """The preset of the classifier on the same backbone, where there is one."""
        name = self.name.removeprefix("upernet_")
        return name if name != self.name else ""

    @property
    def heads(self) -> tuple[str, ...]:
        """How the names of layers begin that the classifier on the same backbone has not."""
        return getattr(self.family, "HEAD", ("logits", "auxiliary"))

    def fitting(self, layers: Iterable[str]) -> tuple[str, ...]:
        """Names of the presets that a checkpoint with layers of these names can be of; () where nothing tells."""
        if self.family is not efficientnet:
            return ()
        base = next(
            (self.name.removeprefix(form) for form in efficientnet.FORMS if self.name.startswith(form)), self.name
        )
        return tuple(form + base for form in efficientnet.forms_of(layers, self.spec.width))

    def filmed(self, frames: int) -> "Preset":
        """The same for clips of so many frames; 0 = its own."""
        return dataclasses.replace(self, spec=dataclasses.replace(self.spec, frames=frames)) if frames else self

    def dropping(self, rate: float) -> "Preset":
        """The same with its residual branches dropped at this rate; -1 = its own."""
        if rate == -1:
            return self
        if not hasattr(self.spec, "drop_path"):
            raise UserError(
                f"--drop_path={rate:g}: {self.name} drops no residual branches; leave it out, or give another --model"
            )
        return dataclasses.replace(self, spec=dataclasses.replace(self.spec, drop_path=rate))

    def shape(self, image_size: Sides) -> tuple[int | None, ...]:
        """[H, W, 3] of an image, [T, H, W, 3] of a clip."""
        frames = (self.spec.frames,) if self.task == "video" else ()
        return (*frames, *sides(image_size), 3)

    def layout(self, image_size: int) -> str:
        return self.spec.layout or ("cifar" if image_size <= CIFAR_LARGEST else "imagenet")

    def divided(self, splits: int, division: str = "published", image_size: int = 0, classes: int = 0) -> "Preset":
        """The branch of S; S = 1 changes nothing. A division by budget counts at this image size and these classes."""
        if splits == 1:
            return self
        if division == "published":
            return dataclasses.replace(self, spec=self.family.divide(self.spec, splits))
        return _within_budget(self, splits, division, image_size, classes)

    def build(self, image_size: Sides, classes: int, normalisation: Normalisation | None = None) -> keras.Model:
        return self.family.build(self.spec, image_size, classes, *([normalisation] if normalisation else []))

    def cost(self, image_size: Sides, classes: int, seen_size: Sides = 0) -> NetworkCost:
        """Of a pass; clips may be seen at another size than the network trains at."""
        return _cost(self, image_size, classes, seen_size or image_size)

    def macs(self, sides: tuple[int, int], classes: int, image_size: int) -> int:
        """Multiply-adds of a picture [H, W], of one that is seen window by window in windows of the image size."""
        if not self.fixed:
            return self.cost(sides, classes).macs
        windows = sliding.windows(sides, image_size, self.spec.output_stride)
        return windows * self.cost(image_size, classes).macs

    def division(self, asked: str) -> str:
        return asked

    def differences(self, branch: "Preset") -> tuple[dict[str, list], dict[str, list]]:
        """Fields of the Spec, and rates among them: {name: [whole, branch]}; of planes that a budget chose, both."""
        whole, part = _fields(self.spec), _fields(branch.spec)
        both = {name: [value, part[name]] for name, value in whole.items()}
        if both.get("planes", [0, 0])[0] != both.get("planes", [0, 0])[1]:
            both["planes"] = [self.family.stages(self.spec), branch.family.stages(branch.spec)]
        changed = {name: pair for name, pair in both.items() if pair[0] != pair[1]}
        rates = {name: changed.pop(name) for name in REGULARISERS if name in changed}
        return changed, rates


def _fields(spec: Any) -> dict[str, Any]:
    """{name: value} of a Spec, of one with another in it also the other's."""
    found = {field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)}
    within = [found.pop(name) for name, value in dict(found).items() if dataclasses.is_dataclass(value)]
    return {**{name: value for other in within for name, value in _fields(other).items()}, **found}


@functools.lru_cache(1024)
def _cost(preset: Preset, image_size: Sides, classes: int, seen_size: Sides) -> NetworkCost:
    return weightless(lambda: cost(_fed(preset.build(image_size, classes), preset.shape(seen_size))))


def _fed(network: keras.Model, shape: tuple[int | None, ...]) -> keras.Model:
    """The network where it knows its sizes, else as called with inputs of this shape."""
    if None not in network.input_shape[1:]:
        return network
    image = keras.Input(shape, name="image", dtype="float32")
    return keras.Model(image, network(image))


@functools.lru_cache(256)
def _within_budget(whole: Preset, splits: int, division: str, image_size: int, classes: int) -> Preset:
    """The family's narrowing whose S branches come nearest the whole's params or macs."""
    if not image_size or not classes:
        raise UserError(f"--division={division} needs the image size and the number of classes")

    def paid(preset: Preset) -> int:
        return getattr(preset.cost(image_size, classes), division)

    spec = whole.family.regularised(whole.spec, splits)
    target = paid(whole) / splits
    found = budget.solve(lambda scale: _with(whole, whole.family.narrow(spec, scale)), paid, target)
    return budget.refine(found, _neighbours, paid, target, TOLERANCE).point


def _with(preset: Preset, spec: Any) -> Preset:
    return dataclasses.replace(preset, spec=spec)


def _neighbours(preset: Preset) -> Iterator[Preset]:
    """One stage four channels wider or narrower, or one wider and another narrower.

    Only families whose stages have widths of their own have any.
    """
    planes = preset.family.stages(preset.spec) if hasattr(preset.family, "stages") else []
    for steps in itertools.product((0, -4, 4), repeat=len(planes)):
        chosen = tuple(width + step for width, step in zip(planes, steps, strict=True))
        if 0 < sum(map(abs, steps)) <= 8 and abs(sum(steps)) < 8 and min(chosen) > 0:
            yield _with(preset, dataclasses.replace(preset.spec, planes=chosen))


PRESETS: Registry[Preset] = Registry("model")
for _family in FAMILIES:
    for _name, _spec in _family.PRESETS.items():
        PRESETS.add(_name, Preset(name=_name, family=_family, spec=_spec))
for _name, _spec in efficientnet.UNLISTED.items():  # the same sizes again
    PRESETS.add(_name, Preset(name=_name, family=efficientnet, spec=_spec), listed=False)


def find(model: str | dict[str, Any]) -> Preset | own.Own:
    """A preset by its name, a network of one's own by its .keras file, or one that `reference` described."""
    if isinstance(model, dict):
        return own.Own(name=model["name"], text=json.dumps(model["blueprint"]))
    if model not in PRESETS and ("." in model or "/" in model):
        return own.load(model)
    return PRESETS[model]


def check_task(model: str, task: str) -> None:
    """UserError where the preset learns something else; networks of one's own learn classes of images."""
    learns = PRESETS[model].task if model in PRESETS else own.Own.task
    if learns != task:
        fitting = [preset.name for preset in PRESETS.values() if preset.task == task]
        raise UserError(
            f"--model={model} is for {learns} and --task={task}: give --task={learns}, or a model such as "
            f"{', '.join(fitting[:3])}"
        )
