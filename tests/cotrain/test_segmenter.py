"""Segmentation: losses and scores against Keras and NumPy, and branches that learn."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from dico_tf.cotrain import segmentation_losses as pixels
from dico_tf.cotrain.dico import DiCo
from dico_tf.cotrain.losses import LabelLoss, jensen_shannon, kullback_leibler
from dico_tf.data.segmentation import VOID
from dico_tf.errors import UserError
from dico_tf.evaluation import segmentation
from dico_tf.training import variables
from tests.data import scenery

DRAW = np.random.default_rng(0)
LOGITS = DRAW.normal(size=(4, 2, 5, 6, 3)).astype(np.float32)
MASKS = DRAW.integers(0, 3, (4, 5, 6)).astype(np.int32)
MASKS[0] = VOID
MASKS[1, :3] = VOID


def made(count=8, size=(32, 32)):
    scenes = [scenery.scene(seed, size) for seed in range(count)]
    images, masks = (np.stack(result) for result in zip(*scenes, strict=True))
    return images, np.where(masks == scenery.VOID, VOID, masks).astype(np.uint8)


def cross_entropy(logits, masks, smoothing=0.0):
    """Return the loss [B, H, W] of a segmentation model with void pixels."""
    labels = LabelLoss("softmax", smoothing)
    return labels.loss(logits, labels.goal(tf.one_hot(masks, logits.shape[-1])))


def segmenter(**settings):
    keras.utils.set_random_seed(1)
    settings = {"classes": 3, "image_size": 32, "views": ("flip",), **settings}
    return DiCo("deeplabv3_tiny", 2, **settings)


@pytest.fixture(scope="module")
def fresh():
    """Return a new model, which the test must not change."""
    return segmenter()


def step(model, images, masks):
    """Run one training step eagerly: tracing a graph would take longer."""
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    return model.train_step({"image": images, "label": masks, "index": np.arange(len(images))})


def test_the_loss_is_the_mean_over_the_batch_s_pixels_that_have_a_class():
    reference = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=VOID)
    one = LOGITS[:, 0]
    mine = pixels.mean(cross_entropy(one, MASKS), MASKS) * pixels.shares(MASKS)
    assert float(tf.reduce_mean(mine)) == pytest.approx(float(reference(MASKS, one)), rel=1e-5)
    assert float(mine[0]) == 0


def test_a_batch_without_any_class_has_a_loss_of_zero():
    empty = np.full_like(MASKS, VOID)
    loss = pixels.mean(cross_entropy(LOGITS[:, 0], empty, 0.1), empty) * pixels.shares(empty)
    assert loss.numpy().tolist() == [0, 0, 0, 0]


def test_smoothing_spreads_the_target_over_the_classes():
    log_p = tf.nn.log_softmax(LOGITS[:, 0]).numpy()
    target = 0.7 * np.eye(3)[np.where(MASKS == VOID, 0, MASKS)] + 0.1
    expected = np.where(MASKS == VOID, 0, -(target * log_p).sum(-1))
    result = np.where(MASKS == VOID, 0, cross_entropy(LOGITS[:, 0], MASKS, 0.3))
    assert result == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("divergence", [jensen_shannon, kullback_leibler])
def test_branches_agree_pixel_by_pixel(divergence):
    flat = LOGITS.transpose(0, 2, 3, 1, 4).reshape(-1, 2, 3)
    assert divergence(LOGITS).numpy().ravel() == pytest.approx(divergence(flat).numpy(), abs=1e-6)


def test_enlarging_is_what_the_networks_do_and_what_numpy_does(fresh):
    model = fresh
    images = made(2)[0]
    apart = np.stack([branch(images) for branch in model.branches], axis=1)
    coarse = np.asarray(model(images))
    assert coarse.shape == (2, 2, 2, 2, 3) and apart.shape == (2, 2, 32, 32, 3)
    assert pixels.enlarged(coarse, np.zeros((2, 32, 32))).numpy() == pytest.approx(apart, abs=1e-5)
    assert segmentation.enlarged(coarse, (32, 32)) == pytest.approx(apart, abs=1e-5)


def test_the_confusion_of_the_example_has_a_mean_iou_of_one_half():
    """Labels 0, 1, void, 2 and predictions 0, 1, 1, 1, counted like keras.metrics.MeanIoU."""
    result = pixels.Confusion(3)
    result.update_state(tf.constant([[[0, 1, 1, 1]]]), tf.constant([[[0, 1, VOID, 2]]]))
    assert float(result.result()) == 0.5
    assert float(result.accuracy()) == pytest.approx(2 / 3)


def test_the_mean_iou_of_two_by_two_counts_is_the_one_computed_by_hand():
    """Correct are 2 of 3 pixels of class 0, 3 of 4 of class 1: 2 / (2 + 1 + 1) and 3 / (3 + 1 + 1); two are void."""
    truth = [[[0, 0, 0], [1, 1, 1], [1, VOID, VOID]]]
    predictions = [[[0, 0, 1], [1, 1, 1], [0, 0, 1]]]
    result = pixels.Confusion(2)
    result.update_state(tf.constant(predictions), tf.constant(truth))
    assert result.counts.numpy().tolist() == [[2, 1], [1, 3]] == segmentation.confusion(predictions, truth, 2).tolist()
    assert float(result.result()) == pytest.approx((2 / 4 + 3 / 5) / 2) and VOID == 255
    assert segmentation.miou(segmentation.confusion(predictions, truth, 2)) == (2 / 4 + 3 / 5) / 2


def test_confusions_add_up_whatever_the_batches_and_whatever_is_said_of_void():
    answers = DRAW.integers(0, 3, MASKS.shape)
    whole, parts = pixels.Confusion(3), pixels.Confusion(3)
    whole.update_state(tf.constant(answers), tf.constant(MASKS))
    others = np.where(MASKS == VOID, (answers + 1) % 3, answers)
    for n in range(4):
        parts.update_state(tf.constant(others[n : n + 1]), tf.constant(MASKS[n : n + 1]))
    expected = segmentation.confusion(answers, MASKS, 3)
    assert np.array_equal(whole.counts, expected) and np.array_equal(parts.counts, expected)
    reference = keras.metrics.MeanIoU(3, ignore_class=VOID)
    reference.update_state(MASKS, answers)
    assert float(whole.result()) == pytest.approx(float(reference.result()), abs=1e-6)
    assert float(whole.result()) == pytest.approx(segmentation.miou(expected), abs=1e-6)


def test_no_pixel_has_no_score():
    result = pixels.Confusion(3)
    result.update_state(tf.zeros((1, 2, 2), tf.int64), tf.fill((1, 2, 2), VOID))
    assert float(result.result()) == float(result.accuracy()) == 0


@pytest.mark.slow
def test_branches_learn_classes_of_pixels():
    model = segmenter(weight_decay=1e-4)
    model.compile(keras.optimizers.Adam(3e-3), run_eagerly=True)
    images, masks = made(16)
    history = model.fit(images, masks, batch_size=8, epochs=7, verbose=0).history
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    assert {"branch_0_miou", "branch_1_miou", "ensemble_miou", "agreement"} <= set(history)
    scores = [model.evaluate(images, masks, batch_size=size, verbose=0, return_dict=True) for size in (16, 5)]
    assert scores[0] == pytest.approx(scores[1], rel=1e-4)


@pytest.mark.slow
def test_an_image_without_any_class_changes_no_weight():
    model = segmenter(agreement="kl")
    before = [v.numpy() for v in model.branch_variables]
    images, masks = made(4)
    step(model, images, np.full_like(masks, VOID))
    assert all(np.array_equal(a, b.numpy()) for a, b in zip(before, model.branch_variables, strict=True))


@pytest.mark.slow
def test_the_second_head_is_learned_and_kept_but_not_asked():
    model = segmenter()
    names = variables.weights(model)
    assert {"branch_0/logits_auxiliary/kernel", "branch_1/auxiliary_conv/kernel"} <= set(names)
    assert not [layer for layer in model.branches[0].layers if "auxiliary" in layer.name]
    assert len(model.branch_variables) == len(model.trainable_variables)
    before = names["branch_1/logits_auxiliary/kernel"].numpy()
    step(model, *made(4))
    assert (names["branch_1/logits_auxiliary/kernel"].numpy() != before).any()
    without = segmenter(auxiliary_weight=0.0)
    assert set(variables.weights(without)) == {name for name in names if "auxiliary" not in name}


@pytest.mark.slow
def test_pieces_of_a_batch_learn_what_the_batch_does():
    """The network has no batch statistics or dropout; weights of images are those of the whole batch."""
    images, masks = made(4)
    masks[0, :28] = VOID
    result = []
    for pieces in (1, 2):
        model = segmenter(accumulation=pieces, views=("none",))
        for learner in model.learners:
            for layer in learner.layers:
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.trainable = False
                if isinstance(layer, keras.layers.Dropout):
                    layer.rate = 0.0
        step(model, images, masks)
        result.append(model.branch_variables[0].numpy())
    assert result[0] == pytest.approx(result[1], abs=1e-5)


@pytest.mark.slow
def test_a_saved_segmenter_answers_the_same(fresh, tmp_path):
    model = fresh
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    images = made(2)[0]
    assert np.array_equal(model(images), again(images))
    assert again.get_config()["auxiliary_weight"] == 0.5


def test_tasks_are_not_mistaken_for_each_other(fresh):
    with pytest.raises(UserError, match=r"auxiliary_weight=0\.1 is for task=segmentation"):
        DiCo("wrn_tiny", 2, classes=3, auxiliary_weight=0.1)
    with pytest.raises(UserError, match=r"mixup=0\.2 mixes whole images"):
        segmenter(mixup=0.2)
    with pytest.raises(UserError, match="independent"):
        segmenter(training="independent")
    fresh.compile("sgd", run_eagerly=True)
    with pytest.raises(UserError, match="expected labels from 0 to 2, got 0 to 7"):
        fresh.fit(np.zeros((2, 32, 32, 3)), np.full((2, 32, 32), 7) * np.eye(32, dtype=int))
    with pytest.raises(UserError, match=r"expected images \[B, H, W, 3\] and masks \[B, H, W\]"):
        fresh.fit(np.zeros((2, 32, 32, 3)), np.zeros((2,), int), verbose=0)
