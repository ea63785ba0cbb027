"""Fine-tuning: frozen backbones, their learning rate and batch statistics."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from dico_tf.config import OptimisationOptions
from dico_tf.cotrain import DiCo
from dico_tf.training import variables
from dico_tf.training.optimizers import SGD, optimizer
from tests.small_network import small_file

ROOT = Path(__file__).parents[2]
DRAW = np.random.default_rng(0)
IMAGES, LABELS = DRAW.integers(0, 256, (32, 8, 8, 3), np.uint8), np.arange(32) % 10
STEP = {"image": IMAGES[:16], "label": LABELS[:16]}


def dico(splits: int = 2, network: str = "", **settings) -> DiCo:
    network = network or small_file()  # which draws weights when it is made
    keras.utils.set_random_seed(0)
    return DiCo(network, splits, classes=10, image_size=8, views="none", **settings)


def values(model: DiCo) -> dict[str, np.ndarray]:
    return variables.values(variables.weights(model))


def moved(model: DiCo, before: dict[str, np.ndarray]) -> set[str]:
    """Return the layers of both branches whose weights changed; random state is left out."""
    changed = {name for name, now in values(model).items() if not np.array_equal(now, before[name])}
    return {name.split("/")[1] for name in changed if not name.endswith("seed_generator_state")}


LAYERS = {f"{kind}_{n}" for kind in ("conv", "norm") for n in range(3)} | {"logits"}


def trained(model: DiCo, kind="sgd", epochs: int = 1, eager: bool = True, **options) -> set[str]:
    """Train for some epochs of two steps by Keras' fit, and return the layers that changed."""
    before = values(model)
    model.compile(kind, run_eagerly=eager)
    model.fit(IMAGES, LABELS, batch_size=16, epochs=epochs, verbose=0, **options)
    return moved(model, before)


# --- what learns


@pytest.mark.parametrize("kind", ["lamb", pytest.param("sgd", marks=pytest.mark.slow)])
def test_of_a_frozen_backbone_no_bit_changes_while_the_heads_learn(kind):
    model = dico(freeze="backbone", clip_norm=1.0, weight_decay=0.1)
    assert len(model.branch_variables) == 4
    options = OptimisationOptions(optimizer=kind, lr=0.1)
    assert trained(model, optimizer(options, 2, 0.1, model.branch_variables, 2)) == {"logits"}


def test_without_freezing_every_layer_learns():
    assert trained(dico()) == LAYERS


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["adamw", "lamb", pytest.param("sgd", marks=pytest.mark.slow)])
def test_a_backbone_is_frozen_for_the_first_epochs_and_learns_then(kind):
    model = dico(freeze="1", clip_norm=1.0, weight_decay=0.1)
    count = len(model.branch_variables)
    options = OptimisationOptions(optimizer=kind, lr=0.1)
    assert trained(model, optimizer(options, 2, 0.1, model.branch_variables, 2)) == {"logits"}
    before = values(model)
    model.fit(IMAGES, LABELS, batch_size=16, initial_epoch=1, epochs=2, verbose=0)
    assert moved(model, before) == LAYERS and len(model.branch_variables) == count


def test_averaged_weights_follow_the_steps_that_were_taken():
    model = dico(1, freeze="1", backbone_lr=0.1)
    model.compile(SGD(0.1, use_ema=True, ema_momentum=0.5), run_eagerly=True)
    states = []
    for epoch in (0, 1, 1):
        model.begin_epoch(epoch)
        model.train_step(STEP)
        states.append(values(model))
    for name, average in variables.averages(model).items():
        first, second, third = (state[name] for state in states)
        expected = 0.5 * (0.5 * first + 0.5 * second) + 0.5 * third
        np.testing.assert_allclose(average.numpy(), expected, atol=1e-6, err_msg=name)


@pytest.mark.slow
def test_one_fit_over_both_phases_switches_at_the_epoch():
    model, states = dico(freeze="2"), []
    callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: states.append(values(model)))
    before = values(model)
    trained(model, epochs=3, eager=False, callbacks=[callback])
    conv = "branch_1/conv_0/kernel"
    assert [np.array_equal(state[conv], before[conv]) for state in states] == [True, True, False]
    assert [
        np.array_equal(state["branch_1/norm_0/moving_mean"], 0 * before["branch_1/norm_0/moving_mean"])
        for state in states
    ] == [True, True, False]


def test_kept_batch_statistics_stay_and_their_scales_learn():
    model = dico(batch_statistics="keep")
    before = values(model)
    assert trained(model) == LAYERS
    now = values(model)
    still = {name for name in now if np.array_equal(now[name], before[name])}
    assert still == {name for name in now if "/moving_" in name} and len(still) == 12


def test_kept_statistics_are_those_that_normalise():
    """The first training loss is that of the network in inference."""
    model = dico(1, batch_statistics="keep", label_smoothing=0.0)
    for norm in (layer for layer in model.branches[0].layers if layer.name.startswith("norm")):
        norm.moving_mean.assign(np.linspace(-1, 1, 16))
    model.compile("sgd")
    expected = keras.losses.sparse_categorical_crossentropy(
        STEP["label"], model(STEP["image"], training=False)[:, 0], from_logits=True
    )
    model.train_step(STEP)
    assert model.results()["loss"] == pytest.approx(float(np.mean(expected)), rel=1e-5)


# --- how far


def steps_of(kind: str, rate: float, **settings) -> dict[str, np.ndarray]:
    """Return how far one step moves each variable; statistics are left out."""
    model = dico(backbone_lr=rate, **settings)
    options = OptimisationOptions(optimizer=kind, lr=0.125, schedule="constant")
    built = optimizer(options, 10, 0.5, model.branch_variables, 2)
    if settings.get("dtype") == "mixed_float16":  # a scale at which nothing overflows or vanishes
        built = keras.optimizers.LossScaleOptimizer(built, initial_scale=1024.0)
    model.compile(built, run_eagerly=True)
    before = values(model)
    model.train_step(STEP)
    return {name: now - before[name] for name, now in values(model).items() if "/moving_" not in name}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "network"),
    [
        ("sgd", {}),
        ("adamw", {}),
        ("lamb", {}),
        pytest.param("adamw", {"network": "wrn_tiny", "dtype": "mixed_bfloat16"}, marks=pytest.mark.slow),
        pytest.param("sgd", {"network": "wrn_tiny", "dtype": "mixed_float16"}, marks=pytest.mark.slow),
    ],
)
def test_a_backbone_moves_by_its_share_of_the_usual_step_decay_included(kind, network):
    usual, tenth = steps_of(kind, 1.0, **network), steps_of(kind, 0.1, **network)
    for name, step in tenth.items():
        factor = 1.0 if "/logits/" in name else 0.1
        np.testing.assert_allclose(step, factor * usual[name], rtol=1e-3, atol=2e-7, err_msg=name)
    assert all(
        np.abs(step).max() > 0 for name, step in tenth.items() if name.endswith(("conv_0/kernel", "stem_conv/kernel"))
    )


def test_a_share_that_is_a_power_of_two_is_exact():
    """Offsets start from 0, so that a step loses no digits in the sum."""
    steps = []
    for rate in (1.0, 0.25):
        model = dico(1, backbone_lr=rate)
        model.compile(SGD(0.5), run_eagerly=True)
        model.train_step(STEP)
        steps.append(values(model)["branch_0/norm_2/beta"])
    assert np.abs(steps[0]).max() > 0 and np.array_equal(0.25 * steps[0], steps[1])


def test_an_optimizer_of_keras_and_one_compiled_twice_are_scaled_once():
    model = dico(1, backbone_lr=0.5)
    adam = keras.optimizers.AdamW(0.125, weight_decay=0.5)
    model.compile(adam, run_eagerly=True)
    model.compile(adam, run_eagerly=True)
    before = values(model)
    model.train_step(STEP)
    steps = {name: now - before[name] for name, now in values(model).items()}
    # The first step of Adam is lr in every direction; AdamW also decays the weight by lr * decay.
    for name, factor in (("branch_0/conv_0/kernel", 0.5), ("branch_0/logits/kernel", 1.0)):
        without = steps[name] + factor * 0.125 * 0.5 * before[name]
        assert np.abs(np.abs(without).max() - factor * 0.125) < 1e-3, name


def test_a_frozen_backbone_does_not_count_in_the_norm_of_the_heads_gradients():
    """With all layers, the clipped gradients of a branch have one norm together; while frozen, the head has its own."""
    norms = []
    for freeze in ("none", "1"):
        model = dico(1, freeze=freeze, clip_norm=1e-3)
        model.compile(SGD(1.0), run_eagerly=True)
        before = values(model)
        model.train_step(STEP)
        heads = [now - before[name] for name, now in values(model).items() if "/logits/" in name]
        norms.append(np.sqrt(sum(np.square(step).sum() for step in heads)))
    assert norms[0] < 0.9e-3 and norms[1] == pytest.approx(1e-3, rel=1e-3)


# --- networks of other tasks and methods


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "settings", "shape", "heads"),
    [
        ("vit_tiny", {"method": "cosub", "image_size": 32}, (32, 32, 3), {"logits"}),
        ("deeplabv3_tiny", {"image_size": 32, "splits": 2}, (32, 32, 3), None),
    ],
)
def test_only_the_heads_learn_of_submodels_and_of_segmentation(network, settings, shape, heads):
    keras.utils.set_random_seed(0)
    model = DiCo(network, classes=3, views="none", freeze="backbone", **settings)
    labels = DRAW.integers(0, 3, (4, 32, 32) if heads is None else 4)
    before = values(model)
    model.compile("sgd")
    model.fit(DRAW.integers(0, 256, (4, *shape), np.uint8), labels, batch_size=4, epochs=1, verbose=0)
    layers = moved(model, before)
    expected = heads or {"aspp", "head", "logits", "auxiliary"}
    assert layers and all(layer.startswith(tuple(expected)) for layer in layers), layers


@pytest.mark.slow
def test_two_replicas_learn_what_one_device_learns_while_frozen_and_after(tmp_path):
    words = ["one,mirrored", str(tmp_path), "freeze='1'", "backbone_lr=0.25", "epochs=2", "clip_norm=0.5"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.three_steps", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = (np.load(tmp_path / f"{how}.npz") for how in ("one", "mirrored"))
    for name in one.files:
        assert np.abs(one[name].astype(np.float64) - two[name]).max() <= 5e-5, name
