"""Layers of a checkpoint find theirs of ours by order and shape; no PyTorch is needed for that."""

import sys

import keras
import numpy as np
import pytest

from dico_tf.cotrain.dico import DiCo
from dico_tf.errors import UserError
from dico_tf.models import timm_names, torch_weights
from dico_tf.models.presets import PRESETS
from dico_tf.models.weight_matching import Block, Entry, blocks, match
from dico_tf.training import build
from tests.files.torch_pickles import write_arrays

MATCHED = [p for p in PRESETS.values() if p.family_name not in timm_names.TABLES]  # the others are found by name
# refused for clips; of what segments on transformers no checkpoints are read
TINY = [p.name for p in MATCHED if p.tiny and p.task != "video" and not p.fixed]
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.float32)


def _build(name: str, seed: int, classes: int = 5) -> keras.Model:
    """A branch of random weights and statistics."""
    model, draw = PRESETS[name].build(32, classes), np.random.default_rng(seed)
    for variable in model.weights:
        centre, spread = (1, 0.1) if variable.name in ("gamma", "moving_variance") else (0, 0.1)
        variable.assign(draw.normal(centre, spread, variable.shape))
    return model


def _written(model: keras.Model) -> dict[str, np.ndarray]:
    """The model as a checkpoint would hold it, under names like stage1_block1.shortcut.conv.weight."""
    arrays = {}
    for layer in (layer for layer in model.layers if layer.weights):
        name = layer.name
        for old, new in (("_shortcut_", ".shortcut."), ("_a_", ".a."), ("_b_", ".b.")):
            name = name.replace(old, new)
        name = name if "." in name else ".".join(name.rsplit("_", 1))
        if isinstance(layer, keras.layers.BatchNormalization):
            parts = ("weight", "bias", "running_mean", "running_var")
            arrays |= {f"{name}.{part}": value for part, value in zip(parts, layer.get_weights(), strict=True)}
            continue
        kernel, *bias = layer.get_weights()
        axes = {2: (1, 0), 4: (2, 3, 0, 1) if isinstance(layer, keras.layers.DepthwiseConv2D) else (3, 2, 0, 1)}
        arrays[f"{name}.weight"] = kernel.transpose(axes[kernel.ndim])
        arrays |= {f"{name}.bias": value for value in bias}
    return arrays


def test_a_run_begins_with_a_file_of_pytorch_where_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    name = "resnet_tiny"
    path = write_arrays(tmp_path / "published.pth", _written(_build(name, 1)))
    model = DiCo(name, 1, classes=5)
    assert build.start_from(model, path) == torch_weights.Carried([], [])
    for ours, theirs in zip(model.branches[0].weights, _build(name, 1).weights, strict=True):
        assert np.array_equal(ours, theirs)


def _dense_as_convolutions(arrays):
    return {k: v[:, :, None, None] if v.ndim == 2 else v for k, v in arrays.items()}


def _convolutions_as_dense(arrays):
    return {k: v[:, :, 0, 0] if v.ndim == 4 and v.shape[2:] == (1, 1) else v for k, v in arrays.items()}


@pytest.mark.slow
@pytest.mark.parametrize("change", [dict, _dense_as_convolutions, _convolutions_as_dense])
@pytest.mark.parametrize("name", TINY)
def test_what_is_written_down_comes_back(name, change):
    model, other = _build(name, 1), _build(name, 2)
    assert torch_weights.carry([change(_written(model))], [other]) == torch_weights.Carried([], [])
    assert all(np.array_equal(a, b) for a, b in zip(model.weights, other.weights, strict=True))


def _norm(name: str, width: int) -> Entry:
    return Entry(name, "norm", (width,))


def _conv(name: str, *shape: int) -> Entry:
    return Entry(name, "matrix", (*shape, 1, 1)[:4], bias=False)


PATH = (_conv("conv1", 8, 4, 3, 3), _norm("norm1", 8), _conv("conv2", 8, 8, 3, 3), _norm("norm2", 8))
SHORTCUT = (_conv("shortcut_conv", 8, 4), _norm("shortcut_norm", 8))
BASIC = Block("stage1_block1", (PATH,), SHORTCUT)
A, B = _conv("layer1.0.a", 8, 4, 3, 3), _norm("layer1.0.b", 8)
C, D = _conv("layer1.0.c", 8, 8, 3, 3), _norm("layer1.0.d", 8)


def _side(name: str) -> list[Entry]:
    return [_conv(f"layer1.0.{name}.0", 8, 4), _norm(f"layer1.0.{name}.1", 8)]


NAMED, UNNAMED = _side("downsample"), _side("side")


@pytest.mark.parametrize(
    "theirs",
    [
        [A, B, C, D, *NAMED],
        [*NAMED, A, B, C, D],
        [A, C, *NAMED, B, D],
        [A, C, NAMED[0], B, D, NAMED[1]],
        [A, B, C, D, *UNNAMED],
        [*UNNAMED, A, B, C, D],
    ],
)
def test_a_shortcut_is_found_wherever_it_was_written_down(theirs):
    pairs = {ours.name: their.name for ours, their in match([BASIC], theirs).pairs}
    side = (NAMED if NAMED[0] in theirs else UNNAMED)[0].name[:-2]
    assert pairs == {
        "conv1": A.name,
        "norm1": B.name,
        "conv2": C.name,
        "norm2": D.name,
        "shortcut_conv": f"{side}.0",
        "shortcut_norm": f"{side}.1",
    }


@pytest.mark.parametrize("theirs", [[A, C, *UNNAMED, B, D], [A, B, C, D, *reversed(UNNAMED)]])
def test_what_could_be_either_is_refused(theirs):
    with pytest.raises(UserError, match=r"its shortcut fits in 0 places .* name its layers downsample, shortcut or"):
        match([BASIC], theirs)


def test_a_shortcut_that_fits_twice_is_refused():
    alike = (_conv("conv", 4, 4), _norm("norm", 4))
    theirs = [_conv("x.a", 4, 4), _norm("x.b", 4), _conv("x.c", 4, 4), _norm("x.d", 4)]
    with pytest.raises(UserError, match="fits in 2 places"):
        match([Block("block", (alike,), alike)], theirs)


def test_shapes_decide_where_the_order_is_another():
    ours = [_conv("one", 8, 4), _conv("two", 4, 8), _norm("three", 4)]
    theirs = [_norm("n", 4), _conv("b", 4, 8), _conv("a", 8, 4)]
    assert [their.name for _, their in match([Block("x", (tuple(ours),))], theirs).pairs] == ["a", "b", "n"]
    twice = [_conv("b", 4, 8), _conv("a", 8, 4), _conv("c", 8, 4)]
    with pytest.raises(UserError, match=r"expected one 8x4x1x1.* got b 4x8x1x1"):
        match([Block("x", ((ours[0], _conv("other", 8, 4), ours[1]),))], twice)


def test_two_paths_are_told_apart_by_name_or_not_at_all():
    block = Block("block", tuple((_conv(f"{way}conv", 4, 4), _norm(f"{way}norm", 4)) for way in "ab"))
    in_turn = [_conv("x.p.0", 4, 4), _conv("x.q.0", 4, 4), _norm("x.p.1", 4), _norm("x.q.1", 4)]
    pairs = {ours.name: their.name for ours, their in match([block], in_turn).pairs}
    assert pairs == {"aconv": "x.p.0", "anorm": "x.p.1", "bconv": "x.q.0", "bnorm": "x.q.1"}
    with pytest.raises(UserError, match="expected 2 parallel paths under as many names"):
        match([block], [_conv("x.a", 4, 4), _norm("x.b", 4), _conv("x.c", 4, 4), _norm("x.d", 4)])


def _identity(shapes=((2, 4), (2, 4), (4,)), name="shortcut") -> list[Entry]:
    kinds = [_conv if len(shape) == 2 else _norm for shape in shapes]
    return [kind(f"l.1.{name}.{i}", *shape) for i, (kind, shape) in enumerate(zip(kinds, shapes, strict=True))]


FIRST = Block("one", ((_conv("p", 4, 2, 3, 3),),), (_conv("s", 2, 2), _conv("t", 2, 2), _norm("n", 4)))
SECOND = Block("two", ((_conv("q", 4, 4, 3, 3),),))
BEGUN = [_conv("l.0.p", 4, 2, 3, 3), *(_conv(f"l.0.skip.{i}", 2, 2) for i in (0, 1)), _norm("l.0.skip.n", 4)]
PLAIN = _conv("l.1.q", 4, 4, 3, 3)


@pytest.mark.parametrize("theirs", [[*_identity(), PLAIN], [PLAIN, *_identity()]])
def test_a_shortcut_of_a_block_without_one_is_left_out(theirs):
    result = match([FIRST, SECOND], [*BEGUN, *theirs])
    assert result.unused == _identity()
    assert (SECOND.paths[0][0], PLAIN) in result.pairs


@pytest.mark.parametrize(
    "idle", [_identity(name="extra"), _identity()[:2], _identity(((2, 4), (2, 4), (8,))), _identity(((4, 4), (4,)))]
)
def test_anything_else_left_over_is_an_error(idle):
    with pytest.raises(UserError, match=r"has layers that the network lacks: l\.1\.(shortcut|extra)\.0"):
        match([FIRST, SECOND], [*BEGUN, PLAIN, *idle])


def test_blocks_are_read_off_our_names():
    names = ["stem1_conv", "stem1_norm", "stage1_block1_conv1", "stage1_block1_shortcut_conv", "transition1_conv"]
    names += [
        "stage2_block1_a_conv1",
        "stage2_block1_b_conv1",
        "stage2_block1_a_norm1",
        "block1_layer2_conv1",
        "logits",
    ]
    result = blocks([_conv(name, 1, 1) for name in names])
    assert [(b.name, [[e.name for e in p] for p in b.paths], [e.name for e in b.shortcut]) for b in result] == [
        ("stem1_conv", [["stem1_conv", "stem1_norm"]], []),
        ("stage1_block1", [["stage1_block1_conv1"]], ["stage1_block1_shortcut_conv"]),
        ("transition1_conv", [["transition1_conv"]], []),
        ("stage2_block1", [["stage2_block1_a_conv1", "stage2_block1_a_norm1"], ["stage2_block1_b_conv1"]], []),
        ("block1_layer2", [["block1_layer2_conv1"]], []),
        ("logits", [["logits"]], []),
    ]


def test_missing_left_over_and_foreign_layers_are_named():
    model = _build("resnet_tiny", 1)
    arrays = _written(model)
    short = {k: v for k, v in arrays.items() if not k.startswith("logits")}
    end = "ends before logits: expected logits 5x256x1x1 with bias, got no more layers"
    with pytest.raises(UserError, match=f"branch 0: the checkpoint {end}"):
        torch_weights.carry([short], [model])
    with pytest.raises(UserError, match="branch 0: the checkpoint has layers that the network lacks: more 3x4x1x1"):
        torch_weights.carry([{**arrays, "more.weight": np.zeros((3, 4))}], [model])
    with pytest.raises(UserError, match=r"expected a convolution, dense layer or batch normalisation, got .*mean 3"):
        torch_weights.carry([{**arrays, "mean": np.zeros(3)}], [model])
    with pytest.raises(UserError, match=r"expected a convolution.* got norm.weight 3"):
        torch_weights.carry([{**arrays, "norm.weight": np.zeros(3)}], [model])
    with pytest.raises(UserError, match="expected same or any"):
        torch_weights.carry([arrays], [model], classes="all")


def test_a_layer_of_ours_that_pytorch_files_do_not_have_is_named():
    x = keras.Input((4,))
    model = keras.Model(x, keras.layers.LayerNormalization(name="gauge")(x))
    with pytest.raises(UserError, match="gauge: layers of class LayerNormalization cannot take PyTorch weights"):
        torch_weights.carry([{"a.weight": np.zeros((1, 1))}], [model])
