"""What our layers of transformers, ConvNeXt and RegNetY are called in timm's checkpoints, and how weights lie there.

They are found by name: many layers of a transformer have one shape.
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

Pairs = list[tuple[Any, np.ndarray]]  # our variables, and what they become


def _within(place: str, names: dict[str, str], **more: str) -> dict[str, str]:
    return {ours: f"{place}.{theirs}" for ours, theirs in {**names, **more}.items()}


_MLP = {"norm1": "norm1", "norm2": "norm2", "dense1": "mlp.fc1", "dense2": "mlp.fc2"}
_BLOCK = {**_MLP, "attention_qkv": "attn.qkv", "attention_projection": "attn.proj"}
_OUTSIDE = {"positions": "pos_embed", "class_token": "cls_token", "norm": "norm", "logits": "head"}
# family: for what stands outside, in stage i alone, in block (or stem, or class layer) j: our name there, and theirs
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
IN_ORDER = ("regnet",)  # whose layers are also told apart by their order, where a checkpoint keeps it
_CLASS_PLACE = "pos_embed[:, 0]"
_NAME = re.compile(r"(?:stage(\d+)_)?(?:(block|class|stem)(\d+)_)?(.+)")


def theirs(family: str, name: str) -> str:
    """stage1_block2_dense1 -> layers.0.blocks.1.mlp.fc1; timm counts from 0, but for RegNetY."""
    stage, kind, number, rest = _NAME.fullmatch(name).groups()
    stage, number, place = int(stage or 1), int(number or 1), kind or ("stage" if stage else "")
    i, j = stage - 1, number - 1
    return TABLES[family][place][rest].format(i=i, j=j, twice=2 * j, stage=stage, number=number)


def pairs(family: str, branch: Any, arrays: Mapping[str, np.ndarray], classes: str) -> tuple[Pairs, list[str]]:
    """What every variable of the branch becomes, and those of a head that is left fresh; all or a UserError."""
    found, fresh, left = [], [], dict(arrays)
    for layer in branch.layers:
        if not layer.weights:
            continue
        try:
            values = _values(layer, theirs(family, layer.name), left)
        except KeyError as error:
            raise UserError(f"{layer.name} is {error.args[0]} in checkpoints of timm, which is missing here") from None
        for variable, array in values:
            array = resize_positions(variable, array)
            if array.shape == tuple(variable.shape):
                found.append((variable, array))
            elif layer.name == "logits" and classes == "any" and array.shape[:-1] == tuple(variable.shape[:-1]):
                fresh.append(f"{layer.name}/{variable.name}")
            else:
                wanted = "x".join(map(str, variable.shape))
                raise UserError(f"{layer.name} {variable.name} is {wanted}, and here {'x'.join(map(str, array.shape))}")
    if left:
        names = list(left)
        more = f" and {len(names) - 4} more" if len(names) > 4 else ""
        raise UserError(f"the checkpoint goes on where the network ends: {', '.join(names[:4])}{more}")
    return found, fresh


def _values(layer: Any, name: str, left: dict[str, np.ndarray]) -> Pairs:
    """Variables of the layer and their arrays as they lie with us; what is taken is no longer left."""

    def taken(part: str = "") -> np.ndarray:
        return left.pop(f"{name}.{part}" if part else name)

    match layer:
        case LayerScale():
            return [(layer.scale, taken())]
        case CrossCovariance():
            return [(layer.temperature, taken())]
        case WindowAttention():
            return [(layer.table, _square(taken(), layer.table.shape))]
        case ClassToken():
            token = [(layer.token, taken().reshape(-1))]
            return [*token, (layer.place, left.pop(_CLASS_PLACE))] if layer.placed else token
        case Positions():
            return [(layer.table, _places(taken(), layer.table.shape, left))]
        case keras.layers.LayerNormalization():
            return [(layer.gamma, taken("weight")), (layer.beta, taken("bias"))]
        case keras.layers.BatchNormalization():
            ours = (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)
            parts = ("weight", "bias", "running_mean", "running_var")
            return [(variable, taken(part)) for variable, part in zip(ours, parts, strict=True)]
        case keras.layers.Dense() | FourierPlaces() | keras.layers.Conv2D() | keras.layers.DepthwiseConv2D():
            kernel = [(layer.kernel, _kernel(layer, taken("weight")))]
            return [*kernel, (layer.bias, taken("bias"))] if layer.bias is not None else kernel
    raise UserError(f"{layer.name}, a {type(layer).__name__}, is no layer that timm's names are known of")


def _kernel(layer: Any, weight: np.ndarray) -> np.ndarray:
    """[out, in / groups (, height, width)] turned the Keras way."""
    match layer:
        case keras.layers.DepthwiseConv2D():
            return weight.transpose(2, 3, 0, 1).reshape(*weight.shape[2:], -1, layer.depth_multiplier)
        case keras.layers.Conv2D():
            return weight.transpose(2, 3, 1, 0)
    return weight.reshape(weight.shape[:2]).T


def _square(table: np.ndarray, like: tuple[int, ...]) -> np.ndarray:
    """[places, C] -> [h, w, C]: as many as ours, or a square."""
    places, channels = table.shape
    side = math.isqrt(places)
    rows, columns = like[:2] if math.prod(like[:2]) == places else (side, side)
    if rows * columns != places:
        raise UserError(f"a table of {places} places is neither ours of {like[0]}x{like[1]} nor a square")
    return table.reshape(rows, columns, channels)


def _places(table: np.ndarray, like: tuple[int, ...], left: dict[str, np.ndarray]) -> np.ndarray:
    """pos_embed [1, C, h, w], [1, h w, C], or [1, 1 + h w, C] with the class token's, which is left for it."""
    if table.ndim == 4:
        return table[0].transpose(1, 2, 0)
    table = table[0]
    if len(table) == math.isqrt(len(table) - 1) ** 2 + 1 and len(table) != math.prod(like[:2]):
        left[_CLASS_PLACE], table = table[0], table[1:]
    return _square(table, like)
