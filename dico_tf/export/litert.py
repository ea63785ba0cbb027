"""LiteRT files: made in another process, run by LiteRT itself and compared with what the network said."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import dico_tf
from dico_tf.errors import UserError
from dico_tf.evaluation import metrics
from dico_tf.runtime.litert import LiteRT
from dico_tf.training.progress import Bar

Wanted = dict[Path, dict[str, Path]]  # by SavedModel: {kind: file to make}
_WARM = 3  # calls before the first that is timed


class Outcome(NamedTuple):
    logits: np.ndarray  # [N, C]
    milliseconds: float  # median of a call with one thread, divided by its pictures


def convert(wanted: Wanted, batch: int = 1, images: Path | None = None) -> None:
    """All in one process, which takes seconds to start.

    UserError with the reason where a network has an operation that LiteRT does not know.
    """
    paths = [path for files in wanted.values() for path in files.values()]
    jobs = [_job(saved_model, files, batch, images) for saved_model, files in wanted.items()]
    bar = Bar("LiteRT files", len(paths), unit="file")

    def made(line: str) -> None:
        if Path(line) in paths:
            bar.advance(1, {})

    try:
        status, errors = _run_converter(jobs, made)
    finally:
        bar.close()
        for job in jobs:
            job.unlink()
    missing = [path.stem for path in paths if not path.exists()]
    if missing:
        raise UserError(f"{missing[0]} cannot be converted to LiteRT: {_reason(status, errors)}")


def _job(saved_model: Path, files: dict[str, Path], batch: int, images: Path | None) -> Path:
    """A file that tells the other process what to make of one SavedModel."""
    asked = {"saved_model": str(saved_model), "files": {kind: str(path) for kind, path in files.items()}}
    said = json.dumps({**asked, "batch": batch, "images": str(images) if images else ""})
    path = saved_model.with_name(f"{saved_model.name}.job.json")
    path.write_text(said, encoding="utf-8")
    return path


def _run_converter(jobs: Sequence[Path], say: Callable[[str], None]) -> tuple[int, str]:
    """Its status and standard error; `say` is told the lines that it prints."""
    paths = [str(Path(dico_tf.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-m", "dico_tf.export.convert", *map(str, jobs)]
    with (
        tempfile.TemporaryFile("w+", errors="replace") as errors,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        try:
            for line in process.stdout:
                say(line.strip())
            status = process.wait()
        except BaseException:
            process.kill()
            raise
        errors.seek(0)
        return status, errors.read()


def _reason(status: int, errors: str) -> str:
    """The lines of a traceback that say what is wrong."""
    if status < 0:
        return f"signal {-status} ended the converter; is there memory enough?"
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    named = [line for line in lines if "custom ops:" in line.lower() or "Ops:" in line or "error:" in line]
    return "; ".join(named[:3] or lines[-1:])


def run(path: Path, images: np.ndarray, bar=None) -> Outcome:
    """Logits of uint8 images [N, H, W, 3], by one thread; the last batch is filled up where batches have one size."""
    model = LiteRT(path, threads=1)
    call, batch = model.signature(), max(model.batch, 1)
    found, seconds = [], []
    for start in range(0, len(images), batch):
        part = images[start : start + batch].astype(np.float32)
        filled = np.pad(part, ((0, batch - len(part)), (0, 0), (0, 0), (0, 0)))
        for _ in range(_WARM if not found else 1):
            begun = time.perf_counter()
            logits = call(image=filled)["logits"]
            seconds.append(time.perf_counter() - begun)
        found.append(logits[: len(part)])
        if bar:
            bar.advance(len(part), {})
    return Outcome(np.concatenate(found), 1000 * float(np.median(seconds[_WARM - 1 :])) / batch)


def signature(path: Path) -> dict[str, list[str]]:
    """Names of what goes in and comes out."""
    found = LiteRT(path, threads=1).signature()
    return {"inputs": sorted(found.inputs), "outputs": sorted(found.outputs)}


def compared(found: np.ndarray, expected: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """top1, nll and ece of logits [N, C], and how far they are from the network's; endlessly where one is no number."""
    if not np.isfinite(found).all():
        return {"top1": 0.0, "nll": np.inf, "ece": 1.0, "largest_difference": np.inf, "same_class": 0.0}
    return {
        **scores(found, labels),
        "largest_difference": float(abs(found - expected).max()),
        "same_class": float((found.argmax(1) == expected.argmax(1)).mean()),
    }


def scores(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    whole = metrics.scores(logits, labels)
    return {name: whole[name] for name in ("top1", "nll", "ece")}
