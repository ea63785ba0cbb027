"""scikit-learn's 1,797 handwritten digits, enlarged to the size of CIFAR: a dataset that needs no download."""

import numpy as np
from PIL import Image

from dico_tf.config import Data
from dico_tf.data.source import Source, Split
from dico_tf.data.splits import stratified

SIZE = 32  # pixels; the originals are 8x8 with 17 levels of grey
MEAN, STD = 0.3055, 0.3235  # of all 1,797 at 32x32, in 0..1
SPLIT_SEED = 0  # not the run's: every run is tested on the same digits


def load(data: Data, seed: int) -> Source:
    """Return the digits, 80% train and 20% test of every class, the same for every seed."""
    from sklearn.datasets import load_digits

    size = data.image_size or SIZE
    digits = load_digits()
    whole = Split(
        images=np.stack([_enlarged(digit, size) for digit in digits.images]),
        labels=digits.target,
        ids=[f"digit_{n:04d}" for n in range(len(digits.target))],
    )
    train, test = stratified(whole.labels, 0.2, SPLIT_SEED)
    return Source(
        name="digits",
        class_names=tuple("0123456789"),
        image_size=size,
        mean=(MEAN,) * 3,
        std=(STD,) * 3,
        splits={"train": whole.subset(train), "test": whole.subset(test)},
    )


def _enlarged(digit: np.ndarray, size: int) -> np.ndarray:
    """Return grey levels 0..16 [8, 8] as uint8 [size, size, 3]."""
    grey = Image.fromarray(np.round(digit * (255 / 16)).astype(np.uint8))
    return np.asarray(grey.resize((size, size), Image.Resampling.BILINEAR).convert("RGB"))
