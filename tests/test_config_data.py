"""Settings of the data: which images and labels are used."""

import pytest

from dico_tf.config import from_values
from tests.test_config import fault


def test_masks_get_no_wrong_labels():
    assert "--label_noise=0.2 contradicts --task=segmentation" in fault(task="segmentation", label_noise=0.2)
    assert from_values({"task": "video", "label_noise": 0.2, "train_images": 9}).data.label_noise == 0.2


@pytest.mark.parametrize("values", [{"dataset": "cifar10"}, {"dataset": "folder:a", "task": "segmentation"}])
def test_duplicates_are_skipped_only_in_folders_of_classes(values):
    assert "--skip_duplicates is for classes of images in a folder" in fault(skip_duplicates=True, **values)
    assert from_values({"dataset": "folder:a", "skip_duplicates": True}).data.skip_duplicates
