"""Progress bar of an epoch, and the line printed after each epoch."""

import sys
from typing import Any

from tqdm import tqdm


class Bar:
    """Progress bar on standard error: images done (or another `unit`), images per second, and time left."""

    def __init__(self, title: str, images: int, done: int = 0, unit: str = "img"):
        pause = 0.5 if sys.stderr.isatty() else 30.0  # few lines for a log file
        self._bar = tqdm(
            total=images,
            initial=done,
            desc=title,
            unit=unit,
            unit_scale=unit == "img",
            leave=False,
            mininterval=pause,
            delay=pause,
        )

    def advance(self, images: int, values: dict[str, float]) -> None:
        """Advance the bar by a number of images and show values, such as the loss, beside it."""
        self._bar.set_postfix({name: f"{value:.4g}" for name, value in values.items()}, refresh=False)
        self._bar.update(images)

    def close(self) -> None:
        self._bar.close()


def percents(values: list[float]) -> str:
    return " ".join(f"{100 * value:.2f}" for value in values)


def scores(row: dict[str, Any]) -> str:
    """Return the accuracy or mean IoU of each branch, and of the ensemble if it has one, as text in percent."""
    name = "miou" if "ensemble_miou" in row else "accuracy"
    together = row[f"ensemble_{name}"]
    text = f"branches {percents(row[f'branch_{name}'])}"
    text = f"mIoU {text}" if name == "miou" else text
    return text if together is None else f"{text}  ensemble {percents([together])}"


def epoch_line(row: dict[str, Any], epochs: int) -> str:
    """Return the line to print after an epoch, from its row of metrics.jsonl; `epochs` is the number of all."""
    parts = [
        f"epoch {row['epoch'] + 1}/{epochs}",
        f"lr {row['lr']:.4g}",
        f"loss {row['loss']:.4f}",
        f"agreement {row['agreement']:.4f}",
        f"train {scores(row)}",
    ]
    for name in ("validation", "validation_ema", "test", "test_ema"):
        if name in row:
            parts.append(f"{name} {scores(row[name])}")
    return "  ".join([*parts, f"{row['images_per_second']:.0f} img/s"])
