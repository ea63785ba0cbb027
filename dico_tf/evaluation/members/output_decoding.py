"""Decoding of a network's outputs to logits: drop a background class, take the logarithm of probabilities."""

from typing import Any

import numpy as np

from dico_tf.errors import UserError

OUTPUTS = ("auto", "logits", "probabilities")
BACKGROUND = ("auto", "first", "none")
_TINY = float(np.finfo(np.float32).tiny)
_SUM = 1e-2  # how far the sum of float16 probabilities may be from 1


class OutputDecoder:
    """Callable: outputs [B, classes (+ 1)] -> logits float32 [B, classes]."""

    def __init__(self, outputs: str = "auto", background: str = "auto", classes: int = 0) -> None:
        """Choose the decoding.

        Args:
            outputs: "logits", "probabilities", or "auto" = the first batch decides.
            background: "first" = leave out the first output, "none", or "auto" = leave it out if there is one output
                more than `classes`, and `classes` is 2 or more.
            classes: number of classes of the data; 0 = unknown.

        Raises UserError for other values of `outputs` or `background`.
        """
        for name, value, choices in (("outputs", outputs, OUTPUTS), ("background", background, BACKGROUND)):
            if value not in choices:
                raise UserError(f"?{name}={value} must be one of {', '.join(choices)}")
        self.settings: dict[str, Any] = {"outputs": outputs, "background": background, "classes": classes}
        self.description = ""  # a sentence about the outputs, after the first batch
        self._kind = "" if outputs == "auto" else outputs

    @property
    def kind(self) -> str:
        """ "logits" or "probabilities"; "" before the first batch has decided."""
        return self._kind

    def __call__(self, values: np.ndarray, step: float = 0.0, name: str = "the member") -> np.ndarray:
        """Return the logits; raises UserError if `values` cannot be the outputs that were chosen or detected.

        Args:
            step: distance between two neighbouring output values if quantised, else 0.
            name: of the member, for messages.
        """
        values = np.asarray(values, np.float32)
        if values.ndim != 2:
            raise UserError(f"{name}: expected one score per class [B, C], got {list(values.shape)}")
        first = not self._kind
        if first:
            self._kind = "probabilities" if are_probabilities(values, step) else "logits"
        dropped = self.drops(values.shape[1])
        if first:
            self.description = self._sentence(name, values.shape[1], dropped, step)
        classes = values[:, dropped:]
        if self._kind == "logits":
            return np.ascontiguousarray(classes)
        if (values < -_SUM).any() or (values > 1 + _SUM).any():
            raise UserError(
                f"{name}: expected probabilities, got values from {values.min():.4g} to {values.max():.4g}; "
                "give ?outputs=logits"
            )
        return np.log(np.maximum(classes, smallest_probability(step, classes.shape[1])))

    def drops(self, outputs: int) -> int:
        """Return 1 if the first output is left out as the background class, else 0; `outputs` is their number."""
        if self.settings["background"] != "auto":
            return int(self.settings["background"] == "first")
        return int(outputs == self.settings["classes"] + 1 and outputs > 2)

    def _sentence(self, name: str, outputs: int, dropped: int, step: float) -> str:
        steps = f" in steps of 1/{1 / step:.0f}" if step and self._kind == "probabilities" else ""
        logged = ", whose logarithms are taken" if self._kind == "probabilities" else ""
        background = "; the first, the background, is left out" if dropped else ""
        return f"{name} answers with {outputs} {self._kind}{steps}{logged}{background}"


def are_probabilities(values: np.ndarray, step: float = 0.0) -> bool:
    """Return True if every row is of probabilities: values in 0..1 whose sum differs from 1 by at most 0.01.

    For C quantised outputs the limit is max(0.1, C * step / 8) instead, as their rounding errors add up.

    Args:
        values: [B, outputs].
        step: distance between two neighbouring values if quantised, else 0.
    """
    if not np.isfinite(values).all() or values.min() < -1e-6 or values.max() > 1 + 1e-3:
        return False
    allowed = max(0.1, values.shape[1] * step / 8) if step else _SUM
    return bool((abs(values.sum(1, dtype=np.float64) - 1) <= allowed).all())


def smallest_probability(step: float, classes: int) -> float:
    """Return the lower bound of probabilities before the logarithm: step / classes if quantised, else 1.2e-38."""
    return step / classes if step else _TINY
