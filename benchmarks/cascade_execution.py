"""Time that a cascade saves by stopping early, compared with the time predicted from its exit rates.

python -m benchmarks.cascade_execution
The predicted time per image is sum_k reach_k time_k, where time_k is measured by running member k on all images in the
same turns. Two cascades are timed. The first has the four classifiers of --models, run by LiteRT: its gates are chosen
on one half of the photos of --photos, and it is timed on the other half. The second has three sizes of one network in
TensorFlow, with random weights and with gates that a fixed share of the images passes.
"""

import csv
import dataclasses
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dico_tf import flags, startup
from dico_tf.committee.decision import NEVER, Committee, average_cost, decide, reach, stages
from dico_tf.committee.pool import Pool
from dico_tf.committee.routing import BUCKETS, refilled, routed
from dico_tf.committee.search import Goal, Space, chosen, search
from dico_tf.config import option
from dico_tf.errors import UserError
from dico_tf.evaluation.cost import Cost

DATA = "../shared/data"
BAR = 0.15  # largest difference from the predicted time, as a share of it
MACS = {  # millions, as their authors state
    "mobilenet_v1_0.25_128_quant": 14, "mobilenet_v1_0.5_160_quant": 77, "mobilenet_v1_0.75_192_quant": 233,
    "mobilenet_v2_1.0_224_quant": 300,
}  # fmt: skip
BATCH, REACH = BUCKETS[-1], (0.4, 0.15)  # images in a batch; share of images that reach the second and third size
CROP = (16, 16, 240, 240)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    photos: str = option(
        f"{DATA}/nips17", "folder of labels.csv and images/; if it is missing, only the networks are timed"
    )
    models: str = option(f"{DATA}/mobilenet_tflite", "folder of the four classifiers")
    network: str = option("wrn_10_3", "preset that is timed whole, divided in 4 and in 16")
    images: int = option(256, "images for the networks in TensorFlow")
    repeats: int = option(5, "interleaved repeats")


SCRIPT = flags.Script(name="-m benchmarks.cascade_execution", about=__doc__, fields=flags.of(Measurement))
Member = Callable[[np.ndarray], np.ndarray]  # indices of images [B] -> logits [B, C]
Run = Callable[[], Any]
ALONE = "the largest alone, one image at a time"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Cascade:
    """A committee, the functions that run its members, and the ways to run it that are timed."""

    part: str
    committee: Committee
    members: Sequence[Member]
    rows: np.ndarray  # indices of the images that are timed
    buckets: Sequence[int] = BUCKETS
    single: dict[str, Run] = dataclasses.field(default_factory=dict)  # other ways to run them one by one
    batched: dict[str, Run] = dataclasses.field(default_factory=dict)


def photos(settings: Measurement) -> tuple[Cascade, dict[str, float]]:
    """Return the cascade of classifiers and its accuracy and cost beside those of the largest one."""
    from PIL import Image

    folder = Path(settings.photos)
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    labels = np.array([int(line["label"]) for line in lines])
    photographs = [Image.open(folder / "images" / line["image"]).convert("RGB").crop(CROP) for line in lines]
    members = {name: classifier(Path(settings.models) / f"{name}.tflite", photographs) for name in MACS}
    rows = np.arange(len(lines))
    logits = {name: member(rows) for name, member in members.items()}
    prices = {name: Cost(macs=1e6 * macs) for name, macs in MACS.items()}
    pool = Pool(logits=logits, labels=labels, ids=np.array([line["image"] for line in lines]), costs=prices)
    calibration, test = pool.random_split(0.5, 0)
    largest = list(MACS)[-1]
    goal = Goal(target=float((calibration.logits[largest].argmax(1) == calibration.labels).mean()))
    committee = chosen(search(calibration, Space(largest=3), goal), goal).committee
    decision = decide(committee, test.stacked(committee.members))
    rows_of_test = np.flatnonzero(np.isin(pool.ids, test.ids))
    about = {
        "accuracy": float((decision.classes == test.labels).mean()),
        "accuracy_of_the_largest": float((test.logits[largest].argmax(1) == test.labels).mean()),
        "macs_by_those_of_the_largest": average_cost([pool.cost(m, "macs") for m in committee.members], decision.stage)
        / pool.cost(largest, "macs"),
    }
    alone = {ALONE: lambda: [members[largest](row) for row in _batches(rows_of_test, 1)]}
    committee_members = [members[name] for name in committee.members]
    return Cascade(
        part="litert", committee=committee, members=committee_members, rows=rows_of_test, buckets=(1,), single=alone
    ), about


def classifier(path: Path, photographs: Sequence) -> Member:
    """Return a function that gives log-probabilities without the background class, one image at a time."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    entry, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    side = int(entry["shape"][1])
    images = np.stack([np.asarray(photograph.resize((side, side), 2)) for photograph in photographs])

    def answer(rows: np.ndarray) -> np.ndarray:
        probabilities = []
        for row in rows:
            interpreter.set_tensor(entry["index"], images[row : row + 1])
            interpreter.invoke()
            probabilities.append(interpreter.get_tensor(result["index"])[0, 1:])
        return np.log(np.maximum(np.stack(probabilities) / np.float32(256), np.float32(1e-4)))

    return answer


def networks(settings: Measurement) -> Cascade:
    """Return a cascade of three sizes of one network, which also runs as one graph."""
    import keras
    import tensorflow as tf

    from dico_tf.export import cascade as graphs
    from dico_tf.models.presets import PRESETS

    keras.utils.set_random_seed(0)
    made = [PRESETS[settings.network].divided(splits, "params", 32, 10).build(32, 10) for splits in (16, 4, 1)]
    for network in made:
        head = network.layers[-1].kernel
        head.assign(np.random.default_rng(0).normal(0, 1, head.shape))
    images = np.random.default_rng(1).integers(0, 256, (settings.images, 32, 32, 3)).astype(np.float32)
    members = [_compiled(network, images) for network in made]
    rows, names = np.arange(settings.images), ("sixteenth", "quarter", "whole")
    logits = np.stack([np.concatenate([member(part) for part in _batches(rows)]) for member in members], 1)
    committee = Committee(members=names, gates=(NEVER, NEVER), confidence="logit_gap")
    sure = stages(committee, logits)[1]
    first = float(np.quantile(sure[:, 0], REACH[0]))
    second = float(np.quantile(sure[sure[:, 0] < first, 1], REACH[1] / REACH[0]))
    committee = dataclasses.replace(committee, gates=(first, second))
    graph = graphs.Cascade(committee=committee, networks=made, costs=(1, 1, 1), classes=10)
    spec = tf.TensorSpec((None, 32, 32, 3), tf.float32)
    call = tf.function(lambda image: graphs.answers(graph, image), input_signature=[spec], autograph=False)

    def in_one_graph() -> None:
        for part in _batches(rows):
            call(tf.constant(images[part]))["logits"].numpy()

    return Cascade(part="tensorflow", committee=committee, members=members, rows=rows,
                   batched={"batches in one graph": in_one_graph})  # fmt: skip


def _compiled(network, images: np.ndarray) -> Member:
    import tensorflow as tf

    spec = tf.TensorSpec((None, *images.shape[1:]), tf.float32)
    call = tf.function(lambda image: network(image, training=False), input_signature=[spec], autograph=False)
    return lambda rows: call(tf.constant(images[rows])).numpy()


def _batches(rows: np.ndarray, size: int = BATCH) -> Iterator[np.ndarray]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _named(cascade: Cascade) -> Iterator[tuple[str, Member]]:
    return zip(cascade.committee.members, cascade.members, strict=True)


def one_by_one(cascade: Cascade) -> dict[str, Run]:
    """Return the runs over all images one by one: of each member alone, then of the cascade."""
    committee, members, rows = cascade.committee, cascade.members, cascade.rows
    ways = {name: lambda m=member: [m(row) for row in _batches(rows, 1)] for name, member in _named(cascade)}
    together = {"one image at a time": lambda: [routed(committee, members, row, (1,)) for row in _batches(rows, 1)]}
    return {**ways, **together, **cascade.single}


def by_batches(cascade: Cascade) -> dict[str, Run]:
    """Return the runs over all images in batches: of each member alone, then of the cascade."""
    committee, members, rows = cascade.committee, cascade.members, cascade.rows
    ways = {name: lambda m=member: [m(part) for part in _batches(rows)] for name, member in _named(cascade)}
    together = {
        "batches": lambda: [routed(committee, members, part, cascade.buckets) for part in _batches(rows)],
        "stream, refilled": lambda: list(refilled(committee, members, _batches(rows), cascade.buckets)),
    }
    return {**ways, **together, **cascade.batched}


class Spent(NamedTuple):
    """Milliseconds per image in each turn."""

    wall: list[float]
    processor: list[float]  # summed over all threads


def timed(ways: dict[str, Run], repeats: int, images: int) -> dict[str, Spent]:
    spent = {name: Spent([], []) for name in ways}
    for turn, (name, run) in itertools.product(range(-1, repeats), ways.items()):
        wall, processor = time.perf_counter(), time.process_time()
        run()
        if turn >= 0:  # the first is warm-up
            spent[name].wall.append(1e3 * (time.perf_counter() - wall) / images)
            spent[name].processor.append(1e3 * (time.process_time() - processor) / images)
    return spent


def report(cascade: Cascade, repeats: int, **about: float) -> None:
    from benchmarks.measure import emit

    order = cascade.committee.members
    stage = routed(cascade.committee, cascade.members, cascade.rows, cascade.buckets).stage
    reached = reach(stage, len(order))
    about = {name: round(value, 4) for name, value in about.items()}
    for ways in (one_by_one(cascade), by_batches(cascade)):
        times = timed(ways, repeats, len(cascade.rows))
        medians = {name: round(statistics.median(spent.wall), 4) for name, spent in times.items()}
        for way in [name for name in ways if name not in order]:
            wall, processor = (_ratio(times, way, order, reached, clock) for clock in Spent._fields)
            alone = way == ALONE  # the baseline without a cascade, which the prediction does not cover
            emit("cascade_execution", wall, "of the predicted time", None if alone else 1 + BAR,
                 met=None if alone else abs(wall - 1) <= BAR, lower=True, part=cascade.part, way=way,
                 by_processor_time=round(processor, 4), images=len(cascade.rows), milliseconds=medians,
                 reach=[round(float(share), 4) for share in reached], order=list(order), **about)  # fmt: skip


def _ratio(times: dict[str, Spent], way: str, order: Sequence[str], reach: np.ndarray, clock: str) -> float:
    """Return the median over the turns of time / sum_k reach_k time_k."""
    apart = np.array([getattr(times[name], clock) for name in order])
    return float(np.median(getattr(times[way], clock) / (reach @ apart)))


def main(arguments: list[str]) -> None:
    values, _ = flags.parse(SCRIPT, arguments)
    settings = Measurement(**values)
    if settings.repeats < 5 or settings.images < BATCH:
        raise UserError(
            f"--repeats={settings.repeats} must be at least 5 and --images={settings.images} at least {BATCH}"
        )
    startup.tensorflow()
    if (Path(settings.photos) / "labels.csv").exists() and Path(settings.models).is_dir():
        cascade, about = photos(settings)
        report(cascade, settings.repeats, **about)
    report(networks(settings), settings.repeats)


if __name__ == "__main__":
    flags.run(main)
