"""Weight decay of the whole by preset, and its division among S branches."""

import math

from dico_tf.config import Config

# Fact of the paper's recipes: the deeper or wider CIFAR nets decay more strongly than the common 1e-4.
PUBLISHED = {
    "wrn_28_10": 5e-4,
    "wrn_40_10": 5e-4,
}
OTHERWISE = 1e-4


def of_whole(config: Config) -> float:
    """What was asked for; -1 asks for the published one of the preset."""
    asked = config.optimisation.weight_decay
    return PUBLISHED.get(config.network.model, OTHERWISE) if asked == -1 else asked


def of_branch(config: Config) -> float:
    return divided(of_whole(config), config.network.splits, config.optimisation.weight_decay_division)


def divided(whole: float, splits: int, rule: str) -> float:
    """none: wd; linear: wd / S; exp: wd * exp(1 / S - 1), the paper's Eq. 6."""
    factors = {"none": 1.0, "linear": 1 / splits, "exp": math.exp(1 / splits - 1)}
    return whole * factors[rule]
