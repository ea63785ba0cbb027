"""Images per second of the input pipeline alone, as a share of Pillow's speed in all threads.

python -m benchmarks.input_pipeline [--image_size=224] [--splits=1,2]
The images are synthetic and as large as ImageNet's (500x375, JPEG of quality 90). They lie in a temporary folder, which
the system's cache holds in memory. The reference only opens, decodes, crops and resizes the same files.
"""

import concurrent.futures
import dataclasses
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dico_tf import flags, startup
from dico_tf.config import option
from dico_tf.errors import UserError

WIDTH, HEIGHT, QUALITY = 500, 375, 90
PIECES = "flip+randaugment:6+erase:0.05:0.12:min_aspect=0.5:max_aspect=1.5"
LEAST = 0.8  # of the reference's speed; order, batches and random draws may cost the rest
HIDDEN = 0.5  # share of the shorter of input and step
STEPS = 12  # in the check that input and step overlap


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    image_size: int = option(224, "side of the views in pixels")
    splits: tuple[int, ...] = option((1, 2), "numbers of branches, each with its own window and views")
    pictures: int = option(256, "number of image files")
    rounds: int = option(10, "passes over the files in each repeat, as one epoch")
    batch_size: int = option(32, "images per batch")
    repeats: int = option(5, "interleaved repeats")


SCRIPT = flags.Script(name="-m benchmarks.input_pipeline", about=__doc__, fields=flags.of(Measurement))


def write(folder: Path, count: int) -> list[Path]:
    """Write JPEG files of coloured patches, fine detail and noise, about 65 kB each; return their paths."""
    paths = []
    for n in range(count):
        draw = np.random.default_rng(n)
        image = draw.normal(128, 9, (HEIGHT, WIDTH, 3))
        for cells, strength in ((5, 80), (40, 30)):
            coarse = Image.fromarray(draw.integers(0, 256, (cells, cells, 3), np.uint8))
            smooth = coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
            image += strength * (np.asarray(smooth, np.float64) / 127.5 - 1)
        path = folder / ("a", "b")[n % 2] / f"{n}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(path, quality=QUALITY)
        paths.append(path)
    return paths


def in_threads(action: Callable, items: list, rounds: int) -> Callable[[], None]:
    """Return a call that applies the action to all items in as many threads as there are cores."""
    pool = concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0)))
    return lambda: [None for _ in pool.map(action, items * rounds)]


def reference(paths: list[Path], boxes: np.ndarray, size: int, rounds: int) -> Callable[[], None]:
    """Return a call that decodes the files and resizes their windows [N, S, 4]; with S = 0 it only decodes."""

    def cut(task: tuple[Path, list[list[float]]]) -> None:
        with Image.open(task[0]) as image:
            image.load()
            for box in task[1]:
                image.crop(box).resize((size, size), Image.Resampling.BICUBIC).tobytes()

    return in_threads(cut, list(zip(paths, boxes.tolist(), strict=True)), rounds)


def centre(count: int, size: int) -> np.ndarray:
    """Return the central windows that an evaluation uses, in whole pixels: [N, 1, 4]."""
    side = HEIGHT * size / int(1.15 * size)
    left, top = (WIDTH - side) / 2, (HEIGHT - side) / 2
    return np.tile([left, top, left + side, top + side], (count, 1, 1)).astype(int)


def passes(split, settings: Measurement, splits: int, policy: str) -> Callable[[], None]:
    """Return a call that reads all images in batches, and makes all views unless the policy is only a window."""
    import tensorflow as tf

    from dico_tf.data.pipeline import training_batches
    from dico_tf.views.image_views import ImageViews

    views = ImageViews([policy], splits, 0, (123.7, 116.3, 103.5))
    windows, epochs = tf.function(views.windows, autograph=False), itertools.count()

    @tf.function(autograph=False)
    def see(batch, epoch):
        return [tf.reduce_sum(view[:, 0, 0]) for view in views(batch["image"], batch["index"], epoch, cut=True)]

    def run() -> None:
        epoch = tf.constant(next(epochs), tf.int64)
        indices = np.tile(np.arange(split.size), settings.rounds).reshape(-1, 1, settings.batch_size)
        batches = training_batches(split, indices, lambda index, sizes: windows(index, sizes, epoch))
        for batch in batches:
            if "+" in policy:
                see(batch, epoch)

    return run


def evaluation(split, settings: Measurement) -> Callable[[], None]:
    """Return a call that reads all images in batches as an evaluation does."""
    from dico_tf.data.pipeline import evaluation_batches

    whole = split.subset(np.tile(np.arange(split.size), settings.rounds))
    return lambda: [None for _ in evaluation_batches(whole, settings.batch_size)]


def hidden(split, settings: Measurement) -> float:
    """Return which share of the shorter of input and step overlaps with the longer; the step only waits."""
    from benchmarks.measure import interleaved
    from dico_tf.data.pipeline import training_batches
    from dico_tf.views.image_views import ImageViews

    views = ImageViews(["resized_crop"], 1, 0, (0.0, 0.0, 0.0))
    indices = (np.arange(STEPS * settings.batch_size) % split.size).reshape(STEPS, 1, settings.batch_size)

    def run(wait: float) -> None:
        for _ in training_batches(split, indices, lambda index, sizes: views.windows(index, sizes, 0)):
            time.sleep(wait)

    wait = interleaved({"input": lambda: run(0.0)}, settings.repeats)["input"] / STEPS
    seconds = interleaved({"input": lambda: run(0.0), "both": lambda: run(wait)}, settings.repeats)
    steps = wait * STEPS
    return (seconds["input"] + steps - seconds["both"]) / min(seconds["input"], steps)


def subjects(settings: Measurement, folder: Path, paths: list[Path]) -> tuple[dict[str, Callable], dict[str, str], Any]:
    """Return the calls by name, the name of each one's reference, and the files as a split.

    A call follows its reference, so that both run under the same load.
    """
    import tensorflow as tf

    from dico_tf.data import image_decoding
    from dico_tf.data.lazy_images import ImageFiles, LazyImages
    from dico_tf.data.memory_budget import MemoryBudget
    from dico_tf.data.source import Split
    from dico_tf.views.image_views import ImageViews

    sizes, count, size = np.tile([[WIDTH, HEIGHT]], (len(paths), 1)), len(paths), settings.image_size

    def split(cache_bytes: int) -> Split:
        image_files = ImageFiles(folder, [str(path.relative_to(folder)) for path in paths])
        lazy_images = LazyImages(image_files, sizes, size, image_decoding.short_side(size), MemoryBudget(cache_bytes))
        return Split(labels=np.zeros(count), ids=image_files.names, lazy_images=lazy_images)

    files, cached = split(0), split(2**40)
    calls = {
        "decode": reference(paths, np.zeros((count, 0, 4)), size, settings.rounds),
        "decode and take the centre": reference(paths, centre(count, size), size, settings.rounds),
        "evaluation": evaluation(files, settings),
    }
    compared = {"evaluation": "decode and take the centre"}
    for s in settings.splits:
        boxes = ImageViews(["resized_crop"], s, 0, (0.0, 0.0, 0.0)).windows(tf.range(count), tf.constant(sizes), 0)
        calls[f"decode and cut {s}"] = reference(paths, boxes.numpy(), size, settings.rounds)
        calls[f"windows {s}"] = passes(files, settings, s, "resized_crop")
        calls[f"views {s}"] = passes(files, settings, s, f"resized_crop+{PIECES}")
        calls[f"kept windows {s}"] = passes(cached, settings, s, "resized_crop")
        compared |= {f"{name} {s}": f"decode and cut {s}" for name in ("windows", "views", "kept windows")}
    return calls, compared, files


def watched(call: Callable[[], Any], busy: list[float]) -> Callable[[], None]:
    """Wrap a call so that it appends the processor time it took to a list."""

    def run() -> None:
        started = time.process_time()
        call()
        busy.append(time.process_time() - started)

    return run


def against(reference: list[float], times: list[float]) -> float:
    """Return the median over the turns of speed / reference speed: a disturbance affects both calls of a turn."""
    return statistics.median(a / b for a, b in zip(reference, times, strict=True))


def measure(settings: Measurement, folder: Path) -> None:
    from benchmarks.measure import emit, turns

    paths = write(folder, settings.pictures)
    calls, compared, files = subjects(settings, folder, paths)
    busy = {name: [] for name in calls}  # seconds of processor time, which other processes do not change
    seconds = turns({name: watched(call, busy[name]) for name, call in calls.items()}, settings.repeats)
    mean_bytes = statistics.mean(path.stat().st_size for path in paths)
    about = {"image_size": settings.image_size, "pictures": f"{WIDTH}x{HEIGHT}", "bytes": round(mean_bytes)}
    for name, times in seconds.items():
        emit(f"input_pipeline {name}", len(paths) * settings.rounds / statistics.median(times), "pictures/s", **about)
        if name in compared:
            other, bar = compared[name], LEAST if name.split()[0] in ("evaluation", "windows") else None
            share = against(seconds[other], times)
            processor_share = round(against(busy[other][1:], busy[name][1:]), 4)  # without the warm-up
            emit(
                f"input_pipeline_share {name}",
                share,
                f"share of {other}",
                bar,
                processor_share=processor_share,
                **about,
            )
    share = hidden(files, settings)
    emit("input_pipeline_hidden", share, "share of the shorter of input and step", HIDDEN, **about)


def main(arguments: list[str]) -> None:
    values, _ = flags.parse(SCRIPT, arguments)
    settings = Measurement(**values)
    if settings.repeats < 5:
        raise UserError(f"--repeats={settings.repeats} must be at least 5")
    if not settings.splits or min(settings.splits) < 1 or max(settings.splits) > 9:
        raise UserError(f"--splits={','.join(map(str, settings.splits))} must be numbers from 1 to 9")
    if min(settings.batch_size, settings.pictures, settings.rounds) < 1 or settings.pictures % settings.batch_size:
        raise UserError(
            f"--pictures={settings.pictures} must be a multiple of --batch_size={settings.batch_size},"
            " --rounds at least 1"
        )
    if settings.image_size < 8:
        raise UserError(f"--image_size={settings.image_size} must be at least 8")
    startup.tensorflow()
    with tempfile.TemporaryDirectory() as folder:
        measure(settings, Path(folder))


if __name__ == "__main__":
    flags.run(main)
