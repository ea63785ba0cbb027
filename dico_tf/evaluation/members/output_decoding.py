"""What a network says, read as logits of the data's classes: a background class is dropped, probabilities logged."""

from typing import Any

import numpy as np

from dico_tf.errors import UserError

OUTPUTS = ("auto", "logits", "probabilities")
BACKGROUND = ("auto", "first", "none")
_TINY = float(np.finfo(np.float32).tiny)
_SUM = 1e-2  # how far float probabilities, of half precision even, may add up beside 1


class OutputDecoder:
    """outputs [B, classes (+ 1)] -> logits float32 [B, classes]; what they are is found out on the first batch."""

    def __init__(self, outputs: str = "auto", background: str = "auto", classes: int = 0) -> None:
        for name, value, choices in (("outputs", outputs, OUTPUTS), ("background", background, BACKGROUND)):
            if value not in choices:
                raise UserError(f"?{name}={value} is none of {', '.join(choices)}")
        self.settings: dict[str, Any] = {"outputs": outputs, "background": background, "classes": classes}
        self.said = ""  # what was found out, for people
        self._kind = "" if outputs == "auto" else outputs

    @property
    def kind(self) -> str:
        """logits or probabilities; nothing before that was found out."""
        return self._kind

    def __call__(self, values: np.ndarray, step: float = 0.0, name: str = "the member") -> np.ndarray:
        values = np.asarray(values, np.float32)
        if values.ndim != 2:
            raise UserError(f"{name} answers {list(values.shape)}: a classifier gives one score per class [B, C]")
        first = not self._kind
        if first:
            self._kind = "probabilities" if are_probabilities(values, step) else "logits"
        dropped = self.drops(values.shape[1])
        if first:
            self.said = self._sentence(name, values.shape[1], dropped, step)
        classes = values[:, dropped:]
        if self._kind == "logits":
            return np.ascontiguousarray(classes)
        if (values < -_SUM).any() or (values > 1 + _SUM).any():
            raise UserError(
                f"{name} was to give probabilities, and gives numbers from {values.min():.4g} to {values.max():.4g}: "
                "spell it with ?outputs=logits"
            )
        return np.log(np.maximum(classes, smallest_probability(step, classes.shape[1])))

    def drops(self, outputs: int) -> int:
        """1 where the first output is a background class."""
        if self.settings["background"] != "auto":
            return int(self.settings["background"] == "first")
        return int(outputs == self.settings["classes"] + 1 and outputs > 2)

    def _sentence(self, name: str, outputs: int, dropped: int, step: float) -> str:
        steps = f" in steps of 1/{1 / step:.0f}" if step and self._kind == "probabilities" else ""
        logged = ", whose logarithms are taken" if self._kind == "probabilities" else ""
        background = "; the first, the background, is left out" if dropped else ""
        return f"{name} answers with {outputs} {self._kind}{steps}{logged}{background}"


def are_probabilities(values: np.ndarray, step: float = 0.0) -> bool:
    """Whether rows are probabilities: within 0..1, and adding up to about 1. Steps add their roundings up."""
    if not np.isfinite(values).all() or values.min() < -1e-6 or values.max() > 1 + 1e-3:
        return False
    allowed = max(0.1, values.shape[1] * step / 8) if step else _SUM
    return bool((abs(values.sum(1, dtype=np.float64) - 1) <= allowed).all())


def smallest_probability(step: float, classes: int) -> float:
    """Of a probability before its logarithm; classes that were rounded to 0 have one step together."""
    return step / classes if step else _TINY
