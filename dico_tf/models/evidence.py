"""Published divisions, what they gained over the whole network, and a sentence that compares a division with them.

Advice is a dictionary for JSON. "text" is a phrase without a full stop, and "source" its source or None. "favours" is
"whole" or "branches", whichever most of the cases favour; None if they are undecided or unlike the division.
"""

import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping, Sequence

from dico_tf.data.known_datasets import CIFAR_LARGEST, KNOWN, TRAINING_IMAGES
from dico_tf.models import published_results

Advice = dict[str, str | None]

PAPER = "arXiv 2011.14660"
FAMILIES = (  # whose divisions the cases can be compared with
    "resnet", "wrn", "resnext", "se_resnet", "densenet", "pyramidnet", "shake_shake", "resnexst", "efficientnet",
    "efficientnet_lite",
)  # fmt: skip
SAME_SIZE = 2.0  # branches whose parameters differ by less than this factor count as of about the same size
NEAREST = 3  # cases to compare with, if none is of about the same size
FEW_IMAGES = 0.5  # training images, as a share of the cases', below which the cases favour nothing
NAMES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet2012": "ImageNet"}


@dataclasses.dataclass(frozen=True)
class Case:
    """A published division: top-1 accuracy of S branches together, less that of the whole, in points."""

    source: str
    dataset: str
    model: str
    epochs: int
    splits: int
    params: float  # of one branch, in millions
    gain: float


def _of_paper(dataset: str, model: str, epochs: int, sizes: Mapping[int, float]) -> list[Case]:
    """Return a case for each S in {S: parameters of a branch in millions}, with the gain that the paper prints."""
    errors = {row.splits: row.error for row in published_results.rows(dataset, model) if row.epochs == epochs}
    return [
        Case(PAPER, dataset, model, epochs, splits, params, round(errors[1] - errors[splits], 2))
        for splits, params in sizes.items()
    ]


# Parameters are counted by this program; the paper prints none for ImageNet. A case of a data set that is not here yet
# needs its image size and number of images in data/known_datasets.py, too.
CASES: tuple[Case, ...] = (
    *_of_paper("cifar100", "resnet_110", 300, {2: 0.6667, 4: 0.3036}),
    *_of_paper("cifar100", "resnet_164", 300, {2: 0.9812, 4: 0.4447}),
    *_of_paper("cifar100", "se_resnet_110", 300, {2: 0.9621, 4: 0.4359}),
    *_of_paper("cifar100", "se_resnet_164", 300, {2: 1.4242, 4: 0.6433}),
    *_of_paper("cifar100", "efficientnet_b0", 300, {2: 2.142, 4: 1.130}),
    *_of_paper("cifar100", "efficientnet_b3", 300, {2: 5.497, 4: 2.881}),
    *_of_paper("cifar100", "wrn_16_8", 300, {2: 6.208, 4: 2.773}),
    *_of_paper("cifar100", "resnext_29_8x64d", 300, {2: 17.655, 4: 9.223}),
    *_of_paper("cifar100", "wrn_28_10", 300, {2: 17.928, 4: 9.163}),
    *_of_paper("cifar100", "wrn_40_10", 300, {2: 27.417, 4: 14.006}),
    *_of_paper("cifar100", "wrn_40_10", 1800, {2: 27.417, 4: 14.006}),
    *_of_paper("cifar100", "densenet_190_k40", 1800, {2: 12.753, 4: 6.575}),
    *_of_paper("cifar100", "pyramidnet_272_a200", 1800, {2: 14.434, 4: 8.193}),
    *_of_paper("cifar10", "se_resnet_164", 300, {2: 1.407}),
    *_of_paper("cifar10", "se_resnet_164", 1800, {2: 1.407}),
    *_of_paper("cifar10", "resnext_29_8x64d", 300, {2: 17.562}),
    *_of_paper("cifar10", "resnext_29_8x64d", 1800, {2: 17.562}),
    *_of_paper("cifar10", "wrn_28_10", 300, {2: 17.887, 4: 9.134}),
    *_of_paper("cifar10", "wrn_28_10", 1800, {2: 17.887, 4: 9.134}),
    *_of_paper("cifar10", "wrn_40_10", 300, {4: 13.977}),
    *_of_paper("cifar10", "wrn_40_10", 1800, {4: 13.977}),
    *_of_paper("cifar10", "shake_26_2x96d", 1800, {2: 11.654, 4: 6.563}),
    *_of_paper("cifar10", "pyramidnet_272_a200", 1800, {4: 8.151}),
    *_of_paper("imagenet2012", "wrn_50_2", 120, {2: 25.681}),
    *_of_paper("imagenet2012", "wrn_50_3", 120, {2: 69.011}),
    *_of_paper("imagenet2012", "resnext_101_64x4d", 120, {2: 44.306}),
    *_of_paper("imagenet2012", "efficientnet_b7", 120, {2: 33.880, 4: 17.723}),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Division:
    """A division of one network into S equal branches, as far as it is compared with the published ones.

    Attributes:
        published: True if the family's published rule divides it.
        branch_params: parameters of one branch.
        training_images: 0 = unknown.
        pretrained: True if the branches start from trained weights.
    """

    model: str
    family: str
    task: str
    splits: int
    published: bool
    branch_params: int
    dataset: str
    image_size: int
    training_images: int = 0
    pretrained: bool = False


def advise(division: Division, cases: Collection[Case] = CASES) -> Advice | None:
    """Return what the published cases say about a division; None for one branch, where nothing is divided."""
    if division.splits == 1:
        return None
    if division.task != "classification" or division.family not in FAMILIES:
        text = f"no published division is of a network like {division.model}; all are of other families"
        return {"text": f"{text}, convolutional image classifiers", "source": None, "favours": None}
    comparable = _of_image_size(cases, division.image_size)
    if same := same_division(division, comparable):
        return _of_same(division, same)
    return _of_near(division, near(division, comparable), comparable)


def without_division() -> Advice:
    """Return the advice for branches that are networks of any kind instead of a division."""
    text = "no published division is a list of networks; all divide one network into equal branches"
    return {"text": text, "source": None, "favours": None}


def _of_image_size(cases: Collection[Case], image_size: int) -> list[Case]:
    """Return the cases on small images, as those of CIFAR, or on larger ones, whichever this image size is."""
    return [case for case in cases if (KNOWN[case.dataset][0] <= CIFAR_LARGEST) == (image_size <= CIFAR_LARGEST)]


def same_division(division: Division, cases: Iterable[Case]) -> list[Case]:
    """Return the cases of the same network, data set and S under the published rule; they differ in epochs."""
    wanted = (division.model, division.dataset, division.splits)
    return [case for case in cases if division.published and (case.model, case.dataset, case.splits) == wanted]


def near(division: Division, cases: Iterable[Case]) -> list[Case]:
    """Return the cases whose branches are of about the size of this division's, or else the NEAREST ones.

    If some of about this size have the same data set, these are returned alone.
    """
    ordered = sorted(cases, key=lambda case: _factor(division, case))
    similar = [case for case in ordered if _factor(division, case) < SAME_SIZE]
    return [case for case in similar if case.dataset == division.dataset] or similar or ordered[:NEAREST]


def _factor(division: Division, case: Case) -> float:
    """Return how many times larger the larger of two branches is."""
    return math.exp(abs(math.log(1e6 * case.params / division.branch_params)))


def _of_same(division: Division, cases: Sequence[Case]) -> Advice:
    changes = " and ".join(
        f"{'gained' if case.gain >= 0 else 'lost'} {abs(case.gain):.2f} points after {case.epochs} epochs"
        for case in cases
    )
    dataset = NAMES.get(cases[0].dataset, cases[0].dataset)
    text = f"compared with the whole on {dataset}, this division {changes}"
    return _advice(text, division, cases)


def _of_near(division: Division, cases: Sequence[Case], comparable: Collection[Case]) -> Advice:
    own, sizes = division.branch_params / 1e6, [case.params for case in comparable]
    if _factor(division, cases[0]) < SAME_SIZE:
        which = f"of {len(cases)} published cases of about this size ({_sizes(cases)})"
    else:
        extreme = "as small" if own < min(sizes) else "as large" if own > max(sizes) else "of this size"
        which = f"no published case is {extreme}; of the {len(cases)} nearest ({_sizes(cases)})"
    better = sum(case.gain > 0 for case in cases)
    text = (
        f"branches of {millions(own)} M parameters: {which}, {better} beat the whole, and the differences are "
        f"{_range(case.gain for case in cases)} points ({_conditions(cases)})"
    )
    return _advice(text, division, cases)


def _advice(text: str, division: Division, cases: Sequence[Case]) -> Advice:
    """Return the advice with this text, and with what makes the published cases unlike this division.

    It favours neither side if there is such a remark, or if the number of training images is unknown.
    """
    most, fewest = max(case.splits for case in CASES), min(TRAINING_IMAGES[case.dataset] for case in cases)
    remarks = []
    if division.splits > most:
        remarks.append(f"no published run has more than {most} branches")
    if 0 < division.training_images < FEW_IMAGES * fewest:
        images = f"{division.training_images:,} training images"
        remarks.append(f"published runs had at least {fewest:,}, here there are {images}")
    if division.pretrained:
        remarks.append("published runs started from random weights")
    apply = division.training_images and not remarks
    sources = ", ".join(dict.fromkeys(case.source for case in cases))
    return {"text": "; ".join([text, *remarks]), "source": sources, "favours": favours(cases) if apply else None}


def favours(cases: Collection[Case]) -> str | None:
    """Return "branches" if most of the cases gained, "whole" if most lost, None if there are as many of both."""
    balance = sum((case.gain > 0) - (case.gain < 0) for case in cases)
    return ("branches" if balance > 0 else "whole") if balance else None


def _conditions(cases: Collection[Case]) -> str:
    """Return the data sets and epochs of cases, e.g. "CIFAR-10 and CIFAR-100, 300 to 1800 epochs"."""
    epochs = sorted({case.epochs for case in cases})
    datasets = " and ".join(NAMES.get(name, name) for name in sorted({case.dataset for case in cases}))
    return f"{datasets}, {' to '.join(str(number) for number in epochs)} epochs"


def _sizes(cases: Collection[Case]) -> str:
    """Return the parameters of a branch, e.g. "0.30 to 0.44 M", or "1.4 M" if all have as many."""
    ends = (millions(min(case.params for case in cases)), millions(max(case.params for case in cases)))
    return f"{' to '.join(dict.fromkeys(ends))} M"


def _range(gains: Iterable[float]) -> str:
    ordered = sorted(gains)
    return " to ".join(dict.fromkeys(f"{gain:+.2f}" for gain in (ordered[0], ordered[-1])))


def millions(number: float) -> str:
    """Return a number of millions with two significant digits, or as a whole number from 10 on."""
    return f"{number:.0f}" if number >= 9.95 else f"{number:#.2g}"
