"""DiCo as a Keras model: fit, evaluate, predict, save and load."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from dico_tf.cotrain import DiCo
from dico_tf.cotrain.batch import Batch, unpack
from dico_tf.cotrain.losses import cross_entropy, jensen_shannon, kullback_leibler, smooth
from dico_tf.cotrain.scores import COMPARED
from dico_tf.errors import UserError
from tests.small_network import small_file

CLASSES, COUNT = 5, 8
_DRAW = np.random.default_rng(0)
IMAGES = _DRAW.integers(0, 256, (COUNT, 32, 32, 3), np.uint8)
LABELS = np.arange(COUNT) % CLASSES
AUGMENTED = {"views": ("crop+flip",), "mixup": 0.2, "agreement_weight": 1.0, "seed": 3}


def awake(model) -> None:
    """Set weights that make logits differ: in new networks last gammas are zero and heads are small."""
    for variable in model.branch_variables:
        if variable.name == "gamma":
            variable.assign(np.ones(variable.shape))
        elif variable.path.endswith("logits/kernel"):
            variable.assign(30.0 * variable.numpy())


def dico(name: str = "", splits: int = 2, optimizer=None, eager: bool = True, **settings) -> DiCo:
    network = name or small_file()  # before the seed, as the file is written with random weights
    keras.utils.set_random_seed(0)
    model = DiCo(network, splits, classes=CLASSES, **{"views": ("none",), **settings})
    awake(model)
    model.compile(optimizer or keras.optimizers.SGD(0.1, momentum=0.9), run_eagerly=eager)
    if not model.optimizer.built:
        model.optimizer.build(model.branch_variables)
    return model


def batch(order=slice(None)) -> dict[str, tf.Tensor]:
    parts = {"image": IMAGES[order], "label": LABELS[order], "index": np.arange(COUNT)[order]}
    return {name: tf.constant(part) for name, part in parts.items()}


def step(model, data=None) -> dict[str, float]:
    model.reset_metrics()
    return {n: float(v) for n, v in model.train_step(batch() if data is None else data).items()}


def held(model, branch: int | None = None) -> list[np.ndarray]:
    """Return the trainable weights of one branch, or of all."""
    variables = model.branch_variables if branch is None else model.branches[branch].trainable_variables
    return [v.numpy() for v in variables]


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return len(one) == len(other) and all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def move(before: list[np.ndarray], after: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([(b - a).ravel() for a, b in zip(before, after, strict=True)])


@pytest.mark.parametrize(("name", "splits"), [("wrn_tiny", 1), ("resnet_tiny", 2)])
def test_predict_gives_float32_logits_of_every_branch(name, splits):
    logits = dico(name, splits, eager=False).predict(IMAGES, batch_size=4, verbose=0)
    assert (logits.dtype, logits.shape) == (np.float32, (COUNT, splits, CLASSES))


@pytest.mark.slow
def test_a_saved_model_answers_and_goes_on_training_as_the_original_does(tmp_path):
    model = dico(eager=False, **AUGMENTED)
    data = {"batch_size": 4, "shuffle": False, "verbose": 0}
    history = model.fit(IMAGES, LABELS, epochs=2, **data).history
    names = {"loss", "agreement", "ensemble_accuracy", "branch_0_loss", "branch_1_loss", "branch_0_accuracy"}
    names |= {"branch_1_accuracy", *(f"ensemble_{a}_accuracy" for a in COMPARED)}
    assert set(history) == names and len(history["loss"]) == 2
    assert np.isfinite(list(history.values())).all()
    assert [int(c) for c in (model.epoch, model.step, model.seen)] == [1, 4, COUNT]

    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert [int(c) for c in (loaded.epoch, loaded.step, loaded.seen)] == [1, 4, COUNT]
    assert loaded.get_config() == model.get_config()
    assert np.array_equal(loaded.predict_on_batch(IMAGES), model.predict_on_batch(IMAGES))
    result = model.evaluate(IMAGES, LABELS, verbose=0, return_dict=True)
    assert set(result) == names

    for goes_on in (model, loaded):
        goes_on.fit(IMAGES, LABELS, initial_epoch=2, epochs=3, **data)
    assert int(loaded.step) == 6
    assert same([v.numpy() for v in model.weights], [v.numpy() for v in loaded.weights])
    assert same([v.numpy() for v in model.optimizer.variables], [v.numpy() for v in loaded.optimizer.variables])


@pytest.mark.slow
def test_plain_fit_numbers_images_by_position():
    numbered = {"image": IMAGES, "label": LABELS, "index": np.arange(COUNT)}
    sets = [tf.data.Dataset.from_tensor_slices(x).batch(4) for x in (numbered, (IMAGES, LABELS))]
    result = []
    for data in [(IMAGES, LABELS), *((x,) for x in sets)]:
        model = dico(splits=1, **AUGMENTED)
        options = {"batch_size": 4, "shuffle": False} if len(data) == 2 else {}
        model.fit(*data, epochs=2, verbose=0, **options)
        result.append(held(model))
    assert same(result[0], result[1]) and same(result[0], result[2])


def test_labels_of_one_column_are_taken_as_keras_datasets_deliver_them():
    one, other = dico(splits=1), dico(splits=1)
    step(one, (tf.constant(IMAGES), tf.constant(LABELS)))
    step(other, (tf.constant(IMAGES), tf.constant(LABELS[:, None])))
    assert same(held(one), held(other))


@pytest.mark.parametrize(("training", "same_views"), [("together", False), ("together", True), ("independent", False)])
def test_every_branch_gets_its_own_view_and_same_views_gives_one(training, same_views):
    model = dico(views=("crop+flip",), same_views=same_views, training=training)
    for target, source in zip(model.branches[1].weights, model.branches[0].weights, strict=True):
        target.assign(source)
    result = step(model)
    assert (result["branch_0_loss"] == result["branch_1_loss"]) is same_views
    if training == "together":
        assert (abs(result["agreement"]) < 1e-6) is same_views


def test_a_view_does_not_depend_on_what_else_is_in_the_batch():
    model = dico(views=("crop+flip", "crop+cutout"))
    index, epoch = tf.range(COUNT, dtype=tf.int64), tf.constant(1, tf.int64)
    whole = model.views(IMAGES, index, epoch)
    order = [6, 1, 3]
    for view, part in zip(whole, model.views(IMAGES[order], tf.gather(index, order), epoch), strict=True):
        assert np.array_equal(view.numpy()[order], part.numpy())
    assert not np.array_equal(whole[0], whole[1])
    assert not np.array_equal(whole[0], model.views(IMAGES, index, epoch + 1)[0])


@pytest.mark.parametrize(("kind", "divergence"), [("js", jensen_shannon), ("kl", kullback_leibler)])
def test_the_loss_is_the_sum_of_the_branches_and_their_weighted_agreement(kind, divergence):
    model = dico(agreement=kind, agreement_weight=0.7, label_smoothing=0.1)
    logits = model(IMAGES, training=True)
    goal = smooth(tf.one_hot(LABELS, CLASSES), 0.1)
    losses = [float(tf.reduce_mean(cross_entropy(logits[:, s], goal))) for s in range(2)]
    agreement = float(tf.reduce_mean(divergence(logits)))
    result = step(model)
    assert agreement > 1e-3
    assert result["agreement"] == pytest.approx(agreement, rel=1e-4)
    assert [result["branch_0_loss"], result["branch_1_loss"]] == pytest.approx(losses, rel=1e-5)
    assert result["loss"] == pytest.approx(sum(losses) + 0.7 * agreement, rel=1e-5)


def test_the_agreement_weight_grows_with_the_epoch():
    result = []
    for epoch in (0, 2, 4):
        model = dico(agreement_weight=0.8, agreement_warmup_epochs=4)
        model.begin_epoch(epoch)
        values = step(model)
        result.append((values["loss"] - values["branch_0_loss"] - values["branch_1_loss"]) / values["agreement"])
    assert result == pytest.approx([0.005, 0.4, 0.8], rel=1e-2)


@pytest.mark.parametrize("settings", [{"agreement": "none"}, {"splits": 1}, {"training": "independent"}])
def test_without_anything_to_agree_on_the_agreement_is_0(settings):
    model = dico(**settings)
    result = step(model)
    assert result["agreement"] == 0
    assert result["loss"] == pytest.approx(sum(result[f"branch_{s}_loss"] for s in range(model.splits)), rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("training", ["together", "independent"])
def test_independent_branches_do_not_learn_from_each_other(training):
    result = []
    for shift in (0.0, 0.5):
        model = dico(training=training, **AUGMENTED)
        kernel = model.branches[1].get_layer("logits").kernel
        kernel.assign_add(shift * np.eye(*kernel.shape))
        for _ in range(2):
            step(model)
        result.append(held(model, 0))
    assert same(*result) is (training == "independent")


@pytest.mark.slow
def test_independent_branches_take_an_order_each():
    orders = np.stack([np.arange(COUNT), np.arange(COUNT)[::-1]], axis=1)
    settings = {"training": "independent", "clip_norm": 0.5, "weight_decay": 1e-3, **AUGMENTED}
    own = dico(**settings)
    step(own, batch(orders))
    assert "ensemble_accuracy" in own.get_metrics_result()
    for s in range(2):
        alone = dico(**settings)
        step(alone, batch(orders[:, s]))
        assert same(held(own, s), held(alone, s))


def test_an_order_each_needs_numbers_and_independent_training():
    orders = np.stack([np.arange(COUNT), np.arange(COUNT)[::-1]], axis=1)
    data = batch(orders)
    with pytest.raises(UserError, match="training='independent'"):
        step(dico(), data)
    with pytest.raises(UserError, match=r"index \[B, S\]"):
        step(dico(training="independent"), {"image": data["image"], "label": data["label"]})


@pytest.mark.slow
@pytest.mark.parametrize("eager", [True, False])
def test_single_batches_count_on(eager):
    model = dico(splits=1, eager=eager, **AUGMENTED)
    for part in (slice(0, 4), slice(4, 8)):
        result = model.train_on_batch(IMAGES[part], LABELS[part], return_dict=True)
    assert np.isfinite(result["loss"]) and int(model.seen) == COUNT
    whole = dico(splits=1, **AUGMENTED)
    whole.fit(IMAGES, LABELS, batch_size=4, shuffle=False, verbose=0)
    np.testing.assert_allclose(move(held(model), held(whole)), 0, atol=1e-4)
    assert np.isfinite(model.test_on_batch(IMAGES, LABELS)).all()


def test_a_batch_may_pass_in_pieces():
    halves = {n: tf.concat([x, x], 0) for n, x in batch(slice(0, 4)).items()}
    result = []
    for pieces in (1, 2):
        model = dico(accumulation=pieces, weight_decay=1e-2)
        values = step(model, halves)
        result.append((values["loss"], np.concatenate([w.ravel() for w in held(model)])))
    assert result[0][0] == pytest.approx(result[1][0], rel=1e-5)
    assert np.abs(result[0][1] - result[1][1]).max() < 1e-5
    with pytest.raises(UserError, match="cannot be divided into 3 equal pieces"):
        step(dico(accumulation=3))


def test_each_branch_is_clipped_by_itself():
    def moves(clip_norm: float) -> list[np.ndarray]:
        model = dico(optimizer=keras.optimizers.SGD(1.0), clip_norm=clip_norm, agreement="none")
        head = model.branches[1].get_layer("logits")
        head.kernel.assign(1e-2 * head.kernel)
        before = [held(model, s) for s in range(2)]
        step(model)
        return [move(before[s], held(model, s)) for s in range(2)]

    free = moves(0.0)
    large, small = (float(np.linalg.norm(m)) for m in free)
    limit = (large * small) ** 0.5
    assert large > 1.2 * small
    clipped = moves(limit)
    assert np.linalg.norm(clipped[0]) <= limit + 1e-5
    np.testing.assert_allclose(clipped[0], free[0] * limit / large, atol=1e-5)
    np.testing.assert_allclose(clipped[1], free[1], atol=1e-5)


def test_weight_decay_pulls_at_kernels_and_gammas_only_and_is_not_clipped():
    without, decayed = (
        dico(optimizer=keras.optimizers.SGD(1.0), clip_norm=0.1, weight_decay=decay) for decay in (0.0, 0.1)
    )
    for model in (without, decayed):
        for variable in model.branch_variables:
            if variable.name in ("bias", "beta"):
                variable.assign(np.full(variable.shape, 0.5))  # zero, as they start, feels no pull
        before = held(model)
        step(model)
    kinds = set()
    for start, plain, pulled, variable in zip(
        before, held(without), held(decayed), without.branch_variables, strict=True
    ):
        kinds.add(variable.name)
        pull = 0.1 if variable.name in ("kernel", "gamma") else 0.0
        np.testing.assert_allclose(pulled, plain - pull * start, atol=2e-5, err_msg=variable.path)
    assert kinds == {"kernel", "gamma", "bias", "beta"}


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains_and_answers_in_float32(precision):
    model = dico("wrn_tiny", dtype=precision, clip_norm=1.0, weight_decay=1e-3)
    assert keras.config.dtype_policy().name == "float32"
    assert model.branches[0].get_layer("stem_conv").compute_dtype == precision.removeprefix("mixed_")
    before = held(model)
    assert np.isfinite(list(step(model).values())).all()
    assert np.isfinite(np.concatenate([w.ravel() for w in held(model)])).all()
    assert np.linalg.norm(move(before, held(model))) > 1e-3
    logits = model(IMAGES)
    assert logits.dtype == "float32" and logits.shape == (COUNT, 2, CLASSES)


def test_loss_and_metrics_of_others_are_refused():
    model = dico(splits=1)
    for option in ({"loss": "mse"}, {"metrics": ["accuracy"]}, {"loss_weights": [1.0]}):
        with pytest.raises(UserError, match=f"leave out {next(iter(option))}"):
            model.compile("sgd", **option)


@pytest.mark.parametrize("eager", [True, False])
def test_data_that_co_training_cannot_use_are_refused(eager):
    model = dico(splits=1, eager=eager)
    options = {"batch_size": 4, "verbose": 0}
    with pytest.raises(UserError, match="does not support sample weights"):
        model.fit(IMAGES, LABELS, sample_weight=np.ones(COUNT), **options)
    with pytest.raises(UserError, match="take the argmax of one-hot labels"):
        model.fit(IMAGES, np.eye(CLASSES)[LABELS], **options)
    with pytest.raises(UserError, match="labels are missing"):
        model.fit(IMAGES, **options)


def test_labels_of_another_shape_are_refused_with_their_shape():
    clips = np.zeros((2, 4, 8, 8, 3), np.float32)
    with pytest.raises(UserError, match=r"got labels of shape \(2, 10\) and no index"):
        unpack((clips, np.eye(10)[:2]))
    with pytest.raises(UserError, match=r"labels of shape \(2, 3\) and index of shape \(2,\)"):
        unpack({"image": clips, "label": np.zeros((2, 3)), "index": np.arange(2)})
    own = unpack({"image": clips[:, :2], "label": np.zeros((2, 2)), "index": np.zeros((2, 2))})
    assert not own.shared and unpack((clips, np.zeros(2))).shared


def test_branches_share_images_with_masks():
    masks = tf.zeros((2, 8, 8), tf.int32)
    assert Batch(tf.zeros((2, 8, 8, 3)), masks, None).shared


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"agreement": "jss"}, "agreement must be one of js, kl, none, got 'jss'"),
        ({"average": "logit"}, "got 'logit'"),
        ({"training": "independant"}, "got 'independant'"),
        ({"model": "wrn_tinny"}, "unknown model 'wrn_tinny'; did you mean wrn_tiny"),
        ({"views": ("crop+flop",)}, "flip"),
        ({"views": ("flip", "crop", "none")}, "3"),
    ],
)
def test_an_unknown_choice_has_a_suggestion(settings, message):
    with pytest.raises(UserError) as refused:
        DiCo(**{"model": "wrn_tiny", "splits": 2, "classes": CLASSES, **settings})
    assert message in str(refused.value)


@pytest.mark.parametrize("synchronized", [True, False])
def test_sync_batch_norm_sets_every_layer(synchronized):
    model = dico(sync_batch_norm=synchronized)
    layers = [layer for branch in model.branches for layer in branch.layers]
    norms = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert len(norms) == 6 and all(norm.synchronized is synchronized for norm in norms)


def test_label_smoothing_is_for_training_only():
    plain, smoothed = dico(), dico(label_smoothing=0.3)
    evaluated = [m.evaluate(IMAGES, LABELS, verbose=0, return_dict=True) for m in (plain, smoothed)]
    assert evaluated[0] == evaluated[1]
    assert abs(step(plain)["loss"] - step(smoothed)["loss"]) > 1e-3
