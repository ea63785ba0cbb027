"""DenseNet-BC with a normalised stem."""

import math

import torch
from torch import nn

from tests.models.torch_networks.parts import Chain, Network, conv, norm


class Dense(Chain):
    """x beside what path makes of it."""

    def forward(self, x):
        return torch.cat([x, self.path(x)], 1)


def layer(inputs: int, growth: int) -> Dense:
    return Dense(
        {
            "bn1": norm(inputs), "relu1": nn.ReLU(), "conv1": conv(inputs, 4 * growth, 1),
            "bn2": norm(4 * growth), "relu2": nn.ReLU(), "conv2": conv(4 * growth, growth, 3),
        }
    )  # fmt: skip


def transition(inputs: int) -> nn.Sequential:
    return nn.Sequential(norm(inputs), nn.ReLU(), conv(inputs, inputs // 2, 1), nn.AvgPool2d(2))


def growth(whole: int, splits: int) -> int:
    """floor(2k / sqrt(S)) // 2."""
    return math.floor(2 * whole / math.sqrt(splits)) // 2


def network(depth: int, g: int, classes: int, stem_norm: bool = True) -> Network:
    """Three blocks of (depth - 4) / 6 layers."""
    width, stages = 2 * g, []
    entered = [norm(width), nn.ReLU()] if stem_norm else []
    stem = nn.Sequential(conv(3, width, 3), *entered)
    for block in range(3):
        layers: list[nn.Module] = []
        for _ in range((depth - 4) // 6):
            layers.append(layer(width, g))
            width += g
        if block < 2:
            layers.append(transition(width))
            width //= 2
        stages.append(nn.Sequential(*layers))
    return Network(stem, stages, nn.Sequential(norm(width), nn.ReLU()), width, classes)
