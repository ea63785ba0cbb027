"""Class shares and coloured masks that a trained segmentation run predicts for images."""

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
from dico_tf.files.json_files import FORMAT
from dico_tf.training.build import TrainedRun

_GOLDEN = 0.618034  # of the colour circle, between consecutive classes: the golden ratio keeps their hues apart


@dataclasses.dataclass(frozen=True)
class SegmentationPrediction:
    """Classes that a segmentation run predicts for the pixels of one image."""

    picture: str  # path as the user gave it
    shares: list[tuple[str, float]]  # (class, share of the pixels), the largest first
    disagreement: float  # mean over pairs of branches of the share of pixels they classify differently
    mask: str = ""  # path of the PNG whose values are class numbers; "" = not written


def predict(
    run: TrainedRun, names: Sequence[str], top: int, skip_unreadable: bool = False, masks: str = ""
) -> Iterator[SegmentationPrediction]:
    """Yield a prediction for each image, in order. All images are decoded before the first prediction.

    Args:
        names: image files; a repeated name counts once.
        top: number of classes in a prediction, those of most pixels first.
        skip_unreadable: leave out files that cannot be read, with a warning, instead of raising UserError.
        masks: folder for the masks, PNG files named after the images; "" = do not write masks.
    """
    images = readable(names, lambda name: image_decoding.whole(name, 2**30), skip_unreadable)
    files = _files(list(images), masks) if masks else {}
    model, average = run.network(), run.config.cotraining.average
    fill = np.round(255 * np.array(run.data["mean"])).astype(np.uint8)
    for name, image in images.items():
        logits = _logits(model, np.asarray(image), fill)  # [S, H, W, C]
        height, width = logits.shape[1:3]
        pixels = logits.reshape(len(logits), height * width, -1).swapaxes(0, 1)  # [P, S, C]
        classes = combine(pixels, average).argmax(-1)
        if masks:
            _save(files[name], classes.reshape(height, width), len(run.data["class_names"]))
        yield SegmentationPrediction(
            name,
            _shares(classes, run.data["class_names"])[:top],
            _disagreement(pixels.argmax(-1)),
            str(files.get(name, "")),
        )


def _logits(model, image: np.ndarray, fill: np.ndarray) -> np.ndarray:
    """Return logits [S, H, W, C] of an image [H, W, 3]; the network sees it padded to a frame by the colour `fill`."""
    height, width = image.shape[:2]
    frame = frame_of(np.array([[width, height]]))
    framed = np.broadcast_to(fill, (*frame, 3)).copy()
    framed[:height, :width] = image
    logits = np.asarray(model.predict_on_batch(framed[None]))[0]
    return enlarged(logits, frame)[:, :height, :width]


def _shares(classes: np.ndarray, class_names: Sequence[str]) -> list[tuple[str, float]]:
    counts = np.bincount(classes.ravel(), minlength=len(class_names))
    order = [c for c in np.argsort(-counts, kind="stable") if counts[c]]
    return [(class_names[c], float(counts[c] / counts.sum())) for c in order]


def _disagreement(classes: np.ndarray) -> float:
    """Return the share of pixels that two branches classify differently, averaged over all pairs of branches.

    `classes` is [pixels, branches]; with one branch the result is 0.
    """
    splits = classes.shape[1]
    pairs = [(classes[:, a] != classes[:, b]).mean() for a in range(splits) for b in range(a)]
    return float(np.mean(pairs)) if pairs else 0.0


def _files(names: Sequence[str], folder: str) -> dict[str, Path]:
    """Return the PNG file of each image, and create the folder.

    Raises UserError if two files would be the same or one would overwrite an image, or for errors of the disk.
    """
    files = {name: Path(folder) / f"{Path(name).stem}.png" for name in names}
    by_file: dict[Path, str] = {}
    for name, file in files.items():
        first = by_file.setdefault(file, name)
        if first != name:
            raise UserError(f"--masks={folder}: the masks of {first} and {name} would both be {file}: rename one image")
    inside = [name for name, file in files.items() if file.resolve() == Path(name).resolve()]
    if inside:
        raise UserError(f"--masks={folder} would overwrite {inside[0]}: give another folder")
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--masks={folder}: the folder cannot be created: {error.strerror}") from None
    return files


def palette(classes: int) -> list[int]:
    """Return [red, green, blue, red, green, blue, ...] of the classes, each 0..255, for Pillow's putpalette."""
    colours = [colorsys.hsv_to_rgb(c * _GOLDEN % 1, 0.6 + 0.4 * (c % 2), 0.95 - 0.15 * (c % 3)) for c in range(classes)]
    return [round(255 * part) for colour in colours for part in colour]


def _save(file: Path, mask: np.ndarray, classes: int) -> None:
    image = Image.fromarray(mask.astype(np.uint8))
    image.putpalette(palette(classes))
    try:
        image.save(file)
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror}") from None


def as_json(prediction: SegmentationPrediction) -> str:
    """Return a prediction as one line of JSON."""
    classes = [{"class": name, "share": share} for name, share in prediction.shares]
    mask = {"mask": prediction.mask} if prediction.mask else {}
    return json.dumps(
        {
            "format": FORMAT,
            "picture": prediction.picture,
            "classes": classes,
            "disagreement": prediction.disagreement,
            **mask,
        }
    )


def as_text(prediction: SegmentationPrediction) -> str:
    """Return a prediction as one line for the terminal."""
    shares = ", ".join(f"{name} {100 * share:.1f} %" for name, share in prediction.shares)
    disagreement = f"branches disagree on {100 * prediction.disagreement:.1f} % of the pixels"
    mask = f"; {prediction.mask}" if prediction.mask else ""
    return f"{prediction.picture}: {shares}; {disagreement}{mask}"
