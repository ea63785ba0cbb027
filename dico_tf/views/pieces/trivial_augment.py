"""TrivialAugment: one operation at one strength per image, both drawn uniformly."""

import dataclasses

import numpy as np

from dico_tf.views.piece import Piece

LEVELS = np.linspace(0.0, 1.0, 31)
NONE = np.zeros(31)
# operation -> (centre, span) at each of 31 strengths: its value is centre + span or centre - span
WIDE = {
    "identity": (NONE, NONE),
    "autocontrast": (NONE, NONE),
    "equalize": (NONE, NONE),
    "posterize": (8 - np.round(6 * LEVELS), NONE),  # bits kept
    "solarize": (255 * (1 - LEVELS), NONE),  # threshold
    "brightness": (NONE + 1, 0.99 * LEVELS),  # factors
    "colour": (NONE + 1, 0.99 * LEVELS),
    "contrast": (NONE + 1, 0.99 * LEVELS),
    "sharpness": (NONE + 1, 0.99 * LEVELS),
    "rotate": (NONE, 135 * LEVELS),  # degrees
    "shear_x": (NONE, 0.99 * LEVELS),
    "shear_y": (NONE, 0.99 * LEVELS),
    "translate_x": (NONE, 32 * LEVELS),  # pixels
    "translate_y": (NONE, 32 * LEVELS),
}


@dataclasses.dataclass(frozen=True)
class TrivialAugment(Piece):
    """Apply one of 14 operations at one of 31 strengths to each image (TrivialAugment Wide, arXiv 2103.10158).

    Operation, strength and sign are drawn uniformly. The range of each operation is that of torchvision's
    TrivialAugmentWide.
    """

    def apply(self, images, rng, fill, in_place):
        import tensorflow as tf

        from dico_tf.views import operations

        names = [name for name in WIDE if not (in_place and name in operations.GEOMETRIC)]
        table = tf.constant(np.stack([np.transpose(WIDE[name]) for name in names]), tf.float32)  # [14, 31, 2]
        choice = rng.integers("operation", len(names))
        strength = rng.integers("strength", len(LEVELS))
        centre, span = tf.unstack(tf.gather_nd(table, tf.stack([choice, strength], axis=1)), axis=1)
        value = centre + tf.where(rng.uniform("sign") < 0.5, -span, span)
        height, width = tf.unstack(tf.cast(tf.shape(images)[1:3], tf.float32))
        sides = {"translate_x": width, "translate_y": height}  # operations take shares of the side
        value /= tf.gather(tf.stack([sides.get(name, 1.0) for name in names]), choice)
        number = tf.gather(tf.constant([operations.NAMES.index(name) for name in names]), choice)
        return operations.apply(images, number, value, fill)
