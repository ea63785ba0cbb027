"""Names and axis orders of timm's checkpoints, for the layers of transformers, ConvNeXt and RegNetY.

Weights are matched by name, since many layers of a transformer have the same shape.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from dico_tf.errors import UserError
from dico_tf.layers.attention import CrossCovariance
from dico_tf.layers.embeddings import ClassToken, FourierPlaces, LayerScale, Positions, resize_positions
from dico_tf.layers.window_attention import WindowAttention

Pairs = list[tuple[Any, np.ndarray]]  # our variables and their new values


def _within(place: str, names: dict[str, str], **more: str) -> dict[str, str]:
    """Return `names` and `more`, both {our name: timm's name}, with the place as prefix of timm's names."""
    return {ours: f"{place}.{theirs}" for ours, theirs in {**names, **more}.items()}


_MLP = {"norm1": "norm1", "norm2": "norm2", "dense1": "mlp.fc1", "dense2": "mlp.fc2"}
_BLOCK = {**_MLP, "attention_qkv": "attn.qkv", "attention_projection": "attn.proj"}
_OUTSIDE = {"positions": "pos_embed", "class_token": "cls_token", "norm": "norm", "logits": "head"}
# family: {place: {our name: timm's}}; the place is "" outside of blocks, stage i, or block, stem or class layer j
TABLES: dict[str, dict[str, dict[str, str]]] = {
    "vit": {
        "": {**_OUTSIDE, "patches": "patch_embed.proj"},
        "block": _within("blocks.{j}", _BLOCK, scale1="ls1.gamma", scale2="ls2.gamma"),
    },
    "pit": {
        "": {**_OUTSIDE, "patches": "patch_embed.conv"},
        "stage": _within("transformers.{i}.pool", {"pool_dense": "fc", "pool_conv": "conv"}),
        "block": _within("transformers.{i}.blocks.{j}", _BLOCK),
    },
    "swin": {
        "": {**_OUTSIDE, "patches": "patch_embed.proj", "patches_norm": "patch_embed.norm", "logits": "head.fc"},
        "stage": _within("layers.{i}.downsample", {"merge_norm": "norm", "merge_dense": "reduction"}),
        "block": _within("layers.{i}.blocks.{j}", _BLOCK, attention_products="attn.relative_position_bias_table"),
    },
    "xcit": {
        "": {**_OUTSIDE, "positions": "pos_embed.token_projection"},
        "stem": _within("patch_embed.proj.{twice}", {"conv": "0", "norm": "1"}),
        "block": _within(
            "blocks.{j}", _BLOCK, attention_products="attn.temperature", norm3="norm3", local_norm="local_mp.bn",
            local_conv1="local_mp.conv1", local_conv2="local_mp.conv2", scale1="gamma1", scale2="gamma2",
            scale3="gamma3",
        ),
        "class": _within(
            "cls_attn_blocks.{j}", _BLOCK, attention_q="attn.q", attention_k="attn.k", attention_v="attn.v",
            scale1="gamma1", scale2="gamma2",
        ),
    },
    "convnext": {
        "": {"stem_conv": "stem.0", "stem_norm": "stem.1", "norm": "head.norm", "logits": "head.fc"},
        "stage": _within("stages.{i}.downsample", {"shrink_norm": "0", "shrink_conv": "1"}),
        "block": _within("stages.{i}.blocks.{j}", _MLP, depthwise_conv="conv_dw", norm="norm", scale="gamma"),
    },
    "regnet": {
        "": {"stem_conv": "stem.conv", "stem_norm": "stem.bn", "logits": "head.fc"},
        "block": _within(
            "s{stage}.b{number}", {f"conv{n}": f"conv{n}.conv" for n in (1, 2, 3)},
            **{f"norm{n}": f"conv{n}.bn" for n in (1, 2, 3)}, shortcut_conv="downsample.conv",
            shortcut_norm="downsample.bn", se_reduce="se.fc1", se_expand="se.fc2",
        ),
    },
}  # fmt: skip
IN_ORDER = ("regnet",)  # families that are matched by order if the checkpoint keeps the order of layers
_CLASS_PLACE = "pos_embed[:, 0]"
_NAME = re.compile(r"(?:stage(\d+)_)?(?:(block|class|stem)(\d+)_)?(.+)")


def theirs(family: str, name: str) -> str:
    """Return timm's name of a layer, e.g. for swin stage1_block2_dense1 -> layers.0.blocks.1.mlp.fc1.

    Blocks of RegNetY count from 1 in timm, those of the others from 0.
    """
    stage, kind, number, rest = _NAME.fullmatch(name).groups()
    stage, number, place = int(stage or 1), int(number or 1), kind or ("stage" if stage else "")
    i, j = stage - 1, number - 1
    return TABLES[family][place][rest].format(i=i, j=j, twice=2 * j, stage=stage, number=number)


def pairs(family: str, branch: Any, arrays: Mapping[str, np.ndarray], classes: str) -> tuple[Pairs, list[str]]:
    """Return the branch's variables with their new values, and the names of the head's variables that are not loaded.

    Position embeddings are resized. Raises UserError if anything is missing, left over or of another shape.

    Args:
        classes: "same", or "any": a head for another number of classes is not loaded, instead of an error.
    """
    values, fresh, remaining = [], [], dict(arrays)
    for layer in branch.layers:
        if not layer.weights:
            continue
        name = theirs(family, layer.name)
        try:
            of_layer = _values(layer, name, remaining)
        except KeyError as error:
            raise UserError(
                f"the checkpoint has no {error.args[0]}, timm's name for the weights of layer {layer.name}"
            ) from None
        for variable, array in of_layer:
            array = resize_positions(variable, array)
            if array.shape == tuple(variable.shape):
                values.append((variable, array))
            elif layer.name == "logits" and classes == "any" and array.shape[:-1] == tuple(variable.shape[:-1]):
                fresh.append(f"{layer.name}/{variable.name}")
            else:
                expected, shape = ("x".join(map(str, sides)) for sides in (variable.shape, array.shape))
                raise UserError(f"{layer.name} {variable.name}: expected shape {expected}, got {shape}")
    if remaining:
        names = list(remaining)
        more = f" and {len(names) - 4} more" if len(names) > 4 else ""
        raise UserError(f"the checkpoint has layers that the network lacks: {', '.join(names[:4])}{more}")
    return values, fresh


def _values(layer: Any, name: str, remaining: dict[str, np.ndarray]) -> Pairs:
    """Take the arrays of timm's layer `name` out of `remaining`; return our layer's variables, each with its array.

    The arrays are in the axis order of Keras. Raises KeyError if `remaining` lacks one.
    """

    def take(part: str = "") -> np.ndarray:
        return remaining.pop(f"{name}.{part}" if part else name)

    match layer:
        case LayerScale():
            return [(layer.scale, take())]
        case CrossCovariance():
            return [(layer.temperature, take())]
        case WindowAttention():
            return [(layer.table, _square(take(), layer.table.shape))]
        case ClassToken():
            token = [(layer.token, take().reshape(-1))]
            return [*token, (layer.place, remaining.pop(_CLASS_PLACE))] if layer.placed else token
        case Positions():
            return [(layer.table, _places(take(), layer.table.shape, remaining))]
        case keras.layers.LayerNormalization():
            return [(layer.gamma, take("weight")), (layer.beta, take("bias"))]
        case keras.layers.BatchNormalization():
            ours = (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)
            parts = ("weight", "bias", "running_mean", "running_var")
            return [(variable, take(part)) for variable, part in zip(ours, parts, strict=True)]
        case keras.layers.Dense() | FourierPlaces() | keras.layers.Conv2D() | keras.layers.DepthwiseConv2D():
            kernel = [(layer.kernel, _kernel(layer, take("weight")))]
            return [*kernel, (layer.bias, take("bias"))] if layer.bias is not None else kernel
    raise UserError(f"{layer.name}: timm's names are not known for layers of class {type(layer).__name__}")


def _kernel(layer: Any, weight: np.ndarray) -> np.ndarray:
    """Return a PyTorch kernel [out, in / groups (, height, width)] in the axis order of the Keras layer."""
    match layer:
        case keras.layers.DepthwiseConv2D():
            return weight.transpose(2, 3, 0, 1).reshape(*weight.shape[2:], -1, layer.depth_multiplier)
        case keras.layers.Conv2D():
            return weight.transpose(2, 3, 1, 0)
    return weight.reshape(weight.shape[:2]).T


def _square(table: np.ndarray, like: tuple[int, ...]) -> np.ndarray:
    """Reshape a table [positions, C] to [h, w, C]: to the sides of `like` if their product fits, else to a square.

    Raises UserError if neither fits.
    """
    positions, channels = table.shape
    side = math.isqrt(positions)
    rows, columns = like[:2] if math.prod(like[:2]) == positions else (side, side)
    if rows * columns != positions:
        raise UserError(f"expected a table of {like[0]}x{like[1]} positions or a square, got {positions} positions")
    return table.reshape(rows, columns, channels)


def _places(table: np.ndarray, like: tuple[int, ...], remaining: dict[str, np.ndarray]) -> np.ndarray:
    """Reshape pos_embed to [h, w, C] from [1, C, h, w], or from a list of positions: [1, h w, C] or [1, 1 + h w, C].

    The list has as many positions as our table, or a square number. A list of one position more than a square number
    begins with that of the class token, which is put into `remaining`, as "pos_embed[:, 0]". Raises UserError for a
    list of any other length.

    Args:
        like: shape [h, w, C] of our table, whose sides may differ.
    """
    if table.ndim == 4:
        return table[0].transpose(1, 2, 0)
    table = table[0]
    if len(table) == math.isqrt(len(table) - 1) ** 2 + 1 and len(table) != math.prod(like[:2]):
        remaining[_CLASS_PLACE], table = table[0], table[1:]
    return _square(table, like)
