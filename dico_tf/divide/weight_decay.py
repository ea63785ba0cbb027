"""Weight decay of the whole by preset, and its division among S branches."""

import math

from dico_tf.config import Config
from dico_tf.data.known_datasets import CIFAR_LARGEST

OTHERWISE = 1e-4
PUBLISHED = {  # of the paper's recipes, where they differ from that
    "wrn_28_10": 5e-4,
    "wrn_40_10": 5e-4,
    "resnext_29_8x64d": 5e-4,
    "resnext_29_16x64d": 5e-4,
    "efficientnet_b3": 5e-4,
    "resnet_50": 5e-5,
}
EFFICIENTNET_IMAGENET = 1e-5
X3D = 5e-5
# Of LAMB and AdamW, where decay is no part of the gradient: of ViT that of DeiT III, of the others our choice.
DECOUPLED = 0.05
DECOUPLED_FAMILIES = ("vit_", "pit_", "xcit_", "swin_", "convnext_")


def of_whole(config: Config, image_size: int) -> float:
    """What was asked for; -1 asks for the published one of the preset."""
    asked, model = config.optimisation.weight_decay, config.network.model
    if asked != -1:
        return asked
    if config.optimisation.optimizer != "sgd" and model.startswith(DECOUPLED_FAMILIES):
        return DECOUPLED
    if model.startswith(("tf_efficientnet_", "torch_efficientnet_")):
        return EFFICIENTNET_IMAGENET
    if model.startswith("efficientnet_") and image_size > CIFAR_LARGEST:
        return EFFICIENTNET_IMAGENET
    if model.startswith("x3d_"):
        return X3D
    return PUBLISHED.get(model, OTHERWISE)


def of_branch(config: Config, image_size: int) -> float:
    return divided(of_whole(config, image_size), config.network.splits, config.optimisation.weight_decay_division)


def divided(whole: float, splits: int, rule: str) -> float:
    """none: wd; linear: wd / S; exp: wd * exp(1 / S - 1), the paper's Eq. 6."""
    factors = {"none": 1.0, "linear": 1 / splits, "exp": math.exp(1 / splits - 1)}
    return whole * factors[rule]
