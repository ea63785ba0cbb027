"""EfficientNet variant (a): symmetric padding, CIFAR and ImageNet strides."""

import dataclasses
import math
from typing import NamedTuple

from torch import nn
from torch.nn import functional

from tests.models.torch_networks.parts import Chain, Network, SqueezeExcite, conv


class Widths(NamedTuple):
    stem: int
    groups: tuple[int, ...]
    head: int
    divisor: int


TABLE = {
    1: Widths(32, (16, 24, 40, 80, 112, 192, 320), 1280, 8),
    2: Widths(24, (12, 16, 24, 56, 80, 136, 224), 920, 4),
    4: Widths(16, (12, 16, 20, 40, 56, 96, 160), 640, 4),
}
EXPANSIONS, REPEATS, KERNELS = (1, 6, 6, 6, 6, 6, 6), (1, 2, 2, 3, 3, 4, 1), (3, 3, 5, 3, 5, 5, 3)
STRIDES = {"imagenet": (2, 1, 2, 2, 2, 1, 2, 1), "cifar": (1, 1, 2, 1, 2, 1, 1, 1)}  # stem, then the groups


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a network of seven groups is made of."""

    stem: int
    channels: tuple[int, ...]
    head: int
    repeats: tuple[int, ...] = REPEATS
    strides: tuple[int, ...] = STRIDES["cifar"]


def rounded(width: float, channels: int, divisor: int) -> int:
    if width == 1:
        return channels
    v = width * channels
    n = max(divisor, math.floor((v + divisor / 2) / divisor) * divisor)
    return n + divisor if n < 0.9 * v else n


def published(width: float, depth: float, splits: int, layout: str) -> Plan:
    stem, groups, head, divisor = TABLE[splits]
    channels = tuple(rounded(width, c, divisor) for c in groups)
    repeats = tuple(math.ceil(depth * n) for n in REPEATS)
    return Plan(rounded(width, stem, divisor), channels, rounded(width, head, divisor), repeats, STRIDES[layout])


def norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class Inverted(Chain):
    """path(x), with x added where the shape stays."""

    def __init__(self, path: dict[str, nn.Module], same: bool):
        super().__init__(path)
        self.same = same

    def forward(self, x):
        return x + self.path(x) if self.same else self.path(x)


def block(inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> Inverted:
    wide, path = inputs * expansion, {}
    if expansion > 1:
        path |= {"expand": conv(inputs, wide, 1), "bn0": norm(wide), "swish0": nn.SiLU()}
    path |= {
        "depthwise": conv(wide, wide, kernel, stride, groups=wide), "bn1": norm(wide), "swish1": nn.SiLU(),
        "se": SqueezeExcite(wide, max(inputs // 4, 1), functional.silu),
        "project": conv(wide, outputs, 1), "bn2": norm(outputs),
    }  # fmt: skip
    return Inverted(path, stride == 1 and inputs == outputs)


def network(plan: Plan, classes: int) -> Network:
    inputs, stages = plan.stem, []
    stem = nn.Sequential(conv(3, inputs, 3, plan.strides[0]), norm(inputs), nn.SiLU())
    for g, outputs in enumerate(plan.channels):
        blocks = []
        for j in range(plan.repeats[g]):
            stride = 1 if j else plan.strides[g + 1]
            blocks.append(block(inputs, outputs, KERNELS[g], stride, EXPANSIONS[g]))
            inputs = outputs
        stages.append(nn.Sequential(*blocks))
    end = nn.Sequential(conv(inputs, plan.head, 1), norm(plan.head), nn.SiLU())
    return Network(stem, stages, end, plan.head, classes)
