"""The torch network that a preset of ours, whole or a branch, is the same as."""

from torch import nn

from dico_tf.models.preset import Preset
from tests.models.torch_networks import densenet, efficientnet, pyramidnet, residual, shake
from tests.models.torch_networks.parts import Registration


def counterpart(preset: Preset, splits: int, size: int, classes: int, how: Registration = Registration()) -> nn.Module:
    """Of the preset divided by `splits`, for images of size x size."""
    spec, family = preset.divided(splits).spec, preset.family.name
    if family == "efficientnet":
        return _efficientnet(spec, splits, preset.layout(size), classes)
    return _BUILDERS[family](spec, classes, how)


def _residual(spec, classes: int, pool: str, width: int, last: int, blocks=None, **options) -> nn.Module:
    blocks = blocks or spec.blocks
    if len(blocks) == 3:
        return residual.network(blocks, (width,), width, classes, **options)
    return residual.imagenet(blocks, width, last, pool, classes, **options)


def _resnet(spec, classes, how):
    if spec.plain:
        options = {"pool": "padded", "plain": True, "how": how}
        return residual.network(spec.blocks, (spec.width,), spec.width, classes, **options)
    return _residual(spec, classes, "padded", spec.width, 2 * spec.width, how=how)


def _wrn(spec, classes, how):
    if spec.depth == 50:
        options = {"base_width": 64 * spec.width, "blocks": (3, 4, 6, 3), "how": how}
        return _residual(spec, classes, "padded", spec.stem, 2 * spec.stem, **options)
    return residual.cifar_wrn(spec.depth, spec.width, classes, how=how)


def _resnext(spec, classes, how):
    options = {"groups": spec.groups, "base_width": spec.base_width, "how": how}
    return _residual(spec, classes, "padded", spec.width, 2 * spec.width, **options)


def _se_resnet(spec, classes, how):
    reduction = 4 if len(spec.blocks) == 3 else 16
    last = 2 * spec.width if spec.stem == "widening" else spec.width
    options = {"groups": spec.groups, "base_width": spec.base_width, "reduction": reduction, "how": how}
    options["senet"] = spec.block == "senet"
    return _residual(spec, classes, "ceil", spec.width, last, **options)


def _densenet(spec, classes, how):
    return densenet.network(spec.depth, spec.growth, classes)


def _pyramidnet(spec, classes, how):
    return pyramidnet.network(spec.depth, spec.alpha, 1, classes, spec.shake_drop)


def _shake_shake(spec, classes, how):
    return shake.network(6 * spec.blocks + 2, spec.width, classes, how=how)


def _resnexst(spec, classes, how):
    options = {"groups": spec.groups, "base_width": spec.base_width, "split": True, "how": how}
    return _residual(spec, classes, "ceil", spec.width, 2 * spec.width, **options)


def _efficientnet(spec, splits, layout, classes):
    return efficientnet.network(efficientnet.published(spec.width, spec.depth, splits, layout), classes)


_BUILDERS = {
    "resnet": _resnet, "wrn": _wrn, "resnext": _resnext, "se_resnet": _se_resnet, "densenet": _densenet,
    "pyramidnet": _pyramidnet, "shake_shake": _shake_shake, "resnexst": _resnexst,
}  # fmt: skip
KNOWN = {*_BUILDERS, "efficientnet"}
