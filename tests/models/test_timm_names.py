"""Checkpoints with the names of timm, carried into ours: the same logits as timm's own networks, or a clear message."""

import keras
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402

from dico_tf.cotrain.dico import DiCo  # noqa: E402
from dico_tf.errors import UserError  # noqa: E402
from dico_tf.layers.image_input import Sides, sides  # noqa: E402
from dico_tf.models import convnext, pit, regnet, swin, torch_weights, vit, xcit  # noqa: E402
from dico_tf.models.preset import Preset  # noqa: E402
from dico_tf.models.presets import PRESETS  # noqa: E402
from dico_tf.training import build  # noqa: E402
from tests.models.timm_oracle import timm  # noqa: E402

timm = timm()
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLASSES = 5
_OF_A_VIT = {"embed_dim": 64, "depth": 2, "num_heads": 4, "patch_size": 4, "img_size": 32}
_OF_A_SWIN = {"patch_size": 2, "window_size": 4, "embed_dim": 32, "num_heads": (2, 4)}


def _small(name: str, family, **spec) -> Preset:
    return Preset(name=name, family=family.FAMILY, spec=family.Spec(**spec))


def _swin(name: str, blocks: tuple[int, int], **options):
    ours = _small(name, swin, blocks=blocks, heads=(2, 4), head_width=16, patch=2, window=4, drop_path=0.1)
    return ours, "swin_tiny_patch4_window7_224", {**_OF_A_SWIN, "depths": blocks, **options}


# preset of ours, timm's network, and how that is made as small; pictures are of 32 pixels unless said
SMALL = [
    (
        _small("vit", vit, patch=4, depth=2, heads=4, head_width=16, drop_path=0.1),
        "deit3_small_patch16_224",
        {**_OF_A_VIT, "init_values": 1e-4, "no_embed_class": True},
    ),
    (
        _small("vit_plain", vit, patch=4, depth=2, heads=4, head_width=16, layer_scale=0.0),
        "vit_small_patch16_224",
        _OF_A_VIT,
    ),
    (
        _small("pit", pit, heads=(1, 2, 6), head_width=16, blocks=(1, 2, 1), patch=4, stride=2),
        "pit_ti_224",
        {"patch_size": 4, "stride": 2, "base_dims": [16] * 3, "depth": [1, 2, 1], "heads": [1, 2, 6], "img_size": 32},
    ),
    _swin("swin", (2, 2), img_size=32),
    _swin("swin_of_wide_pictures", (2, 2), img_size=(16, 32)),
    _swin("swin_of_one_window", (2, 2), img_size=8),  # shifts nothing
    _swin("swin_of_odd_maps", (1, 1), img_size=36),  # 18x18, padded to 20x20, and 9x9; timm would pad after a shift
    (
        _small("xcit", xcit, patch=8, depth=2, heads=4, head_width=16, drop_path=0.1),
        "xcit_small_12_p8_224",
        {"patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 4, "img_size": 32},
    ),
    (
        _small("xcit_16", xcit, patch=16, depth=1, heads=2, head_width=32),
        "xcit_small_12_p16_224",
        {"patch_size": 16, "embed_dim": 64, "depth": 1, "num_heads": 2, "img_size": (48, 32)},
    ),
    (
        _small("convnext", convnext, widths=(16, 24, 32, 40), blocks=(1, 1, 2, 1), drop_path=0.1),
        "convnext_tiny",
        {"depths": (1, 1, 2, 1), "dims": (16, 24, 32, 40)},
    ),
    (
        _small("regnety", regnet, planes=(16, 32, 40, 64), blocks=(1,) * 4, group=8, drop_path=0.1),
        "regnety_004",
        {"w0": 16, "wa": 16.0, "wm": 1.4, "group_size": 8, "depth": 4},
    ),
]
LARGE = {  # timm's name and the pictures' size
    "vit_s_16": ("deit3_small_patch16_224", 224),
    "vit_s_16_plain": ("vit_small_patch16_224", 224),
    "pit_ti": ("pit_ti_224", 224),
    "swin_t": ("swin_tiny_patch4_window7_224", 224),
    "xcit_s12_16": ("xcit_small_12_p16_224", 224),
    "convnext_t": ("convnext_tiny", 224),
    "regnety_400mf": ("regnety_004", 64),
}


def network(name: str, seed: int = 0, num_classes: int = CLASSES, **options):
    """timm's, with weights and statistics that let signals through, as if trained."""
    made = timm.create_model(name, num_classes=num_classes, **options).eval()
    draw = torch.Generator().manual_seed(seed)
    for key, value in made.state_dict().items():
        if key.endswith("running_var") or (value.ndim == 1 and key.endswith("weight")) or "temperature" in key:
            torch.nn.init.uniform_(value, 0.5, 1.5, generator=draw)
        elif "gamma" in key:
            torch.nn.init.uniform_(value, 0.1, 0.5, generator=draw)
        elif value.is_floating_point():
            fan_in = value[0].numel() if value.ndim > 1 else 25
            torch.nn.init.normal_(value, 0, 1 / fan_in**0.5 if "weight" in key else 0.2, generator=draw)
    return made


def images(size: Sides) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, *sides(size), 3)).astype(np.float32)


def logits_of(made, pictures: np.ndarray) -> np.ndarray:
    x = torch.from_numpy(((pictures / 255 - MEAN) / STD).astype(np.float32).transpose(0, 3, 1, 2))
    with torch.no_grad():
        return made(x).numpy()


def saved(made, path, **changes):
    torch.save({**made.state_dict(), **changes}, path)
    return path


def carried(preset: Preset, path, size: Sides, **options) -> keras.Model:
    branch = preset.build(size, CLASSES)
    result = torch_weights.carry(torch_weights.read(path), [branch], family=preset.family_name, **options)
    assert result == torch_weights.Carried([], [])
    return branch


def check(preset: Preset, made, size: Sides, tmp_path) -> None:
    expected = logits_of(made, images(size))
    result = np.asarray(carried(preset, saved(made, tmp_path / "timm.pth"), size)(images(size)))
    assert expected.std() > 0.05
    np.testing.assert_allclose(result, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("preset", "name", "options"), SMALL, ids=[preset.name for preset, *_ in SMALL])
def test_carried_weights_give_timms_logits(preset, name, options, tmp_path):
    check(preset, network(name, **options), options.get("img_size", 32), tmp_path)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_regnet_is_known_by_order_and_by_names(suffix, tmp_path):
    preset, name, options = SMALL[-1]
    made, path = network(name, **options), tmp_path / f"timm.{suffix}"
    save_file(made.state_dict(), path) if suffix == "safetensors" else saved(made, path)
    branch = preset.build(32, CLASSES)
    torch_weights.fill([branch], path, preset.family_name)
    np.testing.assert_allclose(branch(images(32)), logits_of(made, images(32)), atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("preset", LARGE)
def test_carried_weights_of_a_published_network_give_timms_logits(preset, tmp_path):
    name, size = LARGE[preset]
    check(PRESETS[preset], network(name), size, tmp_path)


def test_places_are_resized_for_another_picture_size_as_pytorch_does_it(tmp_path):
    preset, name, options = SMALL[0]
    made, larger = network(name, **options), network(name, **{**options, "img_size": 48})
    places = made.pos_embed.detach().reshape(1, 8, 8, -1).permute(0, 3, 1, 2)
    places = torch.nn.functional.interpolate(places, size=(12, 12), mode="bicubic", align_corners=False)
    larger.load_state_dict({**made.state_dict(), "pos_embed": places.permute(0, 2, 3, 1).reshape(1, 144, -1)})
    result = np.asarray(carried(preset, saved(made, tmp_path / "timm.pth"), 48)(images(48)))
    np.testing.assert_allclose(result, logits_of(larger, images(48)), atol=1e-4, rtol=1e-4)


def test_offsets_are_resized_for_a_smaller_window(tmp_path):
    preset, name, options = SMALL[3]
    made = network(name, **options)
    branch = carried(preset, saved(made, tmp_path / "timm.pth"), 12)  # a map of 6x6, then one of 3x3
    table = made.layers[1].blocks[0].attn.relative_position_bias_table.detach().reshape(1, 7, 7, 4).permute(0, 3, 1, 2)
    expected = torch.nn.functional.interpolate(table, size=(5, 5), mode="bicubic", align_corners=False)
    result = branch.get_layer("stage2_block1_attention_products").table
    np.testing.assert_allclose(result, expected[0].permute(1, 2, 0).numpy(), atol=1e-6)


def test_a_run_begins_with_a_checkpoint_of_timm_and_a_fresh_head(tmp_path):
    _, name, options = SMALL[0]
    path = saved(network(name, 9, num_classes=9, **{**options, "depth": 4}), tmp_path / "timm.pth")
    model = DiCo("vit_tiny", 1, classes=CLASSES, mean=MEAN, std=STD)
    head = model.branches[0].get_layer("logits").kernel.numpy()
    assert build.start_from(model, path).fresh == ["branch_0/logits/kernel", "branch_0/logits/bias"]
    assert np.array_equal(model.branches[0].get_layer("logits").kernel, head)
    with pytest.raises(UserError, match=r"branch 0: logits kernel: expected shape 64x5, got 64x9; give the --model"):
        torch_weights.load(model, path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blocks.1.norm1.weight": None}, r"block2_norm1 is blocks.1.norm1.weight in checkpoints of timm, which is mi"),
        ({"head_dist.weight": torch.zeros(5, 64)}, "has layers that the network lacks: head_dist.weight"),
        ({"blocks.0.mlp.fc1.weight": torch.zeros(8, 64)}, r"block1_dense1 kernel: expected shape 64x256, got 64x8"),
        ({"pos_embed": torch.zeros(1, 63, 64)}, r"expected a table of 8x8 positions or a square, got 63 positions"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_assigned(change, message, tmp_path):
    preset, name, options = SMALL[0]
    weights = {**network(name, **options).state_dict(), **change}
    torch.save({key: value for key, value in weights.items() if value is not None}, tmp_path / "timm.pth")
    branch = preset.build(32, CLASSES)
    before = [variable.numpy() for variable in branch.variables]
    with pytest.raises(UserError, match=message):
        torch_weights.carry(torch_weights.read(tmp_path / "timm.pth"), [branch], family="vit")
    assert all(np.array_equal(a, b) for a, b in zip(before, branch.variables, strict=True))
