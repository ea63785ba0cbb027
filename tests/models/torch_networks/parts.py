"""Pieces that the torch networks share."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional


class Registration(NamedTuple):
    """How a block writes its shortcut down: `before` or `after` its path, under which name."""

    place: str = "after"
    shortcut: str = "downsample"


class Normalised(nn.Module):
    """net((x / 255 - mean) / std) of images [B, 3, H, W] in 0..255; adds nothing to the state dict but net's."""

    def __init__(self, mean, std):
        super().__init__()
        self.mean, self.std = (torch.tensor(v).view(1, 3, 1, 1) for v in (mean, std))

    def forward(self, images):
        return (images / 255 - self.mean) / self.std


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, bias: bool = False) -> nn.Conv2d:
    """(kernel - 1) / 2 zeros on every side."""
    return nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, groups=groups, bias=bias)


def norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-5, momentum=0.1)


class Chain(nn.Module):
    """path(x) step by step; extras (a shortcut) are written down before or after it and run by subclasses."""

    def __init__(
        self, path: dict[str, nn.Module], shortcut: nn.Module | None = None, how: Registration = Registration()
    ):
        super().__init__()
        own = {how.shortcut: shortcut} if shortcut is not None else {}
        for name, module in ({**own, **path} if how.place == "before" else {**path, **own}).items():
            self.add_module(name, module)
        self.steps, self.way = list(path), how.shortcut if own else None

    def path(self, x):
        for name in self.steps:
            x = getattr(self, name)(x)
        return x

    def beside(self, x):
        return getattr(self, self.way)(x) if self.way else x

    def forward(self, x):
        return self.path(x)


class Residual(Chain):
    """relu(shortcut(x) + path(x))."""

    def forward(self, x):
        return functional.relu(self.beside(x) + self.path(x))


def pooled_shortcut(inputs: int, outputs: int, stride: int) -> nn.Module | None:
    """Identity, or [2x2 mean (ceil mode, borders not counted),] 1x1, BN where the shape changes."""
    if stride == 1 and inputs == outputs:
        return None
    pool = [nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)] if stride > 1 else []
    return nn.Sequential(*pool, conv(inputs, outputs, 1), norm(outputs))


class SqueezeExcite(nn.Module):
    """x * sigmoid(W2 act(W1 mean(x))), both with bias."""

    def __init__(self, channels: int, squeezed: int, activation: Callable = functional.relu):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.activation = activation

    def forward(self, x):
        y = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.fc2(self.activation(self.fc1(y))))


class Network(nn.Module):
    """Stem, stages, end (what follows the last stage), global mean, dense; `dropout` is silent when evaluating."""

    def __init__(self, stem: nn.Module, stages: list[nn.Module], end: nn.Module, width: int, classes: int):
        super().__init__()
        self.stem = stem
        for i, stage in enumerate(stages):
            self.add_module(f"layer{i + 1}", stage)
        self.count, self.end = len(stages), end
        self.fc = nn.Linear(width, classes)

    def forward(self, x):
        x = self.stem(x)
        for i in range(self.count):
            x = getattr(self, f"layer{i + 1}")(x)
        return self.fc(self.end(x).mean((2, 3)))


class Divided(nn.Module):
    """logits [B, S, C] of S networks that share nothing; their weights begin models.0, models.1, ..."""

    def __init__(self, branches: list[nn.Module]):
        super().__init__()
        self.models = nn.ModuleList(branches)

    def forward(self, x):
        return torch.stack([model(x) for model in self.models], 1)


def shuffled(model: nn.Module, seed: int) -> nn.Module:
    """Random weights of a size that lets signals through, and random statistics; set to evaluate."""
    draw = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=draw)
            nn.init.normal_(module.bias, 0, 0.2, generator=draw)
            nn.init.normal_(module.running_mean, 0, 0.2, generator=draw)
            nn.init.uniform_(module.running_var, 0.5, 1.5, generator=draw)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            nn.init.normal_(module.weight, 0, fan_in**-0.5, generator=draw)
            if module.bias is not None:
                nn.init.normal_(module.bias, 0, 0.2, generator=draw)
    return model.eval()
