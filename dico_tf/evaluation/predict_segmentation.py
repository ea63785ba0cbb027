"""What a trained segmentation run says about pictures: shares of classes, and a mask that shows its colours."""

import colorsys
import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from dico_tf.data import image_decoding
from dico_tf.data.segmentation import frame_of
from dico_tf.errors import UserError
from dico_tf.evaluation.averaging import combine
from dico_tf.evaluation.predict import readable
from dico_tf.evaluation.segmentation import enlarged
from dico_tf.training.build import TrainedRun

_GOLDEN = 0.618034  # of the circle: hues so far apart that neighbours differ


@dataclasses.dataclass(frozen=True)
class SegmentationPrediction:
    picture: str
    shares: list[tuple[str, float]]  # classes by their share of the pixels, the largest first
    disagreement: float  # share of the pixels that two branches answer differently, on the mean over pairs
    mask: str = ""  # file of the class numbers


def predict(
    run: TrainedRun, names: Sequence[str], top: int, skip_unreadable: bool = False, masks: str = ""
) -> Iterator[SegmentationPrediction]:
    """One a readable picture, in order; `masks` is the folder for their masks."""
    good = readable(names, lambda name: image_decoding.whole(name, 2**30), skip_unreadable)
    files = _files(list(good), masks) if masks else {}
    model, average = run.network(), run.config.cotraining.average
    fill = np.round(255 * np.array(run.data["mean"])).astype(np.uint8)
    for name, picture in good.items():
        logits = _logits(model, np.asarray(picture), fill)  # [S, H, W, C]
        height, width = logits.shape[1:3]
        pixels = logits.reshape(len(logits), height * width, -1).swapaxes(0, 1)  # [P, S, C]
        said = combine(pixels, average).argmax(-1)
        if masks:
            _save(files[name], said.reshape(height, width), len(run.data["class_names"]))
        yield SegmentationPrediction(
            name,
            _shares(said, run.data["class_names"])[:top],
            _disagreement(pixels.argmax(-1)),
            str(files.get(name, "")),
        )


def _logits(model, picture: np.ndarray, fill: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    frame = frame_of(np.array([[width, height]]))
    framed = np.broadcast_to(fill, (*frame, 3)).copy()
    framed[:height, :width] = picture
    logits = np.asarray(model.predict_on_batch(framed[None]))[0]
    return enlarged(logits, frame)[:, :height, :width]


def _shares(said: np.ndarray, class_names: Sequence[str]) -> list[tuple[str, float]]:
    counts = np.bincount(said.ravel(), minlength=len(class_names))
    order = [c for c in np.argsort(-counts, kind="stable") if counts[c]]
    return [(class_names[c], float(counts[c] / counts.sum())) for c in order]


def _disagreement(answers: np.ndarray) -> float:
    """Of classes [P, S]."""
    splits = answers.shape[1]
    pairs = [(answers[:, a] != answers[:, b]).mean() for a in range(splits) for b in range(a)]
    return float(np.mean(pairs)) if pairs else 0.0


def _files(names: Sequence[str], folder: str) -> dict[str, Path]:
    """One PNG a picture; two pictures of one name would overwrite each other."""
    found = {name: Path(folder) / f"{Path(name).stem}.png" for name in names}
    if len(set(found.values())) < len(found):
        raise UserError(f"--masks={folder}: several pictures have one name, their masks would be one file; rename them")
    inside = [name for name, file in found.items() if file.resolve() == Path(name).resolve()]
    if inside:
        raise UserError(f"--masks={folder} would overwrite {inside[0]}: give another folder")
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to --masks={folder}: {error.strerror}") from None
    return found


def palette(classes: int) -> list[int]:
    """Red, green, blue of each class in turn, 0..255."""
    colours = [colorsys.hsv_to_rgb(c * _GOLDEN % 1, 0.6 + 0.4 * (c % 2), 0.95 - 0.15 * (c % 3)) for c in range(classes)]
    return [round(255 * part) for colour in colours for part in colour]


def _save(file: Path, said: np.ndarray, classes: int) -> None:
    image = Image.fromarray(said.astype(np.uint8))
    image.putpalette(palette(classes))
    try:
        image.save(file)
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror}") from None


def as_json(answer: SegmentationPrediction) -> str:
    classes = [{"class": name, "share": share} for name, share in answer.shares]
    mask = {"mask": answer.mask} if answer.mask else {}
    return json.dumps(
        {"format": 1, "picture": answer.picture, "classes": classes, "disagreement": answer.disagreement, **mask}
    )


def as_text(answer: SegmentationPrediction) -> str:
    shares = ", ".join(f"{name} {100 * share:.1f} %" for name, share in answer.shares)
    mask = f"; {answer.mask}" if answer.mask else ""
    return f"{answer.picture}: {shares}; branches disagree on {100 * answer.disagreement:.1f} % of the pixels{mask}"
