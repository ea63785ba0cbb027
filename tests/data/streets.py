"""A set of TFDS as imagenet2012 is: JPEGs of many sizes, a name and a label each, and a test without labels."""

import io
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

SIZES = {"train": 30, "validation": 10}


def picture(number: int) -> Image.Image:
    draw = np.random.default_rng(number)
    width, height = draw.integers(80, 160, 2)
    coarse = draw.integers(0, 256, (8, 8, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


class Streets(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")
    secret_test = False

    @classmethod
    def get_metadata(cls):
        return None

    def _info(self):
        features = {
            "file_name": tfds.features.Text(),
            "image": tfds.features.Image(encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(num_classes=10),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), supervised_keys=("image", "label")
        )

    def _split_generators(self, download):
        result = {name: self._generate_examples(name, count) for name, count in SIZES.items()}
        return {**result, **({"test": self._generate_examples("test", 5)} if self.secret_test else {})}

    def _generate_examples(self, split, count):
        for n in range(count):
            stream = io.BytesIO()
            picture(n).save(stream, "JPEG", quality=95)
            label = -1 if split == "test" else n % 10
            yield n, {"file_name": f"{split}_{n}.JPEG", "image": io.BytesIO(stream.getvalue()), "label": label}


def prepare(folder: Path, kind: str = "tfrecord", secret_test: bool = False) -> Path:
    """`folder`, which then contains streets/1.0.0 in three files a split."""
    made = Streets(data_dir=folder, file_format=kind)
    made.secret_test = secret_test
    made.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=3))
    return folder
