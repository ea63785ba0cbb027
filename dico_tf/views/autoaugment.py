"""AutoAugment's policies for CIFAR and ImageNet (Cubuk et al., arXiv 1805.09501).

Each policy is 25 pairs of operations; each operation is (name, probability, level from 0 to 9).
"""

# fmt: off
CIFAR = (
    (("invert", .1, 7), ("contrast", .2, 6)),
    (("rotate", .7, 2), ("translate_x", .3, 9)),
    (("sharpness", .8, 1), ("sharpness", .9, 3)),
    (("shear_y", .5, 8), ("translate_y", .7, 9)),
    (("autocontrast", .5, 0), ("equalize", .9, 0)),
    (("shear_y", .2, 7), ("posterize", .3, 7)),
    (("colour", .4, 3), ("brightness", .6, 7)),
    (("sharpness", .3, 9), ("brightness", .7, 9)),
    (("equalize", .6, 0), ("equalize", .5, 0)),
    (("contrast", .6, 7), ("sharpness", .6, 5)),
    (("colour", .7, 7), ("translate_x", .5, 8)),
    (("equalize", .3, 0), ("autocontrast", .4, 0)),
    (("translate_y", .4, 3), ("sharpness", .2, 6)),
    (("brightness", .9, 6), ("colour", .2, 8)),
    (("solarize", .5, 2), ("invert", 0., 0)),
    (("equalize", .2, 0), ("autocontrast", .6, 0)),
    (("equalize", .2, 0), ("equalize", .6, 0)),
    (("colour", .9, 9), ("equalize", .6, 0)),
    (("autocontrast", .8, 0), ("solarize", .2, 8)),
    (("brightness", .1, 3), ("colour", .7, 0)),
    (("solarize", .4, 5), ("autocontrast", .9, 0)),
    (("translate_y", .9, 9), ("translate_y", .7, 9)),
    (("autocontrast", .9, 0), ("solarize", .8, 3)),
    (("equalize", .8, 0), ("invert", .1, 0)),
    (("translate_y", .7, 9), ("autocontrast", .9, 0)),
)

IMAGENET = (
    (("posterize", .4, 8), ("rotate", .6, 9)),
    (("solarize", .6, 5), ("autocontrast", .6, 0)),
    (("equalize", .8, 0), ("equalize", .6, 0)),
    (("posterize", .6, 7), ("posterize", .6, 6)),
    (("equalize", .4, 0), ("solarize", .2, 4)),
    (("equalize", .4, 0), ("rotate", .8, 8)),
    (("solarize", .6, 3), ("equalize", .6, 0)),
    (("posterize", .8, 5), ("equalize", 1., 0)),
    (("rotate", .2, 3), ("solarize", .6, 8)),
    (("equalize", .6, 0), ("posterize", .4, 6)),
    (("rotate", .8, 8), ("colour", .4, 0)),
    (("rotate", .4, 9), ("equalize", .6, 0)),
    (("equalize", 0., 0), ("equalize", .8, 0)),
    (("invert", .6, 0), ("equalize", 1., 0)),
    (("colour", .6, 4), ("contrast", 1., 8)),
    (("rotate", .8, 8), ("colour", 1., 2)),
    (("colour", .8, 8), ("solarize", .8, 7)),
    (("sharpness", .4, 7), ("invert", .6, 0)),
    (("shear_x", .6, 5), ("equalize", 1., 0)),
    (("colour", .4, 0), ("equalize", .6, 0)),
    (("equalize", .4, 0), ("solarize", .2, 4)),
    (("solarize", .6, 5), ("autocontrast", .6, 0)),
    (("invert", .6, 0), ("equalize", 1., 0)),
    (("colour", .6, 4), ("contrast", 1., 8)),
    (("equalize", .8, 0), ("equalize", .6, 0)),
)
# fmt: on

FILL = (128.0, 128.0, 128.0)


def value(operation: str, level: int) -> tuple[float, float]:
    """Return (centre, span) of an operation at a level of 0..9; its value is centre + span or centre - span."""
    share = level / 9
    if operation in ("shear_x", "shear_y"):
        return 0.0, 0.3 * share
    if operation in ("translate_x", "translate_y"):
        return 0.0, 150 / 331 * share
    if operation in ("colour", "contrast", "brightness", "sharpness"):
        return 1.0, 0.9 * share
    if operation == "rotate":
        return 30.0 * share, 0.0
    if operation == "posterize":
        return float(round(8 - 4 * share)), 0.0
    return (256.0 * (1 - share) if operation == "solarize" else 0.0), 0.0
