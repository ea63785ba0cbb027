"""Runs the conversion of SavedModels in a separate process, because converters never free their memory."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import dico_tf
from dico_tf.errors import UserError
from dico_tf.training.progress import Bar

if TYPE_CHECKING:  # it imports this module
    from dico_tf.export.formats.format import ConvertedFormat, Job


def convert(
    format: "ConvertedFormat", jobs: Sequence["Job"], batch: int = 1, images: Path | None = None
) -> dict[Path, str]:
    """Convert SavedModels to the files of the jobs, all in one separate process, as its start takes seconds.

    Args:
        batch: images per call of a file; 0 = any number.
        images: .npy file of uint8 images [N, H, W, 3] that calibrate 8-bit files; None = there are none.

    Returns:
        {path: reason} for each file that the converter cannot make.

    Raises:
        UserError: the process ended early, for example on a full disk.
    """
    paths = [path for job in jobs for path in job.files.values()]
    job_files = [_write_job(format, job, batch, images) for job in jobs]
    bar, errors = Bar(f"{format.title} files", len(paths), unit="file"), {}

    def report(line: str) -> None:
        done = json.loads(line) if line.startswith("{") else {}
        if Path(done.get("path", "")) in paths:
            errors[Path(done["path"])] = done["error"]
            bar.advance(1, {})

    try:
        status, output = _run(job_files, report)
    finally:
        bar.close()
        for file in job_files:
            file.unlink()
    for path in paths:
        if path not in errors:
            raise UserError(
                f"the converter to {format.title} ended before it wrote {path.name}: {_reason(status, output)}; "
                f"nothing was exported. Check free memory and disk space, or leave {format.name} out of --formats"
            )
    return {path: _reason(0, error) for path, error in errors.items() if error}


def _write_job(format: "ConvertedFormat", job: "Job", batch: int, images: Path | None) -> Path:
    """Write the JSON file that tells the other process what to convert. Return its path."""
    content = {
        "format": format.name,
        "saved_model": str(job.saved_model),
        "files": {kind: str(path) for kind, path in job.files.items()},
        "batch": batch,
        "images": str(images) if images else "",
    }
    path = job.saved_model.with_name(f"{job.saved_model.name}.job.json")
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def _run(jobs: Sequence[Path], report: Callable[[str], None]) -> tuple[int, str]:
    """Return the process's status and standard error; `report` is called with each line of its standard output."""
    paths = [str(Path(dico_tf.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-m", "dico_tf.export", *map(str, jobs)]
    with (
        tempfile.TemporaryFile("w+", errors="replace") as errors,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        try:
            for line in process.stdout:
                report(line.strip())
            status = process.wait()
        except BaseException:
            process.kill()
            raise
        errors.seek(0)
        return status, errors.read()


def _reason(status: int, errors: str) -> str:
    """Return the cause of a failure: the signal that ended the process, or the lines of its errors that name it."""
    if status < 0:
        return f"signal {-status} ended the converter: it may have run out of memory"
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    named = [line for line in lines if "custom ops:" in line.lower() or "Ops:" in line or "error:" in line]
    return "; ".join(named[:3] or lines[-1:])
