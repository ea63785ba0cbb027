"""Image size and number of classes of well-known datasets, so that divide.py need not load them."""

from dico_tf.errors import UserError

KNOWN = {
    "digits": (32, 10),
    "cifar10": (32, 10),
    "cifar100": (32, 100),
    "svhn_cropped": (32, 10),
    "imagenet2012": (224, 1000),
}
TRAINING_IMAGES = {
    "digits": 1438,
    "cifar10": 50_000,
    "cifar100": 50_000,
    "svhn_cropped": 73_257,
    "imagenet2012": 1_281_167,
}
CLIPS = {"moving": 8, "kinetics400": 400, "kinetics600": 600}  # classes; the network decides the size of clips
CIFAR_LARGEST = 64  # pixels up to which the cifar layouts apply


def shape(dataset: str, image_size: int = 0, classes: int = 0) -> tuple[int, int]:
    """Return (image size, number of classes) of a dataset. Arguments other than 0 are returned as they are.

    Raises:
        UserError: if one of them is neither known nor given.
    """
    known = KNOWN.get(dataset, (0, 0))
    size, count = image_size or known[0], classes or known[1]
    if not size or not count:
        flags = [flag for flag, value in (("--image_size", size), ("--classes", count)) if not value]
        raise UserError(
            f"--dataset={dataset} is not one whose size and classes are known ({', '.join(KNOWN)}): give "
            f"{' and '.join(flags)}"
        )
    return size, count
