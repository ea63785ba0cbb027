"""Which LiteRT files are made of a member, what each of them loses, and what is done about one that loses too much."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np

from dico_tf.errors import UserError
from dico_tf.export import litert
from dico_tf.export.manifest import LITERT
from dico_tf.export.material import Material
from dico_tf.training.progress import Bar


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Converted:
    path: Path
    logits: np.ndarray | None = None  # [N, C]; where nothing was compared, None
    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conversions:
    kinds: tuple[str, ...] = ("float32",)
    batch: int = 1  # pictures of a call; 0: any number
    max_accuracy_drop: float = 1.0  # points
    fallback: bool = False

    def files(
        self, name: str, saved_model: Path, folder: Path, material: Material, expected: np.ndarray | None
    ) -> dict[str, Converted]:
        """By kind, the safest first; `expected` are the network's logits, None where nothing is compared."""
        paths = {kind: folder / f"{name}_{kind}.tflite" for kind in LITERT}
        make = functools.partial(litert.convert, saved_model, batch=self.batch, images=material.calibration)
        asked = sorted(self.kinds, key=LITERT.index)
        make({kind: paths[kind] for kind in asked})  # in one process: each takes seconds to start
        found: dict[str, Converted] = {}
        for kind in asked:
            while kind not in found:
                if not paths[kind].exists():
                    make({kind: paths[kind]})
                made = _compared(paths[kind], material, expected)
                lost = _lost(made, expected, material)
                if lost <= self.max_accuracy_drop + 1e-6:  # which is none of ten million images
                    found[kind] = made
                elif self.fallback and kind != LITERT[0]:
                    made.path.unlink()
                    kind = LITERT[LITERT.index(kind) - 1]
                else:
                    raise UserError(self._refusal(name, kind, made.metrics, lost, material))
        return found

    def _refusal(self, name: str, kind: str, measured: dict[str, Any], lost: float, material: Material) -> str:
        now = 100 * measured["top1"]
        return (
            f"{name} as {kind} loses {lost:.2f} points of accuracy, more than --max_accuracy_drop="
            f"{self.max_accuracy_drop:g}: {now + lost:.2f} % became {now:.2f} % on {len(material.images)} "
            f"{material.split} images (the same class in {100 * measured['same_class']:.2f} %, NLL "
            f"{measured['nll']:.4f}, ECE {measured['ece']:.4f}, logits up to "
            f"{measured['largest_difference']:.3g} away); "
            f"nothing was exported. Leave {kind} out of --quantise, give --fallback to take the next safer kind "
            "instead, or a larger --max_accuracy_drop"
        )


def _compared(path: Path, material: Material, expected: np.ndarray | None) -> Converted:
    if expected is None:
        return Converted(path=path)
    bar = Bar(f"comparing {path.name}", len(material.images))
    try:
        outcome = litert.run(path, material.images, bar)
    finally:
        bar.close()
    measured = litert.compared(outcome.logits, expected, material.labels)
    measured["milliseconds"] = round(outcome.milliseconds, 4)
    return Converted(path=path, logits=outcome.logits, metrics=measured)


def _lost(made: Converted, expected: np.ndarray | None, material: Material) -> float:
    """Points of accuracy."""
    if expected is None:
        return 0.0
    return 100 * (litert.scores(expected, material.labels)["top1"] - made.metrics["top1"])
