"""EfficientNets of one shape that pad and normalise differently: each checkpoint becomes the network it is of."""

import itertools
import logging

import keras
import numpy as np
import pytest

from dico_tf.cotrain.dico import DiCo
from dico_tf.errors import UserError
from dico_tf.evaluation.members.open_members import open_members
from dico_tf.models import torch_weights
from dico_tf.models.presets import PRESETS, find
from tests.files.torch_pickles import write_arrays

CLASSES, SIZE = 7, 66
_OFFICIAL = {
    "stem_conv": "_conv_stem", "stem_norm": "_bn0", "head_conv": "_conv_head", "head_norm": "_bn1", "logits": "_fc",
    "expand_conv": "_expand_conv", "expand_norm": "_bn0", "depthwise_conv": "_depthwise_conv",
    "depthwise_norm": "_bn1", "se_reduce": "_se_reduce", "se_expand": "_se_expand", "project_conv": "_project_conv",
    "project_norm": "_bn2",
}  # fmt: skip
_PARTS = {
    "kernel": "weight", "bias": "bias", "gamma": "weight", "beta": "bias", "moving_mean": "running_mean",
    "moving_variance": "running_var",
}  # fmt: skip
SYMMETRIC = {"_conv_stem": "mod1.conv", "_blocks.0": "mod2.block1"}  # enough to tell it by


def images(size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (2, size, size, 3)).astype(np.uint8)


def drawn(model: keras.Model) -> keras.Model:
    """The model with drawn weights and statistics; variances so small that another epsilon shows."""
    draw = np.random.default_rng(0)
    for variable in model.weights:
        if variable.name in ("gamma", "moving_variance"):
            variable.assign(draw.uniform(0.005, 0.02, variable.shape) ** (0.5 if variable.name == "gamma" else 1))
        elif variable.name != "seed_generator_state":
            variable.assign(draw.normal(0, 0.3, variable.shape))
    return model


def state_dict(model: keras.Model, renamed: dict[str, str] | None = None) -> dict[str, np.ndarray]:
    """The weights as PyTorch lays them, under the names of the paper's ImageNet networks."""
    arrays, blocks = {}, itertools.count()
    block, place = "", -1
    for layer in (layer for layer in model.layers if layer.weights):
        name = layer.name
        if name.startswith("group"):
            here, _, name = name.partition("_block")[0] + name.partition("_block")[2][:1], None, name.split("_", 2)[2]
            block, place = here, next(blocks) if here != block else place
        name = (f"_blocks.{place}." if layer.name.startswith("group") else "") + _OFFICIAL[name]
        for old, new in (renamed or {}).items():
            name = name.replace(old, new, 1) if name.startswith(old) else name
        for variable in layer.weights:
            value = variable.numpy()
            turned = {4: (2, 3, 0, 1) if "depthwise" in layer.name else (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[value.ndim]
            arrays[f"{name}.{_PARTS[variable.name]}"] = value.transpose(turned)
    return arrays


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """Write a state dict: preset and new names -> the network."""
    monkeypatch.chdir(tmp_path)

    def write(preset: str, renamed: dict[str, str] | None = None) -> keras.Model:
        model = drawn(PRESETS[preset].build(SIZE, CLASSES))
        write_arrays(tmp_path / "drawn.pth", state_dict(model, renamed))
        return model

    return write


@pytest.mark.slow
def test_a_member_is_built_in_the_form_that_the_names_of_its_weights_tell(checkpoint):
    for form, renamed in (("tf_", None), ("", SYMMETRIC)):
        model = checkpoint(f"{form}efficientnet_tiny", renamed)
        (member,) = open_members([f"preset:efficientnet_tiny@{SIZE}?weights=drawn.pth"], CLASSES)
        logits = model(images(), training=False).numpy()
        np.testing.assert_allclose(member.run(images()), logits, atol=1e-5 * np.abs(logits).max())
        assert member.settings["network"] == f"{form}efficientnet_tiny"
        other = PRESETS["tf_efficientnet_tiny" if not form else "efficientnet_tiny"].build(SIZE, CLASSES)
        other.set_weights(model.get_weights()[: len(other.weights)])
        assert np.abs(other(images()) - logits).max() > 0.05 * np.abs(logits).max()


@pytest.mark.slow
def test_a_run_that_is_built_otherwise_refuses_the_weights_and_names_its_model(checkpoint):
    checkpoint("tf_efficientnet_tiny")
    model = DiCo("efficientnet_tiny", 1, classes=CLASSES, image_size=SIZE)
    before = [variable.numpy() for variable in model.branches[0].weights]
    with pytest.raises(
        UserError, match=r"drawn.pth: expected a checkpoint of efficientnet_tiny, .* tf_efficientnet_tiny"
    ):
        torch_weights.load(model, "drawn.pth")
    assert all(map(np.array_equal, before, [variable.numpy() for variable in model.branches[0].weights]))
    fitting = DiCo("tf_efficientnet_tiny", 1, classes=CLASSES, image_size=SIZE)
    assert torch_weights.load(fitting, "drawn.pth").fresh == []
    checkpoint("efficientnet_tiny", SYMMETRIC)
    with pytest.raises(UserError, match=r"expected a checkpoint of tf_efficientnet_tiny, got .* of efficientnet_tiny"):
        torch_weights.load(fitting, "drawn.pth")


@pytest.mark.slow
def test_names_that_two_forms_share_need_the_form(checkpoint):
    timm = {"_conv_stem": "conv_stem", "_blocks.": "blocks.0."}
    model = checkpoint("torch_efficientnet_tiny", timm)
    with pytest.raises(
        UserError, match=r"of tf_efficientnet_tiny and torch_efficientnet_tiny.* give as the model the one"
    ):
        open_members([f"preset:efficientnet_tiny@{SIZE}?weights=drawn.pth"], CLASSES)
    (member,) = open_members([f"preset:torch_efficientnet_tiny@{SIZE}?weights=drawn.pth"], CLASSES)
    logits = model(images(), training=False).numpy()
    np.testing.assert_allclose(member.run(images()), logits, atol=1e-5 * np.abs(logits).max())


def test_strides_for_cifar_are_warned_of_where_weights_are_loaded(checkpoint, caplog):
    checkpoint("efficientnet_tiny", SYMMETRIC)
    with caplog.at_level(logging.WARNING):
        torch_weights.load(DiCo("efficientnet_tiny", 1, classes=CLASSES, image_size=SIZE), "drawn.pth")
        assert not caplog.records
        torch_weights.load(DiCo("efficientnet_tiny", 1, classes=CLASSES, image_size=64), "drawn.pth")
    assert "at 64 pixels efficientnet_tiny is built with the strides for CIFAR" in caplog.text
    assert "give an image size above 64" in caplog.text


@pytest.mark.slow
def test_forms_cost_alike_and_keep_imagenet_strides_on_small_images():
    for form in ("tf_", "torch_"):
        other, ours = PRESETS[f"{form}efficientnet_tiny"], PRESETS["efficientnet_tiny"]
        assert other.name not in list(PRESETS) and find(other.reference) is other
        assert other.cost(96, 10) == ours.cost(96, 10)
        assert other.layout(64) == other.divided(2).layout(64) == "imagenet" and ours.layout(64) == "cifar"
        assert other.divided(2).spec.padding == other.spec.padding
        assert other.build(64, 10).get_layer("head_conv").output.shape[1:3] == (2, 2)


@pytest.mark.slow
def test_the_padded_form_is_the_efficientnet_of_keras():
    theirs = drawn(keras.applications.EfficientNetB0(weights=None, input_shape=(80, 80, 3), classes=CLASSES,
                                                     classifier_activation=None))  # fmt: skip
    ours = PRESETS["tf_efficientnet_b0"].build(80, CLASSES)
    layers = [layer for layer in theirs.layers if layer.weights and layer.name != "normalization"]
    for layer, other in zip((layer for layer in ours.layers if layer.weights), layers, strict=True):
        layer.set_weights(other.get_weights())
    statistics = next(layer for layer in theirs.layers if layer.name == "normalization")
    inner = keras.Model(statistics.output, theirs.output)
    normalised = (images(80) / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    expected = inner(normalised.astype(np.float32)).numpy()
    np.testing.assert_allclose(ours(images(80)), expected, atol=1e-4 * np.abs(expected).max())


TORCH = [("timm", "tf_efficientnet_b0", "tf_"), ("timm", "efficientnet_b0", "torch_"),
         ("timm", "tf_efficientnet_lite0", "tf_"), ("timm", "efficientnet_lite0", "torch_"),
         ("torchvision", "efficientnet_b0", "torch_"), ("torchvision", "efficientnet_b5", "")]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("library", "name", "form"), TORCH)
def test_networks_of_timm_and_torchvision_give_the_same_logits(library, name, form, tmp_path):
    torch = pytest.importorskip("torch")
    from tests.models.timm_oracle import timm
    from tests.models.torch_networks.parts import shuffled

    timm = timm()
    if library == "timm":
        network = timm.create_model(name, num_classes=CLASSES)
    else:
        import torchvision

        network = getattr(torchvision.models, name)(num_classes=CLASSES)
    network = shuffled(network, 0)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # so small that another epsilon shows
            module.running_var *= 0.01
            module.weight.data *= 0.1
    torch.save(network.state_dict(), tmp_path / "drawn.pth")
    spelt = name.removeprefix("tf_") if library == "torchvision" else form + name.removeprefix("tf_")
    (member,) = open_members([f"preset:{spelt}@{SIZE}?weights={tmp_path}/drawn.pth&pixels=imagenet"], CLASSES)
    assert member.settings["network"] == form + name.removeprefix("tf_")
    pixels = torch.from_numpy(images().transpose(0, 3, 1, 2).astype(np.float32))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        expected = network((pixels / 255 - mean) / std).numpy()
    np.testing.assert_allclose(member.run(images()), expected, atol=1e-4 * np.abs(expected).max())
