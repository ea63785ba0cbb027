"""ResNet, WRN, ResNeXt, SE nets and ResNeXSt: post-activation blocks in three (CIFAR) or four stages."""

import math

from torch import nn
from torch.nn import functional

from tests.models.torch_networks.parts import (
    Network,
    Registration,
    Residual,
    SqueezeExcite,
    conv,
    norm,
    pooled_shortcut,
)


class SplitAttention(nn.Module):
    """3x3 -> 2m in 2 groups; relu(BN); halves weighed by a softmax between them of W2 relu(BN(W1 mean(sum)))."""

    def __init__(self, inputs: int, width: int, groups: int):
        super().__init__()
        squeezed = max(math.floor(width * 2 / 4), 32)
        self.conv = conv(inputs, 2 * width, 3, groups=2 * groups)
        self.bn0 = norm(2 * width)
        self.fc1 = nn.Conv2d(width, squeezed, 1, groups=groups)
        self.bn1 = norm(squeezed)
        self.fc2 = nn.Conv2d(squeezed, 2 * width, 1, groups=groups)
        self.groups = groups

    def forward(self, x):
        x = functional.relu(self.bn0(self.conv(x)))
        first, second = x.chunk(2, 1)
        y = (first + second).mean((2, 3), keepdim=True)
        y = self.fc2(functional.relu(self.bn1(self.fc1(y))))
        y = y.view(len(y), self.groups, 2, -1).softmax(2)  # [B, groups, radix, m / groups]
        one, two = (y[:, :, r].reshape(*first.shape[:2], 1, 1) for r in (0, 1))
        return first * one + second * two


def basic(inputs: int, planes: int, stride: int, how: Registration) -> Residual:
    path = {
        "conv1": conv(inputs, planes, 3, stride), "bn1": norm(planes), "relu1": nn.ReLU(),
        "conv2": conv(planes, planes, 3), "bn2": norm(planes),
    }  # fmt: skip
    return Residual(path, pooled_shortcut(inputs, planes, stride), how)


def bottleneck(
    inputs: int, planes: int, stride: int, how: Registration, *,
    base_width: int = 64, groups: int = 1, reduction: int = 0, split: bool = False, pool: bool = False,
    senet: bool = False, plain: bool = False,
) -> Residual:  # fmt: skip
    """1x1 -> m, 3x3 -> m, 1x1 -> 4p[, SE]; with `split` the 3x3 splits its attention and a mean pool strides.

    SENet-154 (Hu et al. 2018, section 6): the first 1x1 -> m / 2, and 3x3 in a shortcut that strides; `plain`
    shortcuts (He et al. 2015) stride by their 1x1.
    """
    m = math.floor(planes * base_width / 64) * groups
    first = m // 2 if senet else m
    path = {"conv1": conv(inputs, first, 1), "bn1": norm(first), "relu1": nn.ReLU()}
    if split:
        path["conv2"] = SplitAttention(m, m, groups)
        if pool:
            path["pool"] = nn.AvgPool2d(3, stride, padding=1, count_include_pad=True)
    else:
        path |= {"conv2": conv(first, m, 3, stride, groups), "bn2": norm(m), "relu2": nn.ReLU()}
    path |= {"conv3": conv(m, 4 * planes, 1), "bn3": norm(4 * planes)}
    if reduction:
        path["se"] = SqueezeExcite(4 * planes, 4 * planes // reduction)
    shortcut = pooled_shortcut(inputs, 4 * planes, stride)
    if senet and stride > 1:
        shortcut = nn.Sequential(conv(inputs, 4 * planes, 3, stride), norm(4 * planes))
    if plain and shortcut is not None:
        shortcut = nn.Sequential(conv(inputs, 4 * planes, 1, stride), norm(4 * planes))
    return Residual(path, shortcut, how)


def stem(widths: tuple[int, ...], pool: str, kernel: int = 3) -> nn.Sequential:
    """3x3 convolutions; before a `pool` (padded or ceil) the first of them strides."""
    layers: list[nn.Module] = []
    for i, (inputs, outputs) in enumerate(zip((3, *widths), widths, strict=False)):
        layers += [conv(inputs, outputs, kernel, 2 if pool and not i else 1), norm(outputs), nn.ReLU()]
    pools = {"padded": [nn.MaxPool2d(3, 2, padding=1)], "ceil": [nn.MaxPool2d(3, 2, ceil_mode=True)], "": []}
    return nn.Sequential(*layers, *pools[pool])


def network(
    blocks: tuple[int, ...], stem_widths: tuple[int, ...], planes: int, classes: int, *, kind: str = "bottleneck",
    pool: str = "", how: Registration = Registration(), **options,
) -> Network:  # fmt: skip
    inputs, stages = stem_widths[-1], []
    for i, count in enumerate(blocks):
        p, stage = planes * 2**i, []
        for j in range(count):
            stride = 2 if i and not j else 1
            if kind == "basic":
                stage.append(basic(inputs, p, stride, how))
            else:
                pooled = {"pool": i > 0} if options.get("split") else {}
                stage.append(bottleneck(inputs, p, stride, how, **options, **pooled))
            inputs = p if kind == "basic" else 4 * p
        stages.append(nn.Sequential(*stage))
    entered = stem(stem_widths, pool, 7 if options.get("plain") else 3)
    return Network(entered, stages, nn.Identity(), inputs, classes)


def cifar_resnet(depth: int, width: int, classes: int, **options) -> Network:
    return network(((depth - 2) // 9,) * 3, (width,), width, classes, **options)


def cifar_wrn(depth: int, k: int, classes: int, **options) -> Network:
    return network(((depth - 4) // 6,) * 3, (16,), 16 * k, classes, kind="basic", **options)


def cifar_resnext(groups: int, classes: int, blocks: int = 3, width: int = 64, **options) -> Network:
    """29 layers: three blocks a stage, p = width, 2 width, 4 width."""
    return network((blocks,) * 3, (width,), width, classes, groups=groups, **options)


def imagenet(blocks: tuple[int, ...], width: int, last: int, pool: str, classes: int = 1000, **options) -> Network:
    """Deep stem width-width-last, pooled."""
    return network(blocks, (width, width, last), width, classes, pool=pool, **options)
