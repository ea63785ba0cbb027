"""A member's LiteRT file, whose bytes are those that were exported, ready to answer."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from dico_tf.edge.errors import EdgeError
from dico_tf.edge.inference import external_tflite
from dico_tf.errors import UserError
from dico_tf.evaluation.averaging import softmax
from dico_tf.files import manifest
from dico_tf.invocation import command
from dico_tf.runtime.litert import LiteRT

INPUT, LOGITS, PROBABILITIES, CLASS_ID = "image", "logits", "probabilities", "class_id"
PASSED_ON = {"branch_probabilities": 3, "disagreement": 1}  # of a committee's file: how many dimensions they have
_SMALLEST = np.finfo(np.float32).smallest_subnormal


class ServedModel:
    """Holds an interpreter a lane: an interpreter is not concurrent, and one thread works in each lane."""

    def __init__(self, found: manifest.Manifest, member: str, format: str, content: bytes, lanes: int, threads: int):
        described = found.member(member)
        self.version, self.member, self.format, self.average = found.id, member, format, found.average
        self.sha256 = found.file(member, format).sha256
        self.class_names: list[str] = described["class_names"]
        self.size: int = described["input_size"]
        self.short: int = described.get("short_side", self.size)
        self._runners = [_runner(content, threads, described) for _ in range(lanes)]
        self._batch = self._check()
        for lane in range(lanes):
            self.answer(lane, np.zeros((self._batch, self.size, self.size, 3), np.float32), time.monotonic() + 60)

    def _check(self) -> int:
        """The batch size of the file, whose signature is the one that exports have."""
        inputs, outputs = self._runners[0].inputs, self._runners[0].outputs
        shape = inputs[INPUT].shape if list(inputs) == [INPUT] else ()
        if shape[1:] != (self.size, self.size, 3) or inputs[INPUT].dtype is not np.float32:
            raise _unfit(f"its input is not {INPUT}, float32 [B, {self.size}, {self.size}, 3]")
        self.outputs = {name: list(output.shape[1:]) for name, output in outputs.items()}
        if self.outputs.get(LOGITS, self.outputs.get(PROBABILITIES)) != [len(self.class_names)]:
            raise _unfit(f"it gives neither {LOGITS} nor {PROBABILITIES} of {len(self.class_names)} classes")
        return shape[0]

    @property
    def shapes(self) -> dict[str, list[int]]:
        """Of every output, after the batch."""
        passed = {name: self.outputs[name] for name in PASSED_ON if name in self.outputs}
        classes = [len(self.class_names)]
        return {LOGITS: classes, PROBABILITIES: classes, CLASS_ID: [], **passed}

    def answer(self, lane: int, images: np.ndarray, deadline: float) -> dict[str, np.ndarray]:
        """Outputs for float32 [N, H, W, 3], asked in batches of the file's own size."""
        parts = []
        for start in range(0, len(images), self._batch):
            if time.monotonic() > deadline:
                raise EdgeError("DEADLINE_EXCEEDED", f"the deadline passed after {start} of {len(images)} images")
            batch = images[start : start + self._batch]
            short = self._batch - len(batch)
            padded = np.pad(batch, [(0, short), (0, 0), (0, 0), (0, 0)]) if short else batch
            found = self._runners[lane](**{INPUT: padded})
            parts.append({name: array[: len(batch)] for name, array in found.items()})
        return _completed({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def _completed(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Whatever an answer needs that the file itself does not give."""
    if not all(np.isfinite(array).all() for array in found.values()):
        raise EdgeError("INTERNAL", "the network's outputs are not finite: this export cannot answer for the image")
    if LOGITS not in found:
        found[LOGITS] = np.log(np.maximum(found[PROBABILITIES], _SMALLEST))
    if PROBABILITIES not in found:
        found[PROBABILITIES] = softmax(found[LOGITS])
    passed = {name: found[name] for name, dimensions in PASSED_ON.items() if np.ndim(found.get(name)) == dimensions}
    whole = {LOGITS: found[LOGITS], PROBABILITIES: found[PROBABILITIES], **passed}
    class_id = found[LOGITS].argmax(-1).astype(np.int64)
    return {**{name: array.astype(np.float32) for name, array in whole.items()}, CLASS_ID: class_id}


def _runner(content: bytes, threads: int, described: dict[str, Any]) -> Any:
    try:
        if manifest.READING in described:
            return external_tflite.ExternalRunner(content, threads, described)
        return LiteRT(content, threads).signature()
    except (ValueError, RuntimeError) as error:
        raise _unfit(str(error)) from None


def _unfit(why: str) -> UserError:
    return UserError(f"the export's LiteRT file cannot be used here: {why}; export again")


def load(path: str | Path, member: str, format: str, lanes: int, threads: int) -> ServedModel:
    """`safest`: the first of LITERT that there is. UserError where the export, or the file, is not fit to answer."""
    offered = manifest.load(path)
    _check_alone(offered, member)
    kind = _safest(offered, member) if format == "safest" else format
    found, content = manifest.read(path, member, kind)
    try:
        return ServedModel(found, member, kind, content, lanes, threads)
    except RuntimeError as error:  # an operation that this runtime does not know
        raise _unfit(str(error)) from None
    except EdgeError as error:
        raise UserError(f"{member} of the export {found.folder} does not answer: {error.sentence}") from None


def _check_alone(found: manifest.Manifest, member: str) -> None:
    """Members of any kind become no single file: whatever is exported again, there is nothing for a worker."""
    if member == manifest.COMMITTEE and manifest.COMMITTEE in (found.content.get("source") or ()):
        raise UserError(
            f"the export {found.folder} is a committee of any members, which no single LiteRT file holds: "
            f"{command('serve local')} serves it, or a worker for each of "
            f"{', '.join(found.branches)} and {command('serve gateway')} before them"
        )


def _safest(found: manifest.Manifest, member: str) -> str:
    formats = found.formats(member)
    if not formats:
        raise UserError(f"the export {found.folder} has no LiteRT file of {member}: export with --formats=tflite")
    return formats[0]
