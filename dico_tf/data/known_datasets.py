"""Image size and classes of well-known datasets, for audits that load no data."""

from dico_tf.errors import UserError

KNOWN = {
    "digits": (32, 10),
    "cifar10": (32, 10),
    "cifar100": (32, 100),
    "svhn_cropped": (32, 10),
    "imagenet2012": (224, 1000),
}
CLIPS = {"moving": 8, "kinetics400": 400, "kinetics600": 600}  # classes; the network decides the size of clips
CIFAR_LARGEST = 64  # pixels up to which the cifar layouts apply


def shape(dataset: str, image_size: int = 0, classes: int = 0) -> tuple[int, int]:
    """Return (image size, classes) of the dataset, or the given values where they are not 0."""
    known = KNOWN.get(dataset, (0, 0))
    size, count = image_size or known[0], classes or known[1]
    if not size or not count:
        raise UserError(f"--dataset={dataset}: give --image_size and --classes; known by name: {', '.join(KNOWN)}")
    return size, count
