"""Submodels of a tiny transformer learn digits, with and without the cross terms of the loss."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from dico_tf.config import Data
from dico_tf.cotrain import Submodels
from dico_tf.data import source

LEARNED, STEPS, BATCH = 512, 480, 64


@pytest.fixture(scope="module")
def digits():
    split = source.load(Data(dataset="digits", image_size=16), 0).splits["train"]
    return np.asarray(split.images), np.asarray(split.labels)


def trained(digits, label_weight: float) -> tuple[list[float], float, float]:
    """Return the losses of the epochs and, on other images, how far submodels differ and the network's accuracy."""
    images, labels = digits
    keras.utils.set_random_seed(1)
    model = Submodels("vit_tiny", classes=10, image_size=16, views=("none",), drop_path=0.2, label_weight=label_weight)
    model.compile(keras.optimizers.AdamW(2e-3, weight_decay=0.05))
    data = {"batch_size": BATCH, "epochs": STEPS * BATCH // LEARNED, "verbose": 0}
    losses = model.fit(images[:LEARNED], labels[:LEARNED], **data).history["loss"]
    new, truth = tf.constant(images[LEARNED : 2 * LEARNED], tf.float32), labels[LEARNED : 2 * LEARNED]
    answers = tf.sigmoid(model.heads(model.branches[0], new)[0])
    apart = float(tf.reduce_mean(tf.abs(answers[:, 0] - answers[:, 1])))
    return losses, apart, float(np.mean(np.argmax(model(new)[:, 0], axis=-1) == truth))


@pytest.mark.slow
def test_submodels_that_teach_one_another_learn_and_come_closer_than_by_labels_alone(digits):
    losses, apart, accuracy = trained(digits, 0.5)
    assert losses[-1] < 0.2 * losses[0]
    assert accuracy > 0.85
    _, strangers, _ = trained(digits, 1.0)  # the same copies, rates and steps
    assert apart < strangers
