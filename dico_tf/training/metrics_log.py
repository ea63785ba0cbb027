"""Metrics of a run: metrics.jsonl, with one object for each epoch, and the same in TensorBoard."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from dico_tf.data.thumbnails import thumbnails
from dico_tf.files import arrays, atomic

VIEWED_IMAGES = 8  # images whose views are shown in TensorBoard


class MetricsLog:
    """Writes metrics.jsonl and TensorBoard.

    Both are written anew at the start, from the `rows` of the checkpoint: a continued run has each epoch once.
    """

    def __init__(self, workdir: Path, rows: list[dict[str, Any]]):
        self._path, self._events = workdir / "metrics.jsonl", workdir / "tensorboard"
        self.rows = list(rows)
        self._write()
        shutil.rmtree(self._events, ignore_errors=True)
        self._writer = None
        for row in self.rows:
            self._draw(row)

    def add(self, row: dict[str, Any]) -> None:
        """Write the metrics of one epoch."""
        self.rows.append(row)
        self._write()
        self._draw(row)

    def _write(self) -> None:
        atomic.write_text(self._path, "".join(json.dumps(row) + "\n" for row in self.rows))

    def show_views(self, images: np.ndarray, views: list[np.ndarray], epoch: int) -> None:
        """Write views.npz, and one image to TensorBoard: a row for each branch, its views of the first eight images.

        Args:
            images: the first images [B, H, W, 3], or clips, as they are stored.
            views: S times [B, H, W, 3] in 0..255, or clips [B, T, H, W, 3], of which the first one's frames are shown.
        """
        small = {"image": images, **{f"branch_{s}": view for s, view in enumerate(views)}}
        content = {name: thumbnails(pixels[:VIEWED_IMAGES]) for name, pixels in small.items()}
        arrays.write(self._path.with_name("views.npz"), content, compressed=True)
        views = [view[0] if view.ndim == 5 else view for view in views]
        rows = [np.concatenate(list(view[:VIEWED_IMAGES]), axis=1) for view in views]
        sheet = np.clip(np.concatenate(rows, axis=0), 0, 255).astype(np.uint8)
        with self._board() as tf:
            tf.summary.image("views", sheet[None], step=epoch)

    def close(self) -> None:
        """Close TensorBoard's file. TensorFlow's errors are ignored: everything was flushed when it was written."""
        import tensorflow as tf

        if self._writer is not None:
            with contextlib.suppress(tf.errors.OpError):
                self._writer.close()

    @contextlib.contextmanager
    def _board(self) -> Iterator[ModuleType]:
        """Context manager: inside the block `tf.summary` writes to TensorBoard; it yields TensorFlow, and flushes."""
        import tensorflow as tf

        with atomic.refusals("workdir", self._path.parent):
            if self._writer is None:
                self._writer = tf.summary.create_file_writer(str(self._events))
            with self._writer.as_default():
                yield tf
                self._writer.flush()

    def _draw(self, row: dict[str, Any]) -> None:
        with self._board() as tf:
            for name, value in scalars(row).items():
                tf.summary.scalar(name, value, step=row["epoch"])


def scalars(row: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """Return the numbers of a row by their paths: {"accuracy": [a, b]} -> {"accuracy/0": a, "accuracy/1": b}.

    Text and None are left out, and so are `format` and `epoch`. The prefix is put before each path.
    """
    flat = {}
    for name, value in row.items():
        if isinstance(value, list):
            value = {str(i): v for i, v in enumerate(value)}
        if isinstance(value, dict):
            flat |= scalars(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)) and name not in ("format", "epoch"):
            flat[prefix + name] = value
    return flat
