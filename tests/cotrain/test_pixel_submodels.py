"""Submodels of segmentation networks: the loss computed by hand, void pixels, and training steps."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from dico_tf.cotrain import DiCo
from dico_tf.cotrain import segmentation_losses as pixels
from dico_tf.cotrain.losses import LabelLoss
from dico_tf.cotrain.methods.dico import Dico
from dico_tf.data.segmentation import VOID
from dico_tf.errors import UserError
from dico_tf.layers.stochastic_depth import droppings
from dico_tf.training import variables
from tests.cotrain.test_segmenter import cross_entropy, made

# One picture of 2x2 pixels, two classes, two submodels. The last pixel is void.
LOGITS = np.array([[[[2, 0], [0, 1]], [[-1, 1], [5, -5]]], [[[1, 0], [1, 0]], [[0, 0], [-5, 5]]]], np.float32)
MASK = np.array([[[0, 1], [1, VOID]]])


def submodels(name="upernet_vit_tiny", splits=1, **settings) -> DiCo:
    keras.utils.set_random_seed(1)
    more = {"division": "params", "classes": 3, "image_size": 32, "views": ("flip",), "drop_path": 0.5}
    more["method"] = "cosub" if splits == 1 else "dico+cosub"
    return DiCo(name, splits, **{**more, **settings})


def terms(model, logits, method=None):
    """Return losses [B, S], agreement [B] and total [B] of logits [B, S, n, H, W, C] and the mask above."""
    truth = {"masks": tf.constant(MASK)}
    return (method or model.method).terms(model.task, logits, truth, model.epoch)


@pytest.fixture(scope="module")
def pair():
    return submodels(classes=2, label_weight=0.3)


def step(model, images, masks):
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    return model.train_step({"image": images, "label": masks, "index": np.arange(len(images))})


def test_the_loss_of_four_pixels_is_the_one_computed_by_hand(pair):
    """l(z, t) = -t_0 log p_0 - t_1 log p_1 of each valid pixel, where log p = z - log(e^z_0 + e^z_1)."""
    log_p = LOGITS - np.log(np.exp(LOGITS).sum(-1, keepdims=True))
    p = np.exp(log_p)
    label, cross = [], []
    for row, column, truth in ((0, 0, 0), (0, 1, 1), (1, 0, 1)):
        for one, other in ((0, 1), (1, 0)):
            label.append(-log_p[one, row, column, truth])
            cross.append(-(p[other, row, column] * log_p[one, row, column]).sum())
    losses, agreement, total = terms(pair, tf.constant(LOGITS[None, None]))
    assert np.mean(label) == pytest.approx(0.4811314, abs=1e-6) and np.mean(cross) == pytest.approx(0.8343319, abs=1e-6)
    assert float(losses[0, 0]) == pytest.approx(np.mean(label), abs=1e-6)
    assert float(total[0]) == pytest.approx(0.3 * np.mean(label) + 0.7 * np.mean(cross), abs=1e-6)
    assert float(agreement[0]) == 0


def test_void_pixels_move_nothing_and_teachers_are_held_constant(pair):
    z = tf.constant(LOGITS[None, None])
    with tf.GradientTape() as tape:
        tape.watch(z)
        total = terms(pair, z)[2]
    gradient = tape.gradient(total, z).numpy()[0, 0]
    assert not gradient[:, 1, 1].any()
    p, truth = tf.nn.softmax(LOGITS).numpy(), np.eye(2)[[[0, 1], [1, 0]]]
    for one, other in ((0, 1), (1, 0)):  # dl/dz = p - t, weighted, over two submodels and three pixels
        expected = (0.3 * (p[one] - truth) + 0.7 * (p[one] - p[other])) / 6
        expected[1, 1] = 0
        assert gradient[one] == pytest.approx(expected, abs=1e-6)


def test_whole_networks_are_scored_as_a_segmenters(pair):
    one, mask = tf.constant(LOGITS[None, None, :1]), tf.constant(MASK)
    losses, _, total = terms(pair, one, Dico(pair.settings, LabelLoss("softmax")))
    expected = pixels.mean(cross_entropy(one[:, 0, 0], mask), mask)
    assert float(losses[0, 0]) == float(total[0]) == pytest.approx(float(expected[0]))


@pytest.mark.slow
def test_a_step_sees_every_crop_twice_and_tells_how_far_submodels_are_apart():
    model = submodels(splits=2)
    images, masks = made(4)
    names = variables.weights(model)
    before = {name: names[name].numpy() for name in ("branch_0/patches/kernel", "branch_1/logits_auxiliary/kernel")}
    seen = []
    layer = droppings(model.learners[1])[0]
    call = layer.call
    layer.call = lambda x, **options: seen.append(x.shape[0]) or call(x, **options)
    result = step(model, images, masks)
    assert seen == [8] and all((names[name].numpy() != old).any() for name, old in before.items())
    assert 0 < float(result["submodels_apart"]) < 1 and 0 <= float(result["ensemble_miou"]) <= 1
    results = model.results()
    assert len(results["branch_miou"]) == 2 and results["submodels_apart"] > 0 and results["agreement"] > 0


def test_an_image_without_any_class_changes_no_weight():
    model = submodels()
    before = [v.numpy() for v in model.branch_variables]
    images, masks = made(2)
    step(model, images, np.full_like(masks, VOID))
    assert all(np.array_equal(a, b.numpy()) for a, b in zip(before, model.branch_variables, strict=True))


@pytest.mark.slow
def test_a_saved_one_answers_the_same_of_any_size(pair, tmp_path):
    pair.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    images = made(2, (40, 36))[0]
    assert pair(images).shape == (2, 1, 9, 10, 2)
    assert np.array_equal(pair(images), again(images))
    assert {name: again.get_config()[name] for name in ("label_weight", "submodels", "target", "auxiliary_weight")} == {
        "label_weight": 0.3,
        "submodels": 2,
        "target": "auto",
        "auxiliary_weight": 0.5,
    }


def test_what_is_no_pair_of_dense_predictions_is_refused():
    with pytest.raises(
        UserError, match="target=binary contradicts task=segmentation, whose pixels have one class each"
    ):
        submodels(target="binary")
    with pytest.raises(UserError, match="makes all submodels of method=cosub the same"):
        submodels(drop_path=0.0)
    with pytest.raises(UserError, match="drops no residual branches; leave it out"):
        submodels("deeplabv3_tiny")
    with pytest.raises(UserError, match=r"image_size=30 does not divide into patches of 4x4 pixels"):
        submodels(image_size=30)
