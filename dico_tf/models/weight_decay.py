"""Weight decay of training recipes, and its division among S branches."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightDecay:
    """Weight decay that a recipe gives the whole network."""

    coupled: float = 1e-4  # added to the gradient, as with SGD
    coupled_imagenet: float | None = None  # the same on images larger than CIFAR's; None = `coupled`
    decoupled: float | None = None  # apart from the gradient, as with AdamW and LAMB; None = as with SGD

    def rate(self, layout: str, decoupled: bool) -> float:
        """Return the weight decay for images of this layout (cifar, imagenet, segmentation or video)."""
        if decoupled and self.decoupled is not None:
            return self.decoupled
        if layout == "imagenet" and self.coupled_imagenet is not None:
            return self.coupled_imagenet
        return self.coupled


PAPER = WeightDecay()  # of most recipes of arXiv 2011.14660
# With AdamW and LAMB the recipe of DeiT III (Touvron et al. 2022) for ViT; other families take it by our choice.
TRANSFORMERS = WeightDecay(decoupled=0.05)


def divided(whole: float, splits: int, rule: str) -> float:
    """Return the weight decay of one of S branches.

    none: wd; linear: wd / S; exp: wd * exp(1 / S - 1), Eq. 6 of arXiv 2011.14660.
    """
    factors = {"none": 1.0, "linear": 1 / splits, "exp": math.exp(1 / splits - 1)}
    return whole * factors[rule]
