"""Sections of a run's page with images: views of each branch, disagreement, and the surest mistakes."""

from collections.abc import Callable

import numpy as np

from dico_tf.report.accuracy import branch_names
from dico_tf.report.markup import Html, element, figure, image, joined, table
from dico_tf.report.run_files import RunFiles

_VIEWED = 6  # images
_MOST_BRANCHES = 8


def views(run: RunFiles) -> Html:
    """Return a table of what each branch saw of the first training images, in the first epoch."""
    stored = run.views or {}
    rows = [
        (name, stored[name]) for name in ("image", *(f"branch_{s}" for s in range(_MOST_BRANCHES))) if name in stored
    ]
    if not rows or any(not _is_images(pixels) for _, pixels in rows):
        return Html("")
    count = min(_VIEWED, *(len(pixels) for _, pixels in rows))
    body = []
    for name, pixels in rows:
        what = "image as stored" if name == "image" else f"view of {name}"
        cells = [image(pixels[n], f"Training image {n + 1}, {what}") for n in range(count)]
        body.append(["stored image" if name == "image" else name, *cells])
    caption = (
        "What each branch saw of the first training images in the first epoch, before mixing. Rows that look alike "
        "mean that the views differ little; objects that are cut off or hard to recognise, that the augmentation is "
        "strong."
    )
    return table(caption, ["", *(f"image {n + 1}" for n in range(count))], body, left=count + 1)


def _is_images(pixels: np.ndarray) -> bool:
    return pixels.ndim == 4 and pixels.shape[-1] == 3 and pixels.dtype == np.uint8 and pixels.size > 0


def disagreed(run: RunFiles) -> Html:
    """Return the images on which the branches' answers differ most."""
    reading = (
        "The strongest disagreement first: entropy of the branches' mean probabilities less the mean of their "
        "entropies. Check here whether labels are right, and whether an image shows more than one class."
    )
    return _gallery(run, "disagreed", reading, _answers_of_branches)


def mistakes(run: RunFiles) -> Html:
    """Return the wrong answers of the ensemble with the highest probability."""
    reading = "Wrong answers of the ensemble, the surest first. Wrong labels and confusable classes show up here."
    return _gallery(run, "mistakes", reading, _answer_of_ensemble)


def _gallery(run: RunFiles, kind: str, reading: str, describe: Callable[[RunFiles, int, Callable], str]) -> Html:
    gallery = run.gallery
    needed = {"images", "ids", "labels", "classes", "confidences", kind}
    if not gallery or not needed <= gallery.keys() or not _is_images(gallery["images"]) or not len(gallery[kind]):
        return Html("")
    names = run.evaluation["class_names"]
    figures = []
    for n in gallery[kind].tolist():
        label, answers = names[gallery["labels"][n]], describe(run, n, names.__getitem__)
        caption = joined(element("strong", label), element("div", answers))
        description = f"Image {gallery['ids'][n]}, label {label}; {answers}"
        figures.append(figure(image(gallery["images"][n], description), caption))
    return joined(element("p", reading), element("div", *figures, class_="images"))


def _answers_of_branches(run: RunFiles, n: int, name: Callable[[int], str]) -> str:
    """Return the answers of the branches, each class once with the branches that gave it."""
    by_class: dict[str, list[str]] = {}
    for s, answer in enumerate(run.gallery["classes"][n, :-1].tolist()):
        by_class.setdefault(str(name(answer)), []).append(str(s))
    count = len(branch_names(run))
    if count > _MOST_BRANCHES:
        return "; ".join(f"{answer} ×{len(branches)}" for answer, branches in by_class.items())
    return "; ".join(
        f"branch{'es' if len(branches) > 1 else ''} {', '.join(branches)}: {answer}"
        for answer, branches in by_class.items()
    )


def _answer_of_ensemble(run: RunFiles, n: int, name: Callable[[int], str]) -> str:
    sure = 100 * float(run.gallery["confidences"][n, -1])
    return f"answer: {name(int(run.gallery['classes'][n, -1]))}, {sure:.1f} %"
