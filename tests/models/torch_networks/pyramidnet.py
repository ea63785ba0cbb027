"""PyramidNet of bottlenecks with ShakeDrop, as it evaluates."""

import math

from torch import nn
from torch.nn import functional

from tests.models.torch_networks.parts import Chain, Network, conv, norm


class Pyramidal(Chain):
    """(1 - drop) path(x) + shortcut(x), which pools where it strides and appends channels of zeros."""

    def __init__(self, path: dict[str, nn.Module], stride: int, grown: int, drop: float):
        super().__init__(path)
        self.stride, self.grown, self.drop = stride, grown, drop

    def forward(self, x):
        y = (1 - self.drop) * self.path(x)
        if self.stride > 1:
            x = functional.avg_pool2d(x, 2, 2)
        return y + functional.pad(x, (0, 0, 0, 0, 0, self.grown))


def block(inputs: int, p: int, stride: int, drop: float) -> Pyramidal:
    path = {
        "bn1": norm(inputs), "conv1": conv(inputs, p, 1),
        "bn2": norm(p), "relu2": nn.ReLU(), "conv2": conv(p, p, 3, stride),
        "bn3": norm(p), "relu3": nn.ReLU(), "conv3": conv(p, 4 * p, 1),
        "bn4": norm(4 * p),
    }  # fmt: skip
    return Pyramidal(path, stride, 4 * p - inputs, drop)


def network(depth: int, alpha: float, splits: int, classes: int, drop: float = 0.5) -> Network:
    """Three stages of (depth - 2) / 9 blocks; width i is f_(i-1) + alpha / (blocks sqrt(S)), rounded half to even."""
    count = (depth - 2) // 9
    blocks, f, inputs, stages = 3 * count, 16.0, 16, []
    last = drop / math.sqrt(splits)
    for i in range(3):
        stage = []
        for j in range(count):
            f += alpha / (blocks * math.sqrt(splits))
            p = round(f)
            stage.append(block(inputs, p, 2 if i and not j else 1, last * (i * count + j + 1) / blocks))
            inputs = 4 * p
        stages.append(nn.Sequential(*stage))
    stem = nn.Sequential(conv(3, 16, 3), norm(16))
    return Network(stem, stages, nn.Sequential(norm(inputs), nn.ReLU()), inputs, classes)
