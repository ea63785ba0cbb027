"""Shake-Shake, as it evaluates."""

import torch
from torch import nn
from torch.nn import functional

from tests.models.torch_networks.parts import Network, Registration, conv, norm


class Shortcut(nn.Module):
    """BN of 1x1 convolutions of every stride-th pixel, and of every stride-th pixel one further down and right."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.stride = stride
        self.conv1 = conv(inputs, outputs // 2, 1)
        self.conv2 = conv(inputs, outputs // 2, 1)
        self.bn = norm(outputs)

    def forward(self, x):
        x, s = functional.relu(x), self.stride
        shifted = functional.pad(x[:, :, 1:, 1:], (0, 1, 0, 1))
        paths = self.conv1(x[:, :, ::s, ::s]), self.conv2(shifted[:, :, ::s, ::s])
        return self.bn(torch.cat(paths, 1))


def branch(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ReLU(), conv(inputs, outputs, 3, stride), norm(outputs),
        nn.ReLU(), conv(outputs, outputs, 3), norm(outputs),
    )  # fmt: skip


class Shaken(nn.Module):
    """shortcut(x) + (branch1(x) + branch2(x)) / 2; an identity block may hold a shortcut that never runs."""

    def __init__(self, inputs: int, outputs: int, stride: int, how: Registration, never_run: bool):
        super().__init__()
        self.how, self.identity = how, inputs == outputs
        parts = {"branch1": branch(inputs, outputs, stride), "branch2": branch(inputs, outputs, stride)}
        own = {} if self.identity and not never_run else {how.shortcut: Shortcut(inputs, outputs, stride)}
        for name, part in ({**own, **parts} if how.place == "before" else {**parts, **own}).items():
            self.add_module(name, part)

    def forward(self, x):
        way = x if self.identity else getattr(self, self.how.shortcut)(x)
        return way + 0.5 * self.branch1(x) + 0.5 * self.branch2(x)


def network(
    depth: int, width: int, classes: int, *, never_run: bool = False, how: Registration = Registration()
) -> Network:
    """Three stages of (depth - 2) / 6 blocks, width, 2 width, 4 width."""
    inputs, stages = 16, []
    for i in range(3):
        stage = []
        for j in range((depth - 2) // 6):
            stage.append(Shaken(inputs, width * 2**i, 2 if i and not j else 1, how, never_run))
            inputs = width * 2**i
        stages.append(nn.Sequential(*stage))
    stem = nn.Sequential(conv(3, 16, 3, bias=True), norm(16))
    return Network(stem, stages, nn.ReLU(), inputs, classes)
