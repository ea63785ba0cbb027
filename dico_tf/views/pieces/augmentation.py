"""Pieces that draw operations from a list: AutoAugment and RandAugment."""

import dataclasses

from dico_tf.views.piece import Piece


@dataclasses.dataclass(frozen=True)
class AutoAugmentCifar(Piece):
    """Apply one of the 25 pairs of operations of AutoAugment's CIFAR-10 policy to each image (arXiv 1805.09501)."""

    def apply(self, images, rng, fill, in_place):
        from dico_tf.views import augmentation_chains, autoaugment

        return augmentation_chains.auto_augment(images, autoaugment.CIFAR, rng, in_place)


@dataclasses.dataclass(frozen=True)
class AutoAugmentImagenet(Piece):
    """Apply one of the 25 pairs of operations of AutoAugment's ImageNet policy to each image (arXiv 1805.09501)."""

    def apply(self, images, rng, fill, in_place):
        from dico_tf.views import augmentation_chains, autoaugment

        return augmentation_chains.auto_augment(images, autoaugment.IMAGENET, rng, in_place)


@dataclasses.dataclass(frozen=True)
class RandAugment(Piece):
    """Draw two of 15 operations for each image, with replacement; apply each with probability 1/2 (arXiv 1909.13719).

    Each level is drawn from a normal distribution of mean `m` and standard deviation 1/2, clipped to 0..10.
    """

    m: float = 9.0

    def faults(self):
        return "" if 0 <= self.m <= 10 else f"m must lie in 0..10, got {self.m:g}"

    def apply(self, images, rng, fill, in_place):
        from dico_tf.views import augmentation_chains

        return augmentation_chains.rand_augment(images, self.m, rng, fill, in_place)
