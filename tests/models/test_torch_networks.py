"""The torch networks against the published counts: what our networks are compared with must itself be right."""

import math

import pytest

torch = pytest.importorskip("torch")

from tests.models.torch_networks import densenet, efficientnet, pyramidnet, residual, shake  # noqa: E402

STEM, K8, K10, SHAKE = {1: 16, 2: 12, 4: 8}, {1: 8, 2: 6, 4: 4}, {1: 10, 2: 7, 4: 5}, {1: 96, 2: 64, 4: 48}
DEEP50, DEEP101 = (3, 4, 6, 3), (3, 4, 23, 3)


def _efficientnet(width: float, depth: float, layout: str = "cifar"):
    return lambda s, c: efficientnet.network(efficientnet.published(width, depth, s, layout), c)


# Name: builder of a branch from S and classes, classes, parameters of all branches for S = 1, 2, 4
COUNTED = {
    "ResNet-110": (lambda s, c: residual.cifar_resnet(110, STEM[s], c), 100, (1_170_868, 1_333_472, 1_214_256)),
    "ResNet-164": (lambda s, c: residual.cifar_resnet(164, STEM[s], c), 100, (1_727_284, 1_962_464, 1_778_736)),
    "SE-ResNet-110": (
        lambda s, c: residual.cifar_resnet(110, STEM[s], c, reduction=4),
        100,
        (1_693_684, 1_924_160, 1_743_792),
    ),
    "SE-ResNet-164": (
        lambda s, c: residual.cifar_resnet(164, STEM[s], c, reduction=4),
        100,
        (2_511_508, 2_848_496, 2_573_040),
    ),
    "EfficientNet-B0": (_efficientnet(1.0, 1.0), 100, (4_135_648, 4_283_838, 4_521_972)),
    "EfficientNet-B3": (_efficientnet(1.2, 1.4), 100, (10_849_932, 10_993_938, 11_523_956)),
    "WRN-16-8": (lambda s, c: residual.cifar_wrn(16, K8[s], c), 100, (11_009_332, 12_416_232, 11_091_664)),
    "WRN-28-10": (lambda s, c: residual.cifar_wrn(28, K10[s], c), 100, (36_539_124, 35_855_016, 36_650_576)),
    "WRN-40-10": (lambda s, c: residual.cifar_wrn(40, K10[s], c), 100, (55_901_684, 54_834_088, 56_022_096)),
    "ResNeXt-29 8x64d": (
        lambda s, c: residual.cifar_resnext(8 // s, c),
        100,
        (34_518_948, 35_309_384, 36_890_256),
    ),
    "DenseNet-BC-190": (
        lambda s, c: densenet.network(190, densenet.growth(40, s), c),
        100,
        (25_821_780, 25_506_324, 26_300_360),
    ),
    "PyramidNet-272": (
        lambda s, c: pyramidnet.network(272, 200, s, c),
        100,
        (26_288_692, 28_867_010, 32_771_680),
    ),
    "Shake-Shake 26 2x96d": (
        lambda s, c: shake.network(26, SHAKE[s], c),
        10,
        (26_192_938, 23_307_988, 26_250_280),
    ),
}


def _parameters(build, splits: int, classes: int, statistics: bool = False) -> int:
    with torch.device("meta"):
        network = build(splits, classes)
    running = [b for name, b in network.named_buffers() if statistics and "running" in name]
    return sum(math.prod(value.shape) for value in [*network.parameters(), *running])


@pytest.mark.parametrize("splits", [1, 2, 4])
@pytest.mark.parametrize("name", COUNTED)
def test_a_cifar_branch_has_the_counted_parameters(name, splits):
    build, classes, totals = COUNTED[name]
    assert splits * _parameters(build, splits, classes) == totals[{1: 0, 2: 1, 4: 2}[splits]]


def test_what_the_counts_leave_out_is_as_large_as_said():
    never_run = _parameters(lambda s, c: shake.network(26, 96, c, never_run=True), 1, 10)
    assert never_run - COUNTED["Shake-Shake 26 2x96d"][2][0] == 584_640
    without_stem_norm = _parameters(lambda s, c: densenet.network(190, 40, c, stem_norm=False), 1, 100)
    assert COUNTED["DenseNet-BC-190"][2][0] - without_stem_norm == 160


def _imagenet(blocks, last: int, pool: str, **options):
    return lambda s, c: residual.imagenet(blocks, 64, last, pool, c, **options)


def _split(groups: int, base_width: int):
    return _imagenet(DEEP50, 128, "ceil", groups=groups, base_width=base_width, split=True)


# Name: builder, published millions of parameters, whether they include batch statistics
PUBLISHED = {
    "ResNet-50": (_imagenet(DEEP50, 128, "padded"), 25.7, False),
    "ResNet-101": (_imagenet(DEEP101, 128, "padded"), 44.8, True),
    "SE-ResNet-50": (_imagenet(DEEP50, 64, "ceil", reduction=16), 28.2, False),
    "WRN-50-2": (_imagenet(DEEP50, 128, "padded", base_width=128), 68.9, False),
    "WRN-50-3": (_imagenet(DEEP50, 128, "padded", base_width=192), 135.0, False),
    "ResNeXt-101 64x4d": (_imagenet(DEEP101, 128, "padded", base_width=4, groups=64), 83.6, False),
    "ResNeXSt-50 4x16d": (_split(4, 16), 17.8, True),
    "ResNeXSt-50 8x16d": (_split(8, 16), 30.5, True),
    "ResNeXSt-50 4x32d": (_split(4, 32), 37.1, True),
    "EfficientNet-B7": (_efficientnet(2.0, 3.1, "imagenet"), 66.7, True),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_an_imagenet_network_has_the_published_size(name):
    build, millions, statistics = PUBLISHED[name]
    slack = 0.12 if name == "WRN-50-2" else 0.051  # counted 69.01
    assert _parameters(build, 1, 1000, statistics) / 1e6 == pytest.approx(millions, abs=slack)
