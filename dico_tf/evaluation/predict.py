"""Class probabilities that a trained run predicts for images and videos."""

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
from dico_tf.files.json_files import FORMAT
from dico_tf.training import steps
from dico_tf.training.build import TrainedRun

BATCH = 32
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class ImagePrediction:
    """Prediction for one image or video; the field names are the keys of its JSON line."""

    picture: str  # path as the user gave it
    classes: list[tuple[str, float]]  # (class, probability), the most probable first
    branches: list[str]  # the most probable class of each branch
    disagreement: float  # entropy of the branches' mean probabilities minus mean of their entropies, in nats


def predict(
    run: TrainedRun, names: Sequence[str], top: int, skip_unreadable: bool = False
) -> Iterator[ImagePrediction]:
    """Yield a prediction for each image or video, in order; that of a video is the mean over the run's test views.

    All images are decoded, or all videos predicted, before the first prediction is yielded.

    Args:
        names: image files, or folders of frames if the run is a video run; a repeated name counts once.
        top: number of classes in a prediction, the most probable first.
        skip_unreadable: leave out images that cannot be read, and videos without frames or whose first frame cannot be
            read, with a warning, instead of raising UserError. Any other frame that cannot be read raises it.
    """
    if run.config.data.task == "video":
        yield from _predict_clips(run, readable(names, look, skip_unreadable), top)
        return
    size = run.data["image_size"]
    images = readable(names, lambda name: image_decoding.decode(name, size, run.short_side), skip_unreadable)
    model, readable_names = run.network(), list(images)
    for start in range(0, len(readable_names), BATCH):
        part = readable_names[start : start + BATCH]
        logits = model.predict_on_batch(np.stack([images[name] for name in part]))
        yield from _predictions(run, part, np.asarray(logits), top)


def readable(names: Sequence[str], decode: Callable[[str], T], skip: bool) -> dict[str, T]:
    """Return {name: decode(name)}.

    If `decode` raises any exception, the name is left out with a warning if `skip`; else one UserError lists all such
    names.
    """
    images, bad = {}, []
    for name in names:
        image = image_decoding.tried(decode, name)
        if isinstance(image, Exception):
            bad.append(f"{name} ({image})")
        else:
            images[name] = image
    if bad and not skip:
        more = f" and {len(bad) - 10} more" if len(bad) > 10 else ""
        raise UserError(f"cannot read {'; '.join(bad[:10])}{more}: leave them out, or give --skip_unreadable")
    if bad:
        logging.getLogger(__name__).warning("cannot read, left out: %s", "; ".join(bad))
    return images


def _predict_clips(run: TrainedRun, facts: dict[str, tuple], top: int) -> Iterator[ImagePrediction]:
    """Yield a prediction for each folder of frames, averaged over the run's test views.

    Args:
        facts: {folder: what `look` returns for it}.
    """
    names, data, model = list(facts), run.data, run.network()
    frames, lengths = opened(names, facts, data["image_size"], memory_budget.MemoryBudget(memory_budget.limit()))
    videos = clips.videos(frames, lengths, data["frames"], data["frame_rate"], "those given")
    split = Split(labels=np.zeros(len(names), np.int64), ids=np.asarray(names), lazy_images=videos)
    with plain_faults():
        logits = steps.predict(
            model, split, run.config.run.evaluation_batch_size, views=clips_and_crops(run.config.run.test_views)
        )
    yield from _predictions(run, names, logits, top)


def _predictions(run: TrainedRun, names: Sequence[str], logits: np.ndarray, top: int) -> Iterator[ImagePrediction]:
    classes = run.data["class_names"]
    ensemble = softmax(combine(logits, run.config.cotraining.average))  # [N, C]
    single = softmax(logits)  # [N, S, C]
    for name, p, branches, spread in zip(names, ensemble, single, disagreement(single), strict=True):
        order = np.argsort(-p, kind="stable")[:top]
        yield ImagePrediction(
            name,
            [(classes[c], float(p[c])) for c in order],
            [classes[c] for c in branches.argmax(-1)],
            max(float(spread), 0.0),
        )


def as_json(prediction: ImagePrediction) -> str:
    """Return a prediction as one line of JSON."""
    value: dict[str, Any] = dataclasses.asdict(prediction)
    value["classes"] = [{"class": name, "probability": p} for name, p in prediction.classes]
    return json.dumps({"format": FORMAT, **value})


def as_text(prediction: ImagePrediction) -> str:
    """Return a prediction as one line for the terminal."""
    classes = ", ".join(f"{name} {100 * p:.1f} %" for name, p in prediction.classes)
    branches = ", ".join(prediction.branches)
    return f"{prediction.picture}: {classes}; branches say {branches}; disagreement {prediction.disagreement:.3f}"
