"""Images per second of the input pipeline alone, as a share of what Pillow decodes in all threads.

python -m benchmarks.input_pipeline [--image_size=224] [--splits=1,2]
The pictures are made up, as large as ImageNet's (500x375, JPEG of quality 90), and lie in a temporary folder, which the
system holds in memory. The reference opens, decodes, crops and resizes the same files with nothing around it.
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
LEAST = 0.8  # of the reference: what is left for order, batches and draws
HIDDEN = 0.5  # of the shorter of input and step
STEPS = 12  # of the check that input and step overlap


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    image_size: int = option(224, "side of the views in pixels")
    splits: tuple[int, ...] = option((1, 2), "numbers of branches, each with a window and views of its own")
    pictures: int = option(256, "files")
    rounds: int = option(10, "times the files pass in each repeat, as one epoch")
    batch_size: int = option(32, "pictures per batch")
    repeats: int = option(5, "interleaved repeats")


SCRIPT = flags.Script(name="-m benchmarks.input_pipeline", about=__doc__, fields=flags.of(Measurement))


def write(folder: Path, count: int) -> list[Path]:
    """Colours in patches under detail and grain, about 100 kB each."""
    paths = []
    for n in range(count):
        draw = np.random.default_rng(n)
        picture = draw.normal(128, 9, (HEIGHT, WIDTH, 3))
        for cells, strength in ((5, 80), (40, 30)):
            coarse = Image.fromarray(draw.integers(0, 256, (cells, cells, 3), np.uint8))
            smooth = coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
            picture += strength * (np.asarray(smooth, np.float64) / 127.5 - 1)
        path = folder / ("a", "b")[n % 2] / f"{n}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(path, quality=QUALITY)
        paths.append(path)
    return paths


def in_threads(action: Callable, items: list, rounds: int) -> Callable[[], None]:
    pool = concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0)))
    return lambda: [None for _ in pool.map(action, items * rounds)]


def reference(paths: list[Path], boxes: np.ndarray, size: int, rounds: int) -> Callable[[], None]:
    """Opens and decodes the files, and cuts out and resizes their windows [N, S, 4]; nothing more where S = 0."""

    def cut(task: tuple[Path, list[list[float]]]) -> None:
        with Image.open(task[0]) as image:
            image.load()
            for box in task[1]:
                image.crop(box).resize((size, size), Image.Resampling.BICUBIC).tobytes()

    return in_threads(cut, list(zip(paths, boxes.tolist(), strict=True)), rounds)


def centre(count: int, size: int) -> np.ndarray:
    """What an evaluation looks at, in whole pixels: [N, 1, 4]."""
    side = HEIGHT * size / int(1.15 * size)
    left, top = (WIDTH - side) / 2, (HEIGHT - side) / 2
    return np.tile([left, top, left + side, top + side], (count, 1, 1)).astype(int)


def passes(split, asked: Measurement, splits: int, policy: str) -> Callable[[], None]:
    """One pass over all pictures in batches, with every branch's views where the policy has more than a window."""
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
        indices = np.tile(np.arange(split.size), asked.rounds).reshape(-1, 1, asked.batch_size)
        batches = training_batches(split, indices, lambda index, sizes: windows(index, sizes, epoch))
        for batch in batches:
            if "+" in policy:
                see(batch, epoch)

    return run


def evaluation(split, asked: Measurement) -> Callable[[], None]:
    from dico_tf.data.pipeline import evaluation_batches

    whole = split.subset(np.tile(np.arange(split.size), asked.rounds))
    return lambda: [None for _ in evaluation_batches(whole, asked.batch_size)]


def hidden(split, asked: Measurement) -> float:
    """Of the shorter of input and step, the share that passes while the other is at work; the step only waits."""
    from benchmarks.measure import interleaved
    from dico_tf.data.pipeline import training_batches
    from dico_tf.views.image_views import ImageViews

    views = ImageViews(["resized_crop"], 1, 0, (0.0, 0.0, 0.0))
    indices = (np.arange(STEPS * asked.batch_size) % split.size).reshape(STEPS, 1, asked.batch_size)

    def run(wait: float) -> None:
        for _ in training_batches(split, indices, lambda index, sizes: views.windows(index, sizes, 0)):
            time.sleep(wait)

    wait = interleaved({"input": lambda: run(0.0)}, asked.repeats)["input"] / STEPS
    seconds = interleaved({"input": lambda: run(0.0), "both": lambda: run(wait)}, asked.repeats)
    steps = wait * STEPS
    return (seconds["input"] + steps - seconds["both"]) / min(seconds["input"], steps)


def subjects(asked: Measurement, folder: Path, paths: list[Path]) -> tuple[dict[str, Callable], dict[str, str], Any]:
    """Calls, each after the one it is compared with; {call: what it is compared with}; and the files as a split."""
    import tensorflow as tf

    from dico_tf.data import image_decoding
    from dico_tf.data.lazy_images import ImageFiles, LazyImages
    from dico_tf.data.memory_budget import MemoryBudget
    from dico_tf.data.source import Split
    from dico_tf.views.image_views import ImageViews

    sizes, count, size = np.tile([[WIDTH, HEIGHT]], (len(paths), 1)), len(paths), asked.image_size

    def split(room: int) -> Split:
        shelf = ImageFiles(folder, [str(path.relative_to(folder)) for path in paths])
        lazy_images = LazyImages(shelf, sizes, size, image_decoding.short_side(size), MemoryBudget(room))
        return Split(labels=np.zeros(count), ids=shelf.names, lazy_images=lazy_images)

    files, kept = split(0), split(2**40)
    calls = {
        "decode": reference(paths, np.zeros((count, 0, 4)), size, asked.rounds),
        "decode and take the centre": reference(paths, centre(count, size), size, asked.rounds),
        "evaluation": evaluation(files, asked),
    }
    compared = {"evaluation": "decode and take the centre"}
    for s in asked.splits:
        drawn = ImageViews(["resized_crop"], s, 0, (0.0, 0.0, 0.0)).windows(tf.range(count), tf.constant(sizes), 0)
        calls[f"decode and cut {s}"] = reference(paths, drawn.numpy(), size, asked.rounds)
        calls[f"windows {s}"] = passes(files, asked, s, "resized_crop")
        calls[f"views {s}"] = passes(files, asked, s, f"resized_crop+{PIECES}")
        calls[f"kept windows {s}"] = passes(kept, asked, s, "resized_crop")
        compared |= {f"{what} {s}": f"decode and cut {s}" for what in ("windows", "views", "kept windows")}
    return calls, compared, files


def watched(call: Callable[[], Any], busy: list[float]) -> Callable[[], None]:
    """The call, which notes the processor time it took."""

    def run() -> None:
        started = time.process_time()
        call()
        busy.append(time.process_time() - started)

    return run


def against(reference: list[float], times: list[float]) -> float:
    """Median share of the reference's speed, turn by turn: what disturbs one disturbs its neighbour."""
    return statistics.median(a / b for a, b in zip(reference, times, strict=True))


def measure(asked: Measurement, folder: Path) -> None:
    from benchmarks.measure import emit, turns

    paths = write(folder, asked.pictures)
    calls, compared, files = subjects(asked, folder, paths)
    busy = {name: [] for name in calls}  # seconds of processor time, which other work on the machine leaves as they are
    seconds = turns({name: watched(call, busy[name]) for name, call in calls.items()}, asked.repeats)
    weight = statistics.mean(path.stat().st_size for path in paths)
    about = {"image_size": asked.image_size, "pictures": f"{WIDTH}x{HEIGHT}", "bytes": round(weight)}
    for name, times in seconds.items():
        emit(f"input_pipeline {name}", len(paths) * asked.rounds / statistics.median(times), "pictures/s", **about)
        if name in compared:
            other, bar = compared[name], LEAST if name.split()[0] in ("evaluation", "windows") else None
            share = against(seconds[other], times)
            worked = round(against(busy[other][1:], busy[name][1:]), 4)  # without the warm-up
            emit(f"input_pipeline_share {name}", share, f"share of {other}", bar, processor_share=worked, **about)
    share = hidden(files, asked)
    emit("input_pipeline_hidden", share, "share of the shorter of input and step", HIDDEN, **about)


def main(arguments: list[str]) -> None:
    values, _ = flags.parse(SCRIPT, arguments)
    asked = Measurement(**values)
    if asked.repeats < 5:
        raise UserError(f"--repeats={asked.repeats} must be at least 5")
    if not asked.splits or min(asked.splits) < 1 or max(asked.splits) > 9:
        raise UserError(f"--splits={','.join(map(str, asked.splits))}: give numbers of 1 to 9")
    if min(asked.batch_size, asked.pictures, asked.rounds) < 1 or asked.pictures % asked.batch_size:
        raise UserError(
            f"--pictures={asked.pictures} must be a multiple of --batch_size={asked.batch_size}, --rounds at least 1"
        )
    if asked.image_size < 8:
        raise UserError(f"--image_size={asked.image_size} must be at least 8")
    startup.tensorflow()
    with tempfile.TemporaryDirectory() as folder:
        measure(asked, Path(folder))


if __name__ == "__main__":
    flags.run(main)
