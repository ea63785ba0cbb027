"""The torch network that a preset of ours, whole or a branch, is the same as."""

from torch import nn

from dico_tf.models.menu import Preset
from tests.models.torch_networks import densenet, efficientnet, pyramidnet, residual, shake
from tests.models.torch_networks.parts import Registration


def counterpart(preset: Preset, splits: int, classes: int, how: Registration = Registration()) -> nn.Module:
    """Of the preset `preset` divided by `splits`; EfficientNet with CIFAR strides."""
    family = preset.family.__name__.rsplit(".", 1)[1]
    return _BUILDERS[family](preset.divided(splits).spec, splits, classes, how)


def _residual(spec, classes: int, pool: str, width: int, last: int, blocks=None, **options) -> nn.Module:
    blocks = blocks or spec.blocks
    if len(blocks) == 3:
        return residual.network(blocks, (width,), width, classes, **options)
    return residual.imagenet(blocks, width, last, pool, classes, **options)


def _resnet(spec, splits, classes, how):
    return _residual(spec, classes, "padded", spec.width, 2 * spec.width, how=how)


def _wrn(spec, splits, classes, how):
    if spec.depth == 50:
        options = {"base_width": 64 * spec.width, "blocks": (3, 4, 6, 3), "how": how}
        return _residual(spec, classes, "padded", spec.stem, 2 * spec.stem, **options)
    return residual.cifar_wrn(spec.depth, spec.width, classes, how=how)


def _resnext(spec, splits, classes, how):
    options = {"groups": spec.groups, "base_width": spec.base_width, "how": how}
    return _residual(spec, classes, "padded", spec.width, 2 * spec.width, **options)


def _se_resnet(spec, splits, classes, how):
    reduction = 4 if len(spec.blocks) == 3 else 16
    last = 2 * spec.width if spec.stem == "widening" else spec.width
    options = {"groups": spec.groups, "base_width": spec.base_width, "reduction": reduction, "how": how}
    return _residual(spec, classes, "ceil", spec.width, last, **options)


def _densenet(spec, splits, classes, how):
    return densenet.network(spec.depth, spec.growth, classes)


def _pyramidnet(spec, splits, classes, how):
    return pyramidnet.network(spec.depth, spec.alpha, 1, classes, spec.shake_drop)


def _shake_shake(spec, splits, classes, how):
    return shake.network(6 * spec.blocks + 2, spec.width, classes, how=how)


def _resnexst(spec, splits, classes, how):
    options = {"groups": spec.groups, "base_width": spec.base_width, "split": True, "how": how}
    return _residual(spec, classes, "ceil", spec.width, 2 * spec.width, **options)


def _efficientnet(spec, splits, classes, how):
    return efficientnet.network(efficientnet.published(spec.width, spec.depth, splits, "cifar"), classes)


_BUILDERS = {
    "resnet": _resnet, "wrn": _wrn, "resnext": _resnext, "se_resnet": _se_resnet, "densenet": _densenet,
    "pyramidnet": _pyramidnet, "shake_shake": _shake_shake, "resnexst": _resnexst, "efficientnet": _efficientnet,
}  # fmt: skip
