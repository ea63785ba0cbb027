"""Pieces that change colour and sharpness alone: 3-Augment and colour jitter."""

import dataclasses

from dico_tf.views.piece import Piece


@dataclasses.dataclass(frozen=True)
class ThreeAugment(Piece):
    """Apply one of grayscale, solarize from 128 and Gaussian blur to each image (DeiT III, arXiv 2204.07118).

    All three are equally likely. The blur's sigma is uniform in 0.1..2 pixels.
    """

    def apply(self, images, rng, fill, in_place):
        from dico_tf.views.three_augment import three_augment

        return three_augment(images, rng)


@dataclasses.dataclass(frozen=True)
class Jitter(Piece):
    """Change brightness, contrast and saturation of each image in random order, each by its own factor.

    The factors of each image are uniform between max(1 - amount, 0) and 1 + amount.
    """

    amount: float = 0.3

    def faults(self):
        return "" if self.amount >= 0 else f"amount must be at least 0, got {self.amount:g}"

    def apply(self, images, rng, fill, in_place):
        from dico_tf.views.three_augment import jitter

        return jitter(images, self.amount, rng)
