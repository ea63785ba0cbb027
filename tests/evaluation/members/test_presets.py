"""Presets with weights from elsewhere, as members."""

import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

from dico_tf.config import from_values
from dico_tf.errors import UserError
from dico_tf.evaluation.members.open_branches import open_branches
from dico_tf.evaluation.members.open_members import open_members
from dico_tf.layers.image_input import Normalisation
from dico_tf.models import timm_names
from dico_tf.models.presets import PRESETS
from tests.files.torch_pickles import write_arrays

CLASSES = 7
HALVES = Normalisation(mean=(0.5,) * 3, std=(0.5,) * 3)


def network(normalisation: Normalisation, size: int = 32) -> keras.Model:
    """vit_tiny of random weights."""
    model, draw = PRESETS["vit_tiny"].build(size, CLASSES, normalisation), np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(draw.normal(variable.numpy().mean(), 0.1, variable.shape))
    return model


def written(model: keras.Model) -> dict[str, np.ndarray]:
    """Under timm's names, as PyTorch lays weights."""
    arrays = {}
    for layer in (layer for layer in model.layers if layer.weights):
        name, values = timm_names.theirs("vit", layer.name), [v.numpy() for v in layer.weights]
        if len(values) == 1:
            arrays[name] = values[0].reshape(1, -1, values[0].shape[-1]) if values[0].ndim == 3 else values[0]  # places
            continue
        turned = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[values[0].ndim]
        arrays[f"{name}.weight"] = np.ascontiguousarray(values[0].transpose(turned))
        arrays[f"{name}.bias"] = values[1]
    return arrays


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = network(HALVES)
    save_file(written(model), "vit.safetensors")
    return model


def test_weights_of_a_file_answer_as_the_network_they_are_of(checkpoint, images):
    (member,) = open_members(["preset:vit_tiny@32?weights=vit.safetensors&pixels=-1..1"], CLASSES)
    assert (member.name, member.kind, member.input_size) == ("vit_tiny@32", "preset", 32)
    expected = checkpoint(images(32).astype("float32"), training=False)
    assert np.std(expected) > 0.1
    np.testing.assert_allclose(member.run(images(32)), expected, atol=1e-5)
    assert member.cost.params == checkpoint.count_params()
    assert member.cost.macs == PRESETS["vit_tiny"].cost(32, CLASSES).macs


def test_a_file_of_pytorch_needs_no_pytorch(checkpoint, images, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    write_arrays(Path("vit.pth"), written(checkpoint))
    (member,) = open_members(["preset:vit_tiny@32?weights=vit.pth&pixels=-1..1"], CLASSES)
    np.testing.assert_allclose(member.run(images(32)), checkpoint(images(32).astype("float32")), atol=1e-5)


@pytest.mark.slow
def test_one_file_is_a_member_at_each_size_and_each_range_of_pixels(checkpoint, images):
    sources = ["small=preset:vit_tiny@32?weights=vit.safetensors", "large=preset:vit_tiny@48?weights=vit.safetensors"]
    small, large = open_members(sources, CLASSES)
    (other,) = open_members(["preset:vit_tiny@32?weights=vit.safetensors&pixels=0..1"], CLASSES)
    assert small.weights == large.weights == other.weights
    assert len({small.checksum, large.checksum, other.checksum}) == 3
    assert large.run(images(48)).shape == (4, CLASSES) and large.cost.macs > 2 * small.cost.macs
    assert not np.allclose(other.run(images(32)), small.run(images(32)), atol=1e-3)


def test_drawn_weights_have_as_many_classes_as_the_data(images):
    (member,) = open_members(["preset:wrn_tiny@16?weights=none"], CLASSES)
    assert member.run(images(16)).shape == (4, CLASSES)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("preset:vit_tinny@32?weights=none", r"unknown model 'vit_tinny'; did you mean vit_tiny"),
        (
            "preset:vit_tiny@32",
            r"presets come without weights: add \?weights=FILE, a .safetensors file or a PyTorch checkpoint",
        ),
        ("preset:vit_tiny@32?weights=gone.pth", r"there is no file gone.pth"),
        ("preset:vit_tiny@32?weights=none&pixels=0..255", r"\?pixels=0..255 must be one of imagenet, -1..1, 0..1"),
        ("preset:x3d_tiny@32?weights=none", r"expected a preset for classification, got x3d_tiny for video"),
        ("preset:vit_tiny@32?alpha=2", r"a member of kind preset has no option 'alpha'"),
    ],
)
def test_what_cannot_be_is_named(source, message):
    with pytest.raises(UserError, match=message):
        open_members([source], CLASSES)


def test_a_file_of_other_classes_or_another_network_is_refused(checkpoint):
    (member,) = open_members(["preset:vit_tiny@32?weights=vit.safetensors"], 3)
    with pytest.raises(UserError, match=r"vit.safetensors: branch 0: logits kernel: expected shape 64x3, got 64x7"):
        _ = member.network
    (member,) = open_members(["preset:wrn_tiny@32?weights=vit.safetensors"], CLASSES)
    with pytest.raises(UserError, match=r"lose the order of layers, which wrn needs"):
        _ = member.network


@pytest.mark.slow
def test_a_plain_transformer_is_a_member_at_its_larger_published_size(images):
    (member,) = open_members(["preset:vit_b_16_plain@384?weights=none&pixels=-1..1"])
    assert member.cost.params == 86_859_496 and member.cost.macs == pytest.approx(55.48e9, rel=3e-3)
    assert np.isfinite(member.run(images(384, count=1))).all()


def test_a_branch_takes_a_checkpoint_of_other_classes(checkpoint):
    opened = open_branches(from_values({"branches": ("preset:vit_tiny@32?weights=vit.safetensors",)}))
    layers = [layer for layer in checkpoint.layers if layer.weights and layer.name != "logits"]
    assert list(opened.arrays[0]) == [layer.name for layer in layers]
    for layer in layers:
        for stored, weight in zip(opened.arrays[0][layer.name], layer.get_weights(), strict=True):
            np.testing.assert_array_equal(stored, weight)
