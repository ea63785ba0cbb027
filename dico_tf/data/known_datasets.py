"""Image size and classes of the data sets people name most, for audits that load no data."""

from dico_tf.errors import UserError

KNOWN = {
    "digits": (32, 10),
    "cifar10": (32, 10),
    "cifar100": (32, 100),
    "svhn_cropped": (32, 10),
    "imagenet2012": (224, 1000),
}
CLIPS = {"moving": 8, "kinetics400": 400, "kinetics600": 600}  # classes; clips are as large as the network asks for
CIFAR_LARGEST = 64  # pixels up to which the cifar layouts apply


def shape(dataset: str, image_size: int = 0, classes: int = 0) -> tuple[int, int]:
    """(image size, classes) of the data set, each overruled by what was asked for."""
    known = KNOWN.get(dataset, (0, 0))
    size, count = image_size or known[0], classes or known[1]
    if not size or not count:
        raise UserError(f"--dataset={dataset}: give --image_size and --classes; known by name: {', '.join(KNOWN)}")
    return size, count
