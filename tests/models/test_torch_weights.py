"""Checkpoints of PyTorch networks, carried into ours: the same logits, or one clear message."""

import argparse

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from dico_tf.cotrain.dico import DiCo  # noqa: E402
from dico_tf.errors import UserError  # noqa: E402
from dico_tf.models import efficientnet, resnet, resnexst, resnext, se_resnet, shake_shake, torch_weights, wrn  # noqa: E402
from dico_tf.models.preset import Preset  # noqa: E402
from dico_tf.models.presets import PRESETS  # noqa: E402
from dico_tf.training import build  # noqa: E402
from tests.models.torch_networks import residual, shake  # noqa: E402
from tests.models.torch_networks.counterparts import KNOWN, counterpart  # noqa: E402
from tests.models.torch_networks.parts import Divided, Normalised, Registration, shuffled  # noqa: E402

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HOWS = [Registration("after", "downsample"), Registration("before", "shortcut"), Registration("before", "side")]


def _small(name: str, family, **spec) -> Preset:
    return Preset(name=name, family=family.FAMILY, spec=family.Spec(**spec))


PRESETS_HERE = [
    *(preset for preset in PRESETS.values() if preset.tiny and preset.family_name in KNOWN),
    _small("resnet_with_identities", resnet, blocks=(2, 2, 2)),
    _small("resnet_of_four_stages", resnet, blocks=(1, 2, 1, 1), width=64),
    _small("resnet_plain", resnet, blocks=(1, 2, 1, 1), width=64, plain=True),
    _small("wrn_50", wrn, depth=50, width=2, stem=8),
    _small("resnext_of_four_stages", resnext, blocks=(2, 1, 1, 1), groups=4, base_width=16, width=16),
    _small("se_resnet_of_four_stages", se_resnet, blocks=(1, 1, 1, 1), width=64, dropout=0.2),
    _small("se_resnext_even", se_resnet, blocks=(1, 2, 1, 1), width=16, groups=4, base_width=16),
    _small("se_resnext_widening", se_resnet, blocks=(1, 1, 1, 1), width=16, groups=4, base_width=16, stem="widening"),
    _small("senet", se_resnet, blocks=(1, 2, 1, 1), width=16, groups=4, base_width=16, stem="widening", block="senet"),
    _small("efficientnet_with_identities", efficientnet, width=0.25, depth=0.5),
    _small("resnexst_of_four_groups", resnexst, blocks=(2, 2, 1, 1), groups=4, base_width=32, width=16),
    _small("shake_with_identities", shake_shake, width=32, blocks=2),
]
THRICE = [f"{family}_tiny" for family in ("resnet", "wrn", "resnext", "se_resnet", "shake", "resnexst")]
THRICE += ["resnet_with_identities", "resnet_plain", "shake_with_identities"]
LARGE = 68  # pixels: a pool's last window sticks out, maps become odd
SIZES = {"cifar": (32,), "imagenet": (LARGE,), "": (32, LARGE)}
CASES = [
    pytest.param(preset, size, how, id=f"{preset.name}-{size}-{how.place}-{how.shortcut}")
    for preset in PRESETS_HERE
    for size in SIZES[preset.spec.layout]
    for how in (HOWS if preset.name in THRICE else HOWS[:1])
]


def _saved(networks, path, prefix="module.models", **beside):
    """The checkpoint of the networks side by side."""
    keys = {f"{prefix}.{s}.{k}": v for s, net in enumerate(networks) for k, v in net.state_dict().items()}
    torch.save({"state_dict": keys, "epoch": 300, **beside}, path)
    return path


def _images(size: int, count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3)).astype(np.float32)


def _torch_logits(networks, images) -> np.ndarray:
    with torch.no_grad():
        divided = Normalised(MEAN, STD), Divided(networks).eval()
        return divided[1](divided[0](torch.from_numpy(images.transpose(0, 3, 1, 2)))).numpy()


def _assert_same(ours, theirs) -> None:
    assert theirs.std() > 0.05
    np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("preset", "size", "how"), CASES)
def test_carried_weights_give_the_same_logits(preset, size, how, tmp_path):
    networks = [shuffled(counterpart(preset, 2, size, 7, how), seed) for seed in (1, 2)]
    path = _saved(networks, tmp_path / "published.pth.tar")
    branches = [preset.divided(2).build(size, 7) for _ in range(2)]
    carried = torch_weights.carry(torch_weights.read(path), branches)
    assert carried == torch_weights.Carried([], [])
    images = _images(size)
    ours = np.stack([branch(images) for branch in branches], 1)
    _assert_same(ours, _torch_logits(networks, images))


@pytest.mark.parametrize("prefix", ["models", "module.models"])
def test_a_dico_takes_a_checkpoint(prefix, tmp_path):
    networks = [shuffled(residual.cifar_resnet(11, 12, 5), seed) for seed in (1, 2)]
    path = _saved(networks, tmp_path / "published.pth.tar", prefix)
    model = DiCo("resnet_tiny", 2, classes=5, mean=MEAN, std=STD)
    torch_weights.load(model, path)
    images = _images(32)
    _assert_same(model(images), _torch_logits(networks, images))


@pytest.mark.parametrize("prefix", ["", "module.", "models.0."])
def test_a_plain_state_dict_is_one_branch(prefix, tmp_path):
    network = shuffled(residual.cifar_wrn(10, 1, 5), 1)
    torch.save({f"{prefix}{k}": v.half() for k, v in network.state_dict().items()}, tmp_path / "plain.pth")
    model = DiCo("wrn_tiny", 1, classes=5)
    torch_weights.load(model, tmp_path / "plain.pth")
    _assert_same(model(_images(32)), _torch_logits([network.half().float()], _images(32)))


@pytest.mark.parametrize("how", HOWS[:2])
def test_shortcuts_that_never_run_are_left_out_and_said(how, tmp_path):
    network = shuffled(shake.network(14, 32, 5, never_run=True, how=how), 1)
    branch = _small("shake", shake_shake, width=32, blocks=2).build(32, 5)
    carried = torch_weights.carry(torch_weights.read(_saved([network], tmp_path / "shake.pth.tar")), [branch])
    _assert_same(branch(_images(32)), _torch_logits([network], _images(32))[:, 0])
    layers = [f"models.0.layer{i}.1.{how.shortcut}.{name}" for i in (1, 2, 3) for name in ("conv1", "conv2", "bn")]
    assert carried.unused == layers


def test_a_shortcut_that_never_runs_is_not_guessed_without_its_name(tmp_path):
    network = shake.network(14, 32, 5, never_run=True, how=Registration("after", "side"))
    branch = _small("shake", shake_shake, width=32, blocks=2).build(32, 5)
    with pytest.raises(UserError, match=r"branch 0: stage1_block2 does not fit|stage2_block1 does not fit"):
        torch_weights.carry(torch_weights.read(_saved([network], tmp_path / "shake.pth.tar")), [branch])


def test_a_run_begins_with_a_checkpoint_and_a_fresh_head(tmp_path):
    network = shuffled(residual.cifar_resnet(11, 16, 100), 1)
    path = _saved([network], tmp_path / "published.pth.tar")
    model = DiCo("resnet_tiny", 1, classes=5)
    head = model.branches[0].get_layer("logits").kernel.numpy()
    assert build.start_from(model, path).fresh == ["branch_0/logits/kernel", "branch_0/logits/bias"]
    assert np.array_equal(model.branches[0].get_layer("logits").kernel, head)
    stem = model.branches[0].get_layer("stem_conv").kernel.numpy()
    assert np.array_equal(stem.transpose(3, 2, 0, 1), network.stem[0].weight.detach())
    with pytest.raises(UserError, match=r"logits does not fit.*expected logits 5x256.* got fc 100x256"):
        torch_weights.load(model, path)


def _fault(path, model=None) -> str:
    with pytest.raises(UserError) as caught:
        torch_weights.load(model or DiCo("resnet_tiny", 2, classes=5), path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_that_holds_objects_is_refused_and_not_run(tmp_path):
    path = _saved([residual.cifar_resnet(11, 12, 5)], tmp_path / "a.pth.tar", args=argparse.Namespace(lr=0.1))
    assert "Python objects can run code and are refused" in _fault(path)


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    (tmp_path / "a.pth").write_text("text")
    assert "is not a PyTorch file, it begins with b'text'" in _fault(tmp_path / "a.pth")
    assert "does not exist" in _fault(tmp_path / "none.pth.tar")
    torch.save([1, 2], tmp_path / "list.pth")
    assert "holds a list, not a state dict" in _fault(tmp_path / "list.pth")
    torch.save({}, tmp_path / "empty.pth")
    assert "holds no weights" in _fault(tmp_path / "empty.pth")


@pytest.mark.parametrize(("key", "value"), [("epoch", 3), ("steps", torch.tensor(3)), (7, torch.zeros(2))])
def test_what_is_no_weight_is_named(key, value, tmp_path):
    torch.save({"models.0.fc.weight": torch.zeros(2, 2), key: value}, tmp_path / "a.pth")
    assert f"holds {key!r} of type" in _fault(tmp_path / "a.pth")


def test_another_number_of_branches_is_refused_by_both_numbers(tmp_path):
    path = _saved([residual.cifar_resnet(11, 12, 5)] * 4, tmp_path / "a.pth.tar")
    assert "the checkpoint holds 4 branches and the network 2: give --splits=4" in _fault(path)


def test_another_network_is_refused_before_anything_is_assigned(tmp_path):
    model = DiCo("resnet_tiny", 2, classes=5)
    before = [v.numpy() for v in model.branches[0].variables]
    path = _saved([residual.cifar_resnet(11, 12, 5), residual.cifar_resnet(11, 8, 5)], tmp_path / "a.pth.tar")
    assert "branch 1: stem_conv does not fit the checkpoint: expected stem_conv 12x3x3x3" in _fault(path, model)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.branches[0].variables, strict=True))
    path = _saved([residual.cifar_resnet(20, 12, 5)] * 2, tmp_path / "b.pth.tar")
    assert "branch 0: stage2_block1 does not fit" in _fault(path, model)


def test_sparse_tensors_are_refused(tmp_path):
    torch.save({"models.0.fc.weight": torch.eye(3).to_sparse()}, tmp_path / "a.pth")
    assert "holds 'models.0.fc.weight' of type" in _fault(tmp_path / "a.pth")
