"""A member's LiteRT file: loaded, checked against its checksum and manifest, and tried once."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dico_tf.edge.errors import EdgeError
from dico_tf.edge.inference import external_tflite
from dico_tf.errors import UserError
from dico_tf.evaluation.averaging import softmax
from dico_tf.files import manifest
from dico_tf.invocation import command
from dico_tf.runtime.litert import LiteRT, TensorInfo

INPUT, LOGITS, PROBABILITIES, CLASS_ID = "image", "logits", "probabilities", "class_id"
COMMITTEE_OUTPUTS = {"branch_probabilities": 3, "disagreement": 1}  # {name: dimensions} of a committee's file
_SMALLEST = np.finfo(np.float32).smallest_subnormal


class ServedModel:
    """One member of an export in memory, with one interpreter per thread: interpreters are not thread-safe."""

    def __init__(
        self,
        export: manifest.Manifest,
        member: str,
        format: str,
        content: bytes,
        threads: int,
        threads_each: int,
    ):
        description = export.member(member)
        self.version, self.member, self.format, self.average = export.id, member, format, export.average
        self.sha256 = export.file(member, format).sha256
        self.class_names: list[str] = description["class_names"]
        self.size: int = description["input_size"]
        self.short: int = description.get("short_side", self.size)
        self._runners = [_runner(content, threads_each, description) for _ in range(threads)]
        self._batch = self._check()
        for thread in range(threads):
            self.run(thread, np.zeros((self._batch, self.size, self.size, 3), np.float32), time.monotonic() + 60)

    def _check(self) -> int:
        """Return the batch size of the file, 1 if it takes any. Raises UserError if it does not fit the manifest."""
        inputs, outputs = self._runners[0].inputs, self._runners[0].outputs
        shape = inputs[INPUT].shape if list(inputs) == [INPUT] else ()
        if shape[1:] != (self.size, self.size, 3) or inputs[INPUT].dtype is not np.float32:
            expected = f"{INPUT}, float32 [B, {self.size}, {self.size}, 3]"
            raise _unusable(f"its input must be {expected}, got {_listed(inputs)}")
        self.outputs = {name: list(output.shape[1:]) for name, output in outputs.items()}
        if self.outputs.get(LOGITS, self.outputs.get(PROBABILITIES)) != [len(self.class_names)]:
            expected = f"{LOGITS} or {PROBABILITIES} of {len(self.class_names)} classes"
            raise _unusable(f"its output must be {expected}, got {_listed(outputs)}")
        return shape[0]

    @property
    def shapes(self) -> dict[str, list[int]]:
        """Shapes of all outputs, without the batch dimension."""
        committee = {name: self.outputs[name] for name in COMMITTEE_OUTPUTS if name in self.outputs}
        classes = [len(self.class_names)]
        return {LOGITS: classes, PROBABILITIES: classes, CLASS_ID: [], **committee}

    def run(self, thread: int, images: np.ndarray, deadline: float) -> dict[str, np.ndarray]:
        """Return {output: array} for float32 images [N, H, W, 3], computed in batches of the file's size.

        `thread` selects the interpreter; the deadline is a time of time.monotonic. Raises EdgeError if it passes, or if
        an output is not finite.
        """
        parts = []
        for start in range(0, len(images), self._batch):
            if time.monotonic() > deadline:
                progress = f"{start} of {len(images)} images"
                raise EdgeError("DEADLINE_EXCEEDED", f"the deadline passed after computing {progress}")
            batch = images[start : start + self._batch]
            padding = self._batch - len(batch)
            padded = np.pad(batch, [(0, padding), (0, 0), (0, 0), (0, 0)]) if padding else batch
            outputs = self._runners[thread](**{INPUT: padded})
            parts.append({name: array[: len(batch)] for name, array in outputs.items()})
        return _complete({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def _complete(outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return logits, probabilities and a committee's outputs as float32, and class_id, the largest logit's class.

    Logits or probabilities are computed from each other if the file lacks one. Its other outputs are dropped.

    Raises EdgeError if an output is NaN or infinite.
    """
    if not all(np.isfinite(array).all() for array in outputs.values()):
        raise EdgeError("INTERNAL", "the network's outputs are not finite (NaN or infinity) for at least one image")
    if LOGITS not in outputs:
        outputs[LOGITS] = np.log(np.maximum(outputs[PROBABILITIES], _SMALLEST))
    if PROBABILITIES not in outputs:
        outputs[PROBABILITIES] = softmax(outputs[LOGITS])
    committee = {name: outputs[name] for name, axes in COMMITTEE_OUTPUTS.items() if np.ndim(outputs.get(name)) == axes}
    floats = {LOGITS: outputs[LOGITS], PROBABILITIES: outputs[PROBABILITIES], **committee}
    class_id = outputs[LOGITS].argmax(-1).astype(np.int64)
    return {**{name: array.astype(np.float32) for name, array in floats.items()}, CLASS_ID: class_id}


def _runner(content: bytes, threads: int, description: dict[str, Any]) -> Any:
    """Return a function of image=float32 [B, H, W, 3] that gives {output: array}, with attributes inputs and outputs.

    `description` is the member's entry in the manifest. Raises UserError if the runtime refuses the file.
    """
    try:
        if manifest.READING in description:
            return external_tflite.ExternalRunner(content, threads, description)
        return LiteRT(content, threads).signature()
    except (ValueError, RuntimeError) as error:
        raise _not_loaded(error) from None


def _listed(tensors: Mapping[str, TensorInfo]) -> str:
    return ", ".join(f"{name} {np.dtype(tensor.dtype)}{list(tensor.shape)}" for name, tensor in tensors.items())


def _unusable(reason: str, remedy: str = "export again") -> UserError:
    return UserError(f"the export's LiteRT file cannot be used: {reason}; {remedy}")


def _not_loaded(error: Exception) -> UserError:
    """Return the error for a file that the runtime refuses, for instance because of an operation it does not know."""
    return _unusable(str(error), "export again, or install the ai-edge-litert of constraints.txt")


def load(path: str | Path, member: str, format: str, threads: int, threads_each: int) -> ServedModel:
    """Load a member of an export and run it once, to be sure that it works. Raises UserError.

    Args:
        path: the manifest, or its folder.
        member: name in the manifest.
        format: kind of LiteRT file, or "safest" for the most accurate one that exists.
        threads: requests that will be computed at the same time; each gets an interpreter.
        threads_each: threads of one interpreter.
    """
    current = manifest.load(path)
    _check_has_file(current, member)
    kind = _safest(current, member) if format == "safest" else format
    export, content = manifest.read(path, member, kind)
    try:
        return ServedModel(export, member, kind, content, threads, threads_each)
    except RuntimeError as error:
        raise _not_loaded(error) from None
    except EdgeError as error:
        raise UserError(f"{member} of the export {export.folder} fails its first run: {error.sentence}") from None


def _check_has_file(export: manifest.Manifest, member: str) -> None:
    """Raise UserError if `member` is the committee of an export of a committee.json, which has no LiteRT file of it."""
    if member == manifest.COMMITTEE and manifest.COMMITTEE in (export.content.get("source") or ()):
        raise UserError(
            f"the committee of the export {export.folder} has no LiteRT file of its own: serve it by "
            f"{command('serve local')}, or by a worker for each of {', '.join(export.branches)} and a "
            f"{command('serve gateway')}"
        )


def _safest(export: manifest.Manifest, member: str) -> str:
    formats = export.formats(member)
    if not formats:
        raise UserError(f"the export {export.folder} has no LiteRT file of {member}: export with --formats=tflite")
    return formats[0]
