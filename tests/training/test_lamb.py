"""LAMB against values of the fused optimizer: clipping, decay and the ratio of norms."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from dico_tf.config import OptimisationOptions
from dico_tf.cotrain import DiCo
from dico_tf.training import variables
from dico_tf.training.lamb import Lamb
from dico_tf.training.optimizers import AdamW, optimizer

ROOT = Path(__file__).parents[2]
W, B = [[0.5, -0.25], [1.0, 0.75]], [0.1, -0.2]
STEPS = (([[0.1, -0.2], [0.3, 0.4]], [0.05, -0.5]), ([[1.0, 2.0], [-3.0, 0.5]], [0.2, 0.1]))
AFTER = (  # of timm's Lamb in float64; the second step's gradient is clipped
    ([0.4979586761862, -0.2479835702822, 0.9979088876632, 0.7479337818420], [0.0970000006, -0.1970000001]),
    ([0.4952557796003, -0.2492442654107, 0.9990637772634, 0.7453738209226], [0.0939967938, -0.1951105968]),
)


def pair() -> list[keras.Variable]:
    return [keras.Variable(np.float32(W), name="kernel"), keras.Variable(np.float32(B), name="bias")]


def gradients(step: int) -> list[np.ndarray]:
    return [np.array(part, np.float32) for part in STEPS[step]]


def flat(variables) -> np.ndarray:
    return np.concatenate([v.numpy().ravel() for v in variables])


def test_two_steps_are_those_of_the_fused_optimizer():
    variables, lamb = pair(), Lamb(3e-3, weight_decay=0.05)
    for step, expected in enumerate(AFTER):
        lamb.apply(gradients(step), variables)
        assert flat(variables) == pytest.approx(np.concatenate(expected), abs=1e-6)


def test_keras_own_lamb_is_another():
    variables, lamb = pair(), keras.optimizers.Lamb(3e-3, weight_decay=0.05, epsilon=1e-8)
    lamb.apply(gradients(0), variables)
    assert np.abs(flat(variables) - np.concatenate(AFTER[0])).max() > 1e-4


def test_each_of_several_networks_is_clipped_by_its_own_norm():
    """Another network with huge gradients changes nothing."""
    variables, lamb = [*pair(), *pair()], Lamb(3e-3, weight_decay=0.05, networks=2)
    for step in range(2):
        lamb.apply([*gradients(step), *(1000.0 * g for g in gradients(step))], variables)
    assert flat(variables[:2]) == pytest.approx(np.concatenate(AFTER[1]), abs=1e-6)


def test_vectors_and_what_does_not_decay_move_without_the_ratio_of_norms():
    """Their first step is lr, whatever their size, as in Adam."""
    names = {"gamma": (3,), "bias": (3,), "positions": (1, 4, 3), "class_token": (1, 1, 3), "kernel": (2, 3)}
    variables = [keras.Variable(100.0 * np.ones(shape, np.float32), name=name) for name, shape in names.items()]
    Lamb(1e-3, weight_decay=0.05, clip=0).apply([np.ones(shape, np.float32) for shape in names.values()], variables)
    moved = {v.name: 100.0 - float(v.numpy().max()) for v in variables}
    assert moved.pop("kernel") == pytest.approx(0.1, rel=1e-3)
    assert list(moved.values()) == pytest.approx([1e-3] * 4, rel=0.02)


def test_without_any_decay_it_is_adam():
    variables, others = pair(), pair()
    Lamb(3e-3, clip=0).apply(gradients(0), variables)
    keras.optimizers.Adam(3e-3, epsilon=1e-8).apply(gradients(0), others)
    assert flat(variables) == pytest.approx(flat(others), abs=1e-7)


@pytest.mark.parametrize("kind", [Lamb, AdamW])
def test_an_optimizer_made_of_its_config_decays_the_same_variables(kind):
    first = kind(0.1, weight_decay=0.5)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(first))
    results = []
    for opt in (first, again):
        variables = pair()
        opt.apply([np.zeros((2, 2), np.float32), np.zeros(2, np.float32)], variables)
        results.append(flat(variables))
    assert results[0] == pytest.approx(results[1], abs=1e-7)
    assert np.array_equal(results[0][4:], np.float32(B)) and not np.allclose(results[0][:4], np.ravel(W))


def _model() -> DiCo:
    keras.utils.set_random_seed(0)
    model = DiCo("wrn_tiny", 2, classes=3, views=("none",), accumulation=2)
    options = OptimisationOptions(optimizer="lamb", lr=3e-3, schedule="constant")
    model.compile(optimizer(options, 10, 0.05, model.branch_variables, networks=2), run_eagerly=True)
    return model


@pytest.mark.slow
def test_branches_train_with_it_and_a_step_goes_on_where_it_was_left():
    draw = np.random.default_rng(0)
    batch = {"image": draw.integers(0, 256, (4, 32, 32, 3), np.uint8), "label": np.arange(4) % 3}
    model, other = _model(), _model()
    assert model.optimizer.networks == 2 and len(model.optimizer._momentums) == len(model.branch_variables)
    model.train_step(batch)
    for kind in (variables.weights, variables.progress):
        variables.assign(kind(other), variables.values(kind(model)), "here")
    for each in (model, other):
        each.train_step(batch)
    assert all(np.array_equal(a.numpy(), b.numpy()) for a, b in zip(model.variables, other.variables, strict=True))


@pytest.mark.slow
def test_two_replicas_clip_and_move_as_one_does_also_with_a_scaled_loss():
    command = [sys.executable, "-m", "tests.training.lamb_on_two_replicas"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
