"""What views of any kind are told, and how they are saved."""

import abc
from collections.abc import Sequence
from typing import Any, Self

from dico_tf.views import keras_cv_operations

SETTINGS = ("policies", "splits", "seed", "fill", "same", "image_size")


class ViewMaker(abc.ABC):
    """Policies of S branches (with `same`, branch 0's for all) whose every draw begins with a seed."""

    def __init__(
        self,
        policies: Sequence[str],
        splits: int,
        seed: int,
        fill: Sequence[float],
        same: bool = False,
        image_size: int = 0,
    ) -> None:
        self.policies, self.splits, self.seed, self.fill, self.same = tuple(policies), splits, seed, tuple(fill), same
        self.image_size = image_size
        self._parse()
        keras_cv_operations.layers()  # here, where variables may be made, and not inside a step

    @abc.abstractmethod
    def _parse(self) -> None:
        """Policies become pieces; what does not fit is refused."""

    @property
    def drawn(self) -> int:
        """Views that are drawn and not repeated."""
        return 1 if self.same else self.splits

    def get_config(self) -> dict[str, Any]:
        return {name: list(v) if isinstance(v := getattr(self, name), tuple) else v for name in SETTINGS}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**config)
