"""Submodels of one network: values of the published loss, and views and copies in a training step."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from dico_tf.cotrain import DiCo, Submodels
from dico_tf.cotrain.losses import TARGETS, LabelLoss, jensen_shannon, mutual, present
from dico_tf.errors import UserError
from dico_tf.layers.stochastic_depth import droppings

# Two images, three classes; rows are image 0, image 1 of the first copy, then of the second. Computed in float64.
ROWS = np.array([[2, -1, 0.5], [0, 1.5, -2], [1, -0.5, -1], [-0.5, 2.5, 0]])
TRUTH = np.array([[1, 0, 0], [0, 1, 1]], np.float32)
LABEL, CROSS = (0.7392925253878, 0.3911190430416), (0.7217492038687, 0.6548185052790)
GRADIENT = np.array(
    [
        [0.0012723157219, 0.0066809239142, 0.0406657183764],
        [0.0259358054667, -0.0120413694830, -0.0525664231648],
        [-0.0174449966966, 0.0202558298428, -0.0035240203526],
        [0.0106283890665, 0.0012795484902, -0.0049667884176],
    ]
)
THROUGH_TEACHERS = np.array(
    [
        [-0.0031024170032, 0.0107770058568, 0.0504575397181],
        [0.0311441388001, -0.0275774582403, -0.0525664231648],
        [-0.0338293244667, 0.0300476511845, -0.0076201022951],
        [0.0106283890665, -0.0031019337939, 0.0158665449157],
    ]
)


def by_image(rows):
    """Reshape [2 B, C] to [B, 2, C]."""
    return tf.transpose(tf.reshape(rows, (2, -1, rows.shape[-1])), (1, 0, 2))


def loss(rows, **options) -> float:
    return float(tf.reduce_mean(mutual(by_image(tf.constant(rows, tf.float32)), TRUTH, **options)[2]))


def gradient(rows) -> np.ndarray:
    z = tf.constant(rows, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(z)
        value = tf.reduce_mean(mutual(by_image(z), TRUTH)[2])
    return tape.gradient(value, z).numpy()


def test_the_loss_is_the_published_one_to_a_millionth():
    label, cross, _ = mutual(by_image(tf.constant(ROWS, tf.float32)), TRUTH)
    assert np.mean(label, axis=0) == pytest.approx(LABEL, abs=1e-6)
    assert np.mean(cross, axis=0) == pytest.approx(CROSS, abs=1e-6)
    assert loss(ROWS) == pytest.approx(0.6267448193943, abs=1e-6)
    assert loss(ROWS, weight=1.0) == pytest.approx(0.5652057842147, abs=1e-6)
    assert loss(ROWS, weight=0.0) == pytest.approx(0.6882838545738, abs=1e-6)


def test_gradients_are_the_published_ones_and_none_flows_into_a_teacher():
    result = gradient(ROWS)
    assert result == pytest.approx(GRADIENT, abs=1e-6)
    for row, other in zip(result, THROUGH_TEACHERS, strict=True):
        assert np.abs(row - other).max() > 1e-3


def test_a_teacher_that_learned_would_have_other_gradients():
    z = tf.constant(ROWS, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(z)
        one, other = tf.split(z, 2)
        terms = [(one, TRUTH), (other, TRUTH), (one, tf.sigmoid(other)), (other, tf.sigmoid(one))]
        value = sum(tf.reduce_mean(TARGETS["binary"].loss(x, y)) for x, y in terms) / 4
    assert tape.gradient(value, z).numpy() == pytest.approx(THROUGH_TEACHERS, abs=1e-6)


def test_with_softmax_the_loss_is_that_of_the_cross_entropies():
    truth = TRUTH / TRUTH.sum(1, keepdims=True)
    label, cross, total = mutual(by_image(tf.constant(ROWS, tf.float32)), truth, labels=LabelLoss("softmax"))
    assert np.mean(label, axis=0) == pytest.approx((1.1085566729444, 0.8401143352993), abs=1e-6)
    assert np.mean(cross, axis=0) == pytest.approx((0.7145542405891, 0.7169016760101), abs=1e-6)
    assert float(np.mean(total)) == pytest.approx(0.8450317312107, abs=1e-6)


def test_swapping_the_copies_changes_no_loss_and_swaps_the_gradients():
    swapped = np.roll(ROWS, 2, axis=0)
    assert loss(swapped) == pytest.approx(loss(ROWS), abs=1e-7)
    assert gradient(swapped) == pytest.approx(np.roll(gradient(ROWS), 2, axis=0), abs=1e-7)


@pytest.mark.parametrize("target", list(TARGETS))
def test_of_more_submodels_each_learns_from_each_other_one(target):
    draw = np.random.default_rng(0)
    z = tf.constant(draw.normal(0, 2, (5, 4, 3)), tf.float32)
    y = tf.constant(draw.dirichlet([1, 1, 1], 5), tf.float32)
    kind = TARGETS[target]
    label = np.mean([kind.loss(z[:, s], y) for s in range(4)], axis=0)
    pairs = [(s, t) for s in range(4) for t in range(4) if s != t]
    cross = np.mean([kind.loss(z[:, s], kind.answer(z[:, t])) for s, t in pairs], axis=0)
    assert np.asarray(mutual(z, y, 0.3, LabelLoss(target))[2]) == pytest.approx(0.3 * label + 0.7 * cross, abs=1e-6)


def test_half_precision_is_computed_in_float32():
    z = tf.constant(ROWS, tf.bfloat16)  # these numbers are exact in it
    terms = mutual(by_image(z), TRUTH)
    assert {term.dtype for term in terms} == {tf.float32}
    assert float(tf.reduce_mean(terms[2])) == pytest.approx(0.6267448193943, abs=1e-6)


ROOT = Path(__file__).parents[2]
CLASSES, COUNT = 5, 8
_DRAW = np.random.default_rng(0)
IMAGES = _DRAW.integers(0, 256, (COUNT, 32, 32, 3), np.uint8)
LABELS = np.arange(COUNT) % CLASSES


def batch() -> dict[str, tf.Tensor]:
    parts = {"image": IMAGES, "label": LABELS, "index": np.arange(COUNT)}
    return {name: tf.constant(part) for name, part in parts.items()}


def submodels(splits: int = 1, kind=Submodels, model: str = "vit_tiny", rate: float = 0.5, **settings) -> DiCo:
    """Return a model with scales at 1: with their initial values, dropping residual branches changes almost nothing."""
    keras.utils.set_random_seed(0)
    settings = {"views": ("none",), "drop_path": rate, "division": "params", **settings}
    built = kind(model, splits, classes=CLASSES, **settings)
    for variable in built.branch_variables:
        if variable.name == "scale":
            variable.assign(np.ones(variable.shape))
    built.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    built.optimizer.build(built.branch_variables)
    return built


def inputs(model) -> tuple:
    """Return (S views, truth) of a step on the batch."""
    numbered = model.numbered(model.task.unpack(batch()))
    return model.task.inputs(numbered, model.epoch, model.step, model.method.teach)


def rows(model, branch: int = 0):
    """Return the training logits [B, n, C] of a branch's copies."""
    (logits,) = model.heads(model.branches[branch], inputs(model)[0][branch])
    return logits


def test_copies_of_an_image_differ_in_training_and_not_otherwise():
    model = submodels()
    (view,), _ = inputs(model)
    logits = rows(model).numpy()
    assert logits.shape == (COUNT, 2, CLASSES)
    apart = np.abs(logits[:, 0] - logits[:, 1]).max(-1)
    assert np.all(apart > 1e-3)
    whole = model.branches[0](tf.concat([view, view], 0), training=False).numpy()
    assert np.array_equal(whole[:COUNT], whole[COUNT:])
    whole = submodels(kind=DiCo)
    assert np.asarray(model(IMAGES)) == pytest.approx(np.asarray(whole(IMAGES)), abs=1e-6)


def test_views_are_mixed_before_they_are_copied_and_targets_are_not_copied(monkeypatch):
    model, seen = submodels(mixup=0.8, cutmix=1.0, views=("crop+flip",)), []
    branch = model.branches[0]
    monkeypatch.setattr(type(branch), "call", _spied(type(branch).call, seen))
    model.train_step(batch())
    (images,) = seen
    assert images.shape == (2 * COUNT, 32, 32, 3)
    assert np.array_equal(images[:COUNT], images[COUNT:])
    assert not np.array_equal(images[:COUNT], IMAGES)
    _, truth = inputs(model)
    assert [target.shape for target in model.task.targets(truth)] == [(COUNT, CLASSES)]


def _spied(call, seen):
    def spy(self, images, *args, **kwargs):
        seen.append(np.asarray(images))
        return call(self, images, *args, **kwargs)

    return spy


def test_mixed_images_have_all_of_their_classes_as_binary_targets():
    model = submodels(mixup=0.8)
    _, truth = inputs(model)
    goal = model.method.labels.goal(model.task.targets(truth)[0])
    assert set(np.unique(goal)) == {0.0, 1.0}
    assert set(np.sum(goal, axis=1)) == {1.0, 2.0}
    assert np.array_equal(present(tf.constant([[0.9, 0.1, 0.0], [0.0, 1.0, 0.0]])), [[1, 1, 0], [0, 1, 0]])


@pytest.mark.parametrize("kind", [DiCo, Submodels])
def test_smoothing_and_binary_targets_exclude_each_other(kind):
    with pytest.raises(UserError, match="would make every class present in binary targets"):
        submodels(kind=kind, target="binary", label_smoothing=0.1)
    assert submodels(kind=kind, target="softmax", label_smoothing=0.1).settings.label_smoothing == 0.1


def gradients(model) -> list[np.ndarray]:
    return [np.asarray(g) for g in model.learn(inputs(model))[1]]


@pytest.mark.slow
def test_where_nothing_is_dropped_half_the_plain_gradient_is_left():
    ours, plain = submodels(), submodels(kind=DiCo, target="binary")
    for model in (ours, plain):
        for layer in model.branches[0].layers:
            if hasattr(layer, "rate"):
                layer.rate = 0.0
    logits = rows(ours)
    assert np.array_equal(logits[:, 0], logits[:, 1])
    for mine, other in zip(gradients(ours), gradients(plain), strict=True):
        assert mine == pytest.approx(0.5 * other, rel=1e-4, abs=1e-7)


def test_the_labels_alone_make_submodels_strangers_to_one_another():
    """label_weight 1 is the same training without mutual teaching: the mean over two plain copies."""
    model = submodels(label_weight=1.0)
    (_, truth), logits = inputs(model), rows(model)
    want = np.mean([TARGETS["binary"].loss(logits[:, s], truth["targets"][0]) for s in range(2)], axis=0)
    _, _, total = model.method.terms(model.task, logits[:, None], truth, model.epoch)
    assert np.asarray(total) == pytest.approx(want, abs=1e-6)


def test_branches_of_submodels_agree_on_the_means_of_their_answers():
    model = submodels(2, agreement_weight=0.7)
    _, truth = inputs(model)
    logits = tf.stack([rows(model, 0), rows(model, 1)], axis=1)
    losses, agreement, total = model.method.terms(model.task, logits, truth, model.epoch)
    means = tf.reduce_mean(logits, axis=2)
    assert np.asarray(agreement) == pytest.approx(np.asarray(jensen_shannon(means)), abs=1e-6)
    parts = [mutual(logits[:, s], goal) for s, goal in enumerate(truth["targets"])]
    assert np.asarray(losses) == pytest.approx(np.stack([np.mean(p[0], axis=1) for p in parts], 1), abs=1e-6)
    want = sum(np.asarray(p[2]) for p in parts) + 0.7 * np.asarray(agreement)
    assert np.asarray(total) == pytest.approx(want, abs=1e-6)
    assert model.branches[0].get_layer("block1_attention_qkv").kernel.shape[0] < 64  # divided


@pytest.mark.slow
def test_three_submodels_in_two_branches_learn_and_are_scored():
    model = submodels(2, submodels=3, accumulation=2)
    before = [v.numpy() for v in model.branch_variables]
    result = {name: float(value) for name, value in model.train_step(batch()).items()}
    assert result["submodels_apart"] > 1e-3 and np.isfinite(list(result.values())).all()
    moved = [not np.array_equal(a, v.numpy()) for a, v in zip(before, model.branch_variables, strict=True)]
    assert all(moved)


def test_training_rows_say_how_far_submodels_are_apart_and_evaluations_do_not():
    model = submodels()
    model.train_step(batch())
    assert model.results()["submodels_apart"] > 0
    model.reset_metrics()
    assert "submodels_apart" not in model.test_step(batch())
    assert "submodels_apart" not in model.results()
    answers = tf.constant([[[[0.1, 0.9], [0.4, 0.5], [0.1, 0.5]]]])
    logits = tf.math.log(answers / (1 - answers))
    model.method.observe(model.task, logits, {"targets": []})
    assert model.results()["submodels_apart"] == pytest.approx((0.3 + 0.4 + 0.3 + 0 + 0 + 0.4) / 6, abs=1e-6)


@pytest.mark.slow
def test_a_saved_model_goes_on_as_the_original_does(tmp_path):
    model = submodels(mixup=0.3, label_weight=0.4, drop_form="efficient", rate=0.3)
    model.train_step(batch())
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_config() == model.get_config()
    assert type(loaded) is Submodels and loaded.settings.label_weight == 0.4
    assert [layer.form for layer in droppings(loaded.branches[0])] == ["efficient"] * 8
    for goes_on in (model, loaded):
        goes_on.train_step(batch())
    assert all(np.array_equal(a, b) for a, b in zip(model.weights, loaded.weights, strict=True))


def test_models_that_drop_nothing_have_no_submodels():
    with pytest.raises(UserError, match=r"drop_path=0 makes all submodels of method=cosub the same"):
        submodels(rate=0.0)
    with pytest.raises(UserError, match=r"--drop_path=0.5: wrn_tiny drops no residual branches"):
        submodels(model="wrn_tiny")
    with pytest.raises(UserError, match="branch_0 drops no residual branches"):
        submodels(model="wrn_tiny", rate=-1)
    assert submodels(model="se_resnet_tiny", rate=0.2).train_step(batch())["submodels_apart"] >= 0


@pytest.mark.parametrize(
    ("name", "rate", "cause"),
    [
        ("se_resnet_tiny", 0.5, "can only mask residual branches"),
        ("wrn_tiny", -1, "has no residual branches that are dropped"),
        ("vit_tiny", 0.0, "has no residual branches that are dropped"),
    ],
)
def test_the_efficient_form_is_refused_where_nothing_can_be_left_uncomputed(name, rate, cause):
    with pytest.raises(UserError, match=f"drop_form='efficient': {name} {cause}"):
        submodels(kind=DiCo, model=name, rate=rate, drop_form="efficient")


def test_one_submodel_has_no_other():
    with pytest.raises(UserError, match=r"submodels=1 must be at least 2"):
        submodels(submodels=1)
    with pytest.raises(UserError, match=r"label_weight=1.5 must be at least 0 and at most 1"):
        submodels(label_weight=1.5)


@pytest.mark.slow
def test_two_replicas_learn_what_one_does_and_draw_rows_of_their_own():
    command = [sys.executable, "-m", "tests.cotrain.two_replicas"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0 and done.stdout == "alike\n", done.stderr[-3000:]
