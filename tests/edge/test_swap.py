"""A worker switches to a new export under load without a failed request, and refuses broken ones."""

import os
import queue
import signal
import threading

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from dico_tf.edge.inference.engine import InferenceEngine
from dico_tf.edge.inference.model import load
from dico_tf.edge.inference.watch import ExportWatcher
from dico_tf.files import manifest
from tests.edge import exports, workers

SEEDS = {"first": 0, "second": 2, "third": 4}


def expected(seed, images):
    runner = Interpreter(model_content=exports.branch(seed)).get_signature_runner("serving_default")
    return np.concatenate([runner(image=image[None].astype(np.float32))["logits"] for image in images])


def put(path, content: bytes):
    """Write a file in one step; a half-written file would be refused for another reason."""
    path.with_suffix(".new").write_bytes(content)
    path.with_suffix(".new").replace(path)


def version(worker):
    return worker.infer({"image": exports.images(1)}).version


def test_exports_are_replaced_under_load_and_every_answer_is_its_versions_own(tmp_path):
    path = exports.small(tmp_path)
    images = exports.images(3)
    right = {name: expected(seed, images) for name, seed in SEEDS.items()}
    with workers.running(path, "--watch_seconds=0.05", "--threads=2") as worker:
        wrong, seen, over = [], [], threading.Event()

        def ask():
            while not over.is_set():
                try:
                    answer = worker.infer({"image": images})
                    seen.append(answer.version)
                    if not np.array_equal(answer.outputs["logits"], right[answer.version]):
                        wrong.append(answer.version)
                except Exception as error:
                    wrong.append(error)

        threads = [threading.Thread(target=ask) for _ in range(2)]
        [thread.start() for thread in threads]
        for name in ("second", "third", "first"):
            exports.small(tmp_path, name, SEEDS[name])
            count = len(seen)
            workers.until(lambda name=name, count=count: name in seen[count:] and seen[-1] == name)
        over.set()
        [thread.join() for thread in threads]
        assert wrong == [] and set(seen) == set(SEEDS)
        assert worker.metric('dico_exports_total{result="swapped"}') == 3
        assert worker.metric("dico_export_info") == 1


def test_a_broken_export_is_refused_and_taken_once_it_is_whole(tmp_path):
    path = exports.small(tmp_path)
    with workers.running(path, "--watch_seconds=0.05") as worker:
        content = exports.small(tmp_path / "elsewhere", "second", 2).read_bytes()
        put(path, content[:500])
        workers.until(lambda: "is refused and the old one stays in use" in worker.log)
        assert version(worker) == "first"
        put(path, content)  # whose files are not there yet
        workers.until(lambda: "is missing" in worker.log)
        assert version(worker) == "first"
        refused = worker.log.count("is missing")
        (tmp_path / "tflite/second").mkdir()
        for name in ("branch_0", "branch_1"):
            file = f"tflite/second/{name}_float32.tflite"
            put(tmp_path / file, (tmp_path / "elsewhere" / file).read_bytes())
        workers.until(lambda: version(worker) == "second")
        assert refused == 1 and worker.metric('dico_exports_total{result="refused"}') == 2


def test_an_export_whose_network_answers_with_no_numbers_is_refused(tmp_path):
    path = exports.small(tmp_path)
    with workers.running(path, "--watch_seconds=0.05") as worker:
        exports.written(tmp_path, {"branch_0": exports.branch(0, float("nan"))}, "second")
        workers.until(lambda: "are not finite" in worker.log)
        assert version(worker) == "first"


def test_an_export_that_came_while_the_first_was_loaded_is_taken_as_well(tmp_path):
    path, noted = exports.small(tmp_path), queue.SimpleQueue()
    seen = manifest.stamp(path)
    engine = InferenceEngine(load(path, "branch_0", "safest", 1, 1), 1, 1)
    exports.small(tmp_path, "second", 2)
    watch = ExportWatcher(engine, path, lambda: load(path, "branch_0", "safest", 1, 1), noted.put, 0.05, seen)
    assert noted.get(timeout=60) == "swapped" and engine.model.version == "second"
    watch.stop()
    engine.stop(5)


def test_sighup_looks_at_once(tmp_path):
    path = exports.small(tmp_path)
    with workers.running(path, "--watch_seconds=1000") as worker:
        exports.small(tmp_path, "second", 2)
        assert version(worker) == "first"
        worker.process.send_signal(signal.SIGHUP)
        workers.until(lambda: version(worker) == "second")
        worker.process.send_signal(signal.SIGHUP)
        workers.until(lambda: worker.metric('dico_exports_total{result="unchanged"}') == 1)


def test_a_folder_that_is_swapped_as_a_whole_is_noticed(tmp_path):
    (tmp_path / "now").symlink_to(exports.small(tmp_path / "one").parent)
    exports.small(tmp_path / "two", "second", 2)
    with workers.running(tmp_path / "now", "--watch_seconds=0.05") as worker:
        assert version(worker) == "first"
        (tmp_path / "next").symlink_to(tmp_path / "two")
        os.replace(tmp_path / "next", tmp_path / "now")
        workers.until(lambda: version(worker) == "second")
        (tmp_path / "two").rename(tmp_path / "away")
        workers.until(lambda: "does not exist" in worker.log)
        assert version(worker) == "second"
