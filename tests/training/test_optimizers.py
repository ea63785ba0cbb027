"""Learning rates against a table, and update rules against PyTorch."""

import subprocess
import sys

import keras
import numpy as np
import pytest

from dico_tf import DiCo
from dico_tf.config import OPTIMIZERS, OptimisationOptions
from dico_tf.cotrain.gradients import decays, exclude_gammas, with_decay
from dico_tf.formulas.schedules import SCHEDULES
from dico_tf.training.optimizers import SGD, optimizer
from dico_tf.training.schedules import Schedule
from tests.small_network import small_file

N = 390  # steps per epoch


@pytest.mark.parametrize(
    ("epoch", "lr"), [(0, 0.005), (10, 0.0525), (20, 0.1), (160, 0.05), (230, 0.014645), (300, 1e-4)]
)
def test_cosine_with_warmup_is_as_tabled(epoch, lr):
    schedule = Schedule("cosine", 0.1, 300, N, warmup_epochs=20)
    assert float(schedule(epoch * N)) == pytest.approx(lr, abs=1e-6)


FLOOR = Schedule("cosine_floor", 3e-3, 800, N, warmup_epochs=5, warmup_lr=1e-6, min_lr=1e-5)


@pytest.mark.parametrize(
    ("epoch", "lr"),
    [(0, 1e-6), (1, 6.008e-4), (4, 2.4002e-3), (5, 2.99971e-3), (400, 1.505e-3), (799, 1.00115e-5), (800, 1e-5)],
)
def test_cosine_floor_is_as_timm_computes_it_at_the_first_step_of_an_epoch(epoch, lr):
    assert float(FLOOR(epoch * N)) == pytest.approx(lr, rel=1e-5)


def test_cosine_floor_changes_with_every_step_and_repeats_no_epoch():
    """The official code has the first rate for two epochs; here it rises from the first step."""
    rates = [float(FLOOR(step)) for step in range(0, 6 * N, N // 3)]
    assert np.diff(rates[:15]).min() > 1.9e-4 and np.ptp(rates[15:]) < 1e-6
    assert float(FLOOR(5 * N - 1)) < 3e-3 and float(FLOOR(801 * N)) == pytest.approx(1e-5)


def test_cosine_without_warmup_starts_at_its_height():
    schedule = Schedule("cosine", 0.1, 10, N)
    assert [float(schedule(e * N)) for e in (0, 5, 10)] == pytest.approx([0.1, 0.05, 1e-4], abs=1e-6)


def test_the_published_none_starts_one_epoch_in():
    schedule = Schedule("cosine", 0.2, 1800, N, warmup_epochs=-1)
    expected = [0.1 * (1 + np.cos(np.pi * (e + 1) / 1801)) for e in (0, 900, 1700)]
    assert [float(schedule(e * N)) for e in (0, 900, 1700)] == pytest.approx(expected, rel=1e-5)


def test_steps_fall_at_their_epochs():
    schedule = Schedule("step", 0.1, 100, N, step_epochs=(30, 60), step_factor=0.2)
    rates = [float(schedule(step)) for step in (0, 30 * N - 1, 30 * N, 60 * N)]
    assert rates == pytest.approx([0.1, 0.1, 0.02, 0.004])


def test_poly_is_as_published():
    schedule = Schedule("poly", 0.007, 30, 1000)
    assert [float(schedule(step)) for step in (0, 15_000, 30_000)] == pytest.approx([0.007, 0.0037512, 0], abs=5e-8)
    warm = Schedule("poly", 0.1, 10, N, warmup_epochs=1, poly_power=1)
    assert [float(warm(e * N)) for e in (0, 1, 5.5)] == pytest.approx([0.005, 0.1, 0.05], rel=1e-5)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_is_the_same_in_numpy_and_in_keras(name):
    schedule, steps = Schedule(name, 0.1, 10, N, warmup_epochs=1), np.linspace(N + 1, 11 * N, 50, dtype=np.float32)
    expected = SCHEDULES[name](np, schedule, steps)
    assert np.allclose(schedule(keras.ops.convert_to_tensor(steps)), expected, rtol=1e-5, atol=1e-7)
    assert (expected >= 0).all() and (expected <= 0.1 + 1e-7).all()


def test_a_schedule_survives_its_config():
    schedule = Schedule("step", 0.1, 100, N, warmup_epochs=5, step_epochs=(30,))
    again = Schedule.from_config(schedule.get_config())
    assert [float(again(s)) for s in (0, 1000, 20000)] == [float(schedule(s)) for s in (0, 1000, 20000)]


def _steps(nesterov: bool, rates: list[float]) -> float:
    """Return the steps for w = 1, gradient 1, decay 0.1 and momentum 0.9, which differ for the three kinds of decay."""
    w = keras.Variable(1.0, name="kernel")
    sgd = SGD(0.1, momentum=0.9, nesterov=nesterov)
    sgd.build([w])
    for rate in rates:
        sgd.learning_rate = rate
        sgd.apply(with_decay([keras.ops.ones(())], [w], 0.1, [True]))
    return float(w)


def test_coupled_decay_is_pytorchs_and_not_keras():
    assert _steps(False, [0.1] * 5) == pytest.approx(-0.4120, abs=5e-5)


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_does_not_remember_old_learning_rates(nesterov):
    rates, w, v = [0.1, 0.1, 0.01, 0.05], 1.0, 0.0
    for rate in rates:
        g = 1 + 0.1 * w
        v = 0.9 * v + g
        w -= rate * (g + 0.9 * v if nesterov else v)
    assert _steps(nesterov, rates) == pytest.approx(w, abs=1e-6)


def test_biases_and_offsets_do_not_decay():
    layers = [keras.layers.Dense(2), keras.layers.BatchNormalization()]
    for layer in layers:
        layer.build((None, 3))
    names = [(v.name, decays(v)) for layer in layers for v in layer.trainable_variables]
    assert names == [("kernel", True), ("bias", False), ("gamma", True), ("beta", False)]


def test_scales_of_layer_normalisation_do_not_decay_in_a_branch():
    image = keras.Input((4, 4, 3))
    x = keras.layers.BatchNormalization(name="batch")(keras.layers.LayerNormalization(name="layer")(image))
    inner = keras.Model(image, keras.layers.LayerNormalization(name="inner")(x), name="nested")
    network = keras.Model(image, keras.layers.Dense(2, name="dense")(inner(image)))
    exclude_gammas(network)
    result = {variable.path for variable in network.trainable_variables if decays(variable)}
    assert result == {"batch/gamma", "dense/kernel"}


def test_adamw_decays_kernels_only():
    kernel, bias = keras.Variable([1.0], name="kernel"), keras.Variable([1.0], name="bias")
    options = OptimisationOptions(optimizer="adamw", lr=0.1, schedule="constant")
    adamw = optimizer(options, 10, weight_decay=0.5, variables=[kernel, bias])
    adamw.apply([keras.ops.zeros((1,)), keras.ops.zeros((1,))], [kernel, bias])
    assert float(kernel[0]) == pytest.approx(0.95) and float(bias[0]) == 1.0


@pytest.mark.slow
def test_a_model_of_any_optimizer_loads_once_dico_is_imported(tmp_path):
    code = """
import sys
import keras
from dico_tf import DiCo
for path in sys.argv[1:]:
    print(type(keras.saving.load_model(path).optimizer).__name__)
"""
    paths, names = [], []
    for name in OPTIMIZERS:
        model = DiCo(small_file(), splits=1, classes=10)
        built = optimizer(OptimisationOptions(optimizer=name), 10, 1e-4, model.trainable_variables)
        model.compile(built)
        model.fit(np.zeros((2, 32, 32, 3), np.float32), np.zeros(2, np.int64), verbose=0)
        paths.append(str(tmp_path / f"{name}.keras"))
        names.append(type(built).__name__)
        model.save(paths[-1])
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == names and len(set(names)) == len(OPTIMIZERS)
