"""What stopping early saves on the clock, against what exit rates and the members' own times predict.

python -m benchmarks.cascade_execution
Predicted: sum_k reach_k time_k an image, time_k of each member run on all images in the same turns. Members are the
four classifiers of --models on the photos of --photos, run by LiteRT, whose cascade is searched on one half of the
photos and timed on the other; and three sizes of one network in TensorFlow, with random weights and gates that a set
share passes.
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
BAR = 0.15  # of the predicted time, either way
MACS = {  # millions, as their authors say
    "mobilenet_v1_0.25_128_quant": 14, "mobilenet_v1_0.5_160_quant": 77, "mobilenet_v1_0.75_192_quant": 233,
    "mobilenet_v2_1.0_224_quant": 300,
}  # fmt: skip
BATCH, REACH = BUCKETS[-1], (0.4, 0.15)  # images of a batch; share of images that come to the second and third size
CROP = (16, 16, 240, 240)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    photos: str = option(f"{DATA}/nips17", "folder of labels.csv and images/; where there is none: the networks alone")
    models: str = option(f"{DATA}/mobilenet_tflite", "folder of the four classifiers")
    network: str = option("wrn_10_3", "preset whose whole and two divisions are the sizes of one network")
    images: int = option(256, "images of the networks in TensorFlow")
    repeats: int = option(5, "interleaved repeats")


SCRIPT = flags.Script(name="-m benchmarks.cascade_execution", about=__doc__, fields=flags.of(Measurement))
Member = Callable[[np.ndarray], np.ndarray]  # numbers of images [B] -> logits [B, C]
Run = Callable[[], Any]
ALONE = "the largest alone, one image at a time"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Cascade:
    part: str
    committee: Committee
    members: Sequence[Member]
    rows: np.ndarray  # numbers of the images that are timed
    buckets: Sequence[int] = BUCKETS
    single: dict[str, Run] = dataclasses.field(default_factory=dict)  # other ways to run them one by one
    batched: dict[str, Run] = dataclasses.field(default_factory=dict)


def photos(asked: Measurement) -> tuple[Cascade, dict[str, float]]:
    """(the cascade, its accuracy beside that of the largest member)."""
    from PIL import Image

    folder = Path(asked.photos)
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    labels = np.array([int(line["label"]) for line in lines])
    pictures = [Image.open(folder / "images" / line["image"]).convert("RGB").crop(CROP) for line in lines]
    members = {name: classifier(Path(asked.models) / f"{name}.tflite", pictures) for name in MACS}
    rows = np.arange(len(lines))
    logits = {name: member(rows) for name, member in members.items()}
    prices = {name: Cost(macs=1e6 * macs) for name, macs in MACS.items()}
    pool = Pool(logits=logits, labels=labels, ids=np.array([line["image"] for line in lines]), costs=prices)
    fitted, test = pool.halves(0.5, 0)
    largest = list(MACS)[-1]
    goal = Goal(target=float((fitted.logits[largest].argmax(1) == fitted.labels).mean()))
    committee = chosen(search(fitted, Space(largest=3), goal), goal).committee
    decision = decide(committee, test.stacked(committee.members))
    rows_of_test = np.flatnonzero(np.isin(pool.ids, test.ids))
    about = {
        "accuracy": float((decision.classes == test.labels).mean()),
        "accuracy_of_the_largest": float((test.logits[largest].argmax(1) == test.labels).mean()),
        "macs_by_those_of_the_largest": average_cost([pool.cost(m, "macs") for m in committee.members], decision.stage)
        / pool.cost(largest, "macs"),
    }
    alone = {ALONE: lambda: [members[largest](row) for row in _batches(rows_of_test, 1)]}
    asked_ones = [members[name] for name in committee.members]
    return Cascade(
        part="litert", committee=committee, members=asked_ones, rows=rows_of_test, buckets=(1,), single=alone
    ), about


def classifier(path: Path, pictures: Sequence) -> Member:
    """Log-probabilities without the background; its files take one image a call."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    entry, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    side = int(entry["shape"][1])
    images = np.stack([np.asarray(picture.resize((side, side), 2)) for picture in pictures])

    def answer(rows: np.ndarray) -> np.ndarray:
        found = []
        for row in rows:
            interpreter.set_tensor(entry["index"], images[row : row + 1])
            interpreter.invoke()
            found.append(interpreter.get_tensor(result["index"])[0, 1:])
        return np.log(np.maximum(np.stack(found) / np.float32(256), np.float32(1e-4)))

    return answer


def networks(asked: Measurement) -> Cascade:
    """Sizes of one network in one process, and the cascade of them in one graph."""
    import keras
    import tensorflow as tf

    from dico_tf.export import cascade as graphs
    from dico_tf.models.presets import PRESETS

    keras.utils.set_random_seed(0)
    made = [PRESETS[asked.network].divided(splits, "params", 32, 10).build(32, 10) for splits in (16, 4, 1)]
    for network in made:
        head = network.layers[-1].kernel
        head.assign(np.random.default_rng(0).normal(0, 1, head.shape))
    images = np.random.default_rng(1).integers(0, 256, (asked.images, 32, 32, 3)).astype(np.float32)
    members = [_compiled(network, images) for network in made]
    rows, names = np.arange(asked.images), ("sixteenth", "quarter", "whole")
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
    """{way: a run over all images}: each member by itself, then the cascade."""
    committee, members, rows = cascade.committee, cascade.members, cascade.rows
    ways = {name: lambda m=member: [m(row) for row in _batches(rows, 1)] for name, member in _named(cascade)}
    together = {"one image at a time": lambda: [routed(committee, members, row, (1,)) for row in _batches(rows, 1)]}
    return {**ways, **together, **cascade.single}


def by_batches(cascade: Cascade) -> dict[str, Run]:
    committee, members, rows = cascade.committee, cascade.members, cascade.rows
    ways = {name: lambda m=member: [m(part) for part in _batches(rows)] for name, member in _named(cascade)}
    together = {
        "batches": lambda: [routed(committee, members, part, cascade.buckets) for part in _batches(rows)],
        "stream, refilled": lambda: list(refilled(committee, members, _batches(rows), cascade.buckets)),
    }
    return {**ways, **together, **cascade.batched}


class Spent(NamedTuple):
    """Milliseconds an image, of each turn."""

    wall: list[float]
    processor: list[float]  # of all threads


def timed(ways: dict[str, Run], repeats: int, images: int) -> dict[str, Spent]:
    found = {name: Spent([], []) for name in ways}
    for turn, (name, run) in itertools.product(range(-1, repeats), ways.items()):
        wall, processor = time.perf_counter(), time.process_time()
        run()
        if turn >= 0:  # the first is warm-up
            found[name].wall.append(1e3 * (time.perf_counter() - wall) / images)
            found[name].processor.append(1e3 * (time.process_time() - processor) / images)
    return found


def report(cascade: Cascade, repeats: int, **about: float) -> None:
    from benchmarks.measure import emit

    order = cascade.committee.members
    stage = routed(cascade.committee, cascade.members, cascade.rows, cascade.buckets).stage
    reached = reach(stage, len(order))
    about = {name: round(value, 4) for name, value in about.items()}
    for ways in (one_by_one(cascade), by_batches(cascade)):
        found = timed(ways, repeats, len(cascade.rows))
        medians = {name: round(statistics.median(spent.wall), 4) for name, spent in found.items()}
        for way in [name for name in ways if name not in order]:
            wall, processor = (_ratio(found, way, order, reached, clock) for clock in Spent._fields)
            alone = way == ALONE  # what a user without a cascade has; no prediction is meant for it
            emit("cascade_execution", wall, "of the predicted time", None if alone else 1 + BAR,
                 met=None if alone else abs(wall - 1) <= BAR, lower=True, part=cascade.part, way=way,
                 by_processor_time=round(processor, 4), images=len(cascade.rows), milliseconds=medians,
                 reach=[round(float(share), 4) for share in reached], order=list(order), **about)  # fmt: skip


def _ratio(found: dict[str, Spent], way: str, order: Sequence[str], reach: np.ndarray, clock: str) -> float:
    """Median over the turns of time / sum_k reach_k time_k."""
    apart = np.array([getattr(found[name], clock) for name in order])
    return float(np.median(getattr(found[way], clock) / (reach @ apart)))


def main(arguments: list[str]) -> None:
    values, _ = flags.parse(SCRIPT, arguments)
    asked = Measurement(**values)
    if asked.repeats < 5 or asked.images < BATCH:
        raise UserError(f"--repeats={asked.repeats} must be at least 5 and --images={asked.images} at least {BATCH}")
    startup.tensorflow()
    if (Path(asked.photos) / "labels.csv").exists() and Path(asked.models).is_dir():
        cascade, about = photos(asked)
        report(cascade, asked.repeats, **about)
    report(networks(asked), asked.repeats)


if __name__ == "__main__":
    flags.run(main)
