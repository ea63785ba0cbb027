"""What a trained run says about pictures."""

import dataclasses
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from dico_tf.config import clips_and_crops
from dico_tf.data import clips, image_decoding, memory_budget
from dico_tf.data.pipeline import plain_faults
from dico_tf.data.source import Split
from dico_tf.data.video_folder import look, opened
from dico_tf.errors import UserError
from dico_tf.evaluation.averaging import combine, disagreement, softmax
from dico_tf.training import steps
from dico_tf.training.build import TrainedRun

BATCH = 32
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class ImagePrediction:
    picture: str
    classes: list[tuple[str, float]]  # the likeliest first, with probabilities
    branches: list[str]  # each branch's own choice
    disagreement: float  # entropy of the mean minus mean of the entropies, nats


def predict(
    run: TrainedRun, names: Sequence[str], top: int, skip_unreadable: bool = False
) -> Iterator[ImagePrediction]:
    """One a readable picture, in order; all are looked at before the first is answered."""
    if run.config.data.task == "video":
        yield from _of_films(run, readable(names, look, skip_unreadable), top)
        return
    size = run.data["image_size"]
    images = readable(names, lambda name: image_decoding.decode(name, size, run.short_side), skip_unreadable)
    model, found = run.network(), list(images)
    for start in range(0, len(found), BATCH):
        part = found[start : start + BATCH]
        logits = model.predict_on_batch(np.stack([images[name] for name in part]))
        yield from _answer(run, part, np.asarray(logits), top)


def readable(names: Sequence[str], decode: Callable[[str], T], skip: bool) -> dict[str, T]:
    """Every picture decoded, by name; what cannot be read is named, and with `skip` left out."""
    images, bad = {}, []
    for name in names:
        found = image_decoding.tried(decode, name)
        if isinstance(found, Exception):
            bad.append(f"{name} ({found})")
        else:
            images[name] = found
    if bad and not skip:
        raise UserError(f"cannot read {'; '.join(bad[:10])}: leave them out, or give --skip_unreadable")
    if bad:
        logging.getLogger(__name__).warning("cannot read, left out: %s", "; ".join(bad))
    return images


def _of_films(run: TrainedRun, looked: dict[str, tuple], top: int) -> Iterator[ImagePrediction]:
    """Of folders of frames, each by the run's test views."""
    names, data, model = list(looked), run.data, run.network()
    lazy_images, lengths = opened(names, looked, data["image_size"], memory_budget.MemoryBudget(memory_budget.limit()))
    films = clips.videos(lazy_images, lengths, data["frames"], data["frame_rate"], "those given")
    asked = Split(labels=np.zeros(len(names), np.int64), ids=np.asarray(names), lazy_images=films)
    with plain_faults():
        logits = steps.predict(
            model, asked, run.config.run.evaluation_batch_size, views=clips_and_crops(run.config.run.test_views)
        )
    yield from _answer(run, names, logits, top)


def _answer(run: TrainedRun, names: Sequence[str], logits: np.ndarray, top: int) -> Iterator[ImagePrediction]:
    classes = run.data["class_names"]
    together = softmax(combine(logits, run.config.cotraining.average))  # [N, C]
    apart = softmax(logits)  # [N, S, C]
    for name, p, branches, spread in zip(names, together, apart, disagreement(apart), strict=True):
        order = np.argsort(-p, kind="stable")[:top]
        yield ImagePrediction(
            name,
            [(classes[c], float(p[c])) for c in order],
            [classes[c] for c in branches.argmax(-1)],
            max(float(spread), 0.0),
        )


def as_json(answer: ImagePrediction) -> str:
    value: dict[str, Any] = dataclasses.asdict(answer)
    value["classes"] = [{"class": name, "probability": p} for name, p in answer.classes]
    return json.dumps({"format": 1, **value})


def as_text(answer: ImagePrediction) -> str:
    classes = ", ".join(f"{name} {100 * p:.1f} %" for name, p in answer.classes)
    branches = ", ".join(answer.branches)
    return f"{answer.picture}: {classes}; branches say {branches}; disagreement {answer.disagreement:.3f}"
