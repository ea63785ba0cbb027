"""Milliseconds an image takes: a network whole on one core, and its branches on a core each; what a gateway adds.

python -m benchmarks.latency --model=wrn_16_8 --splits=2
LiteRT, float32, batch 1, one thread a process, processes pinned to cores; the whole with a thread for each core, too.
The gateway's overhead is the time through it minus that of the slowest member, all members being asked at once.
"""

import contextlib
import dataclasses
import itertools
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import grpc
import numpy as np

from dico_tf import flags, startup
from dico_tf.config import option
from dico_tf.errors import UserError

BAR = 0.65  # of the whole's median on one core, for two branches
OVERHEAD_BAR = 2.0  # ms at the median
PARTS = ("whole on one core", "branches on a core each", "whole on all cores")
WARM_UP = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    model: str = option("wrn_16_8", "preset of the whole")
    splits: int = option(2, "branches, each on a core of its own")
    image_size: int = option(32, "side of the images in pixels")
    classes: int = option(10, "number of classes")
    repeats: int = option(9, "interleaved repeats")
    requests: int = option(50, "images in each repeat")
    gateway: bool = option(True, "measure the gateway's overhead as well")


SCRIPT = flags.Script(name="-m benchmarks.latency", about=__doc__, fields=flags.of(Measurement))


def networks(asked: Measurement) -> dict[str, bytes]:
    """LiteRT files of the whole and of each branch."""
    import keras

    from dico_tf.export.convert import network_to_tflite
    from dico_tf.models.presets import PRESETS

    keras.utils.set_random_seed(0)
    preset, shape = PRESETS[asked.model], (asked.image_size, asked.classes)
    branch = preset.divided(asked.splits)
    made = {"whole": network_to_tflite(preset.divided(1).build(*shape))}
    return made | {f"branch_{s}": network_to_tflite(branch.build(*shape)) for s in range(asked.splits)}


def answering(pipe: Connection, network: bytes, cores: set[int], threads: int) -> None:
    """A process of its own: an image in, its logits out."""
    os.sched_setaffinity(0, cores)
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=network, num_threads=threads)
    interpreter.allocate_tensors()
    place, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    with contextlib.suppress(EOFError):
        while True:
            image = np.frombuffer(pipe.recv_bytes(), np.float32)
            interpreter.set_tensor(place, image.reshape(interpreter.get_input_details()[0]["shape"]))
            interpreter.invoke()
            pipe.send_bytes(interpreter.get_tensor(result).tobytes())


@contextlib.contextmanager
def processes(kinds: Sequence[tuple[bytes, set[int], int]]) -> Iterator[list[Connection]]:
    """Pipes to one process for each (network, cores, threads)."""
    context, started = multiprocessing.get_context("spawn"), []
    for kind in kinds:
        ours, theirs = context.Pipe()
        process = context.Process(target=answering, args=(theirs, *kind), daemon=True)
        process.start()
        theirs.close()
        started.append((ours, process))
    try:
        yield [ours for ours, _ in started]
    finally:
        for ours, process in started:
            ours.close()
            process.join(5)


def together(pipes: Sequence[Connection], image: bytes) -> Callable[[], None]:
    """A call that ends when the slowest has answered."""

    def call() -> None:
        for pipe in pipes:
            pipe.send_bytes(image)
        for pipe in pipes:
            pipe.recv_bytes()

    return call


def milliseconds(calls: dict[str, Callable[[], None]], turns: int, requests: int) -> dict[str, list[float]]:
    """Of each call; they take turns of so many requests."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        for _ in range(WARM_UP):
            call()
    for _, (name, call) in itertools.product(range(turns), calls.items()):
        for _ in range(requests):
            started = time.perf_counter()
            call()
            found[name].append(1e3 * (time.perf_counter() - started))
    return found


def percentiles(values: Sequence[float]) -> dict[str, float]:
    return {f"p{p}_ms": round(float(np.percentile(values, p)), 3) for p in (50, 95, 99)}


def divided(asked: Measurement, made: dict[str, bytes], cores: Sequence[int]) -> dict[str, list[float]]:
    image = np.random.default_rng(0).uniform(0, 255, (asked.image_size, asked.image_size, 3)).astype(np.float32)
    branches = [made[f"branch_{s}"] for s in range(asked.splits)]
    kinds = [(made["whole"], {cores[0]}, 1)]
    kinds += [(branch, {core}, 1) for branch, core in zip(branches, cores, strict=False)]
    kinds += [(made["whole"], set(cores[: asked.splits]), asked.splits)]
    with processes(kinds) as pipes:
        groups = (pipes[:1], pipes[1:-1], pipes[-1:])
        calls = {part: together(group, image.tobytes()) for part, group in zip(PARTS, groups, strict=True)}
        return milliseconds(calls, asked.repeats, asked.requests)


def exported(folder: Path, asked: Measurement, made: dict[str, bytes]) -> Path:
    """An export of the branches, without accuracies: they are not trained."""
    from dico_tf.files import manifest

    names, members = [name for name in made if name != "whole"], []
    for name in names:
        (folder / f"{name}.tflite").write_bytes(made[name])
        members.append({
            "name": name, "kind": "run", "input_size": asked.image_size, "params": 0, "macs": 0, "metrics": {},
            "class_names": [str(c) for c in range(asked.classes)],
            "files": {"float32": manifest.measure(folder / f"{name}.tflite", folder)},
        })  # fmt: skip
    content = {"id": "latency", "members": members, "committee": {"members": names, "average": "logits"}}
    (folder / manifest.NAME).write_text(manifest.text(content))
    return folder / manifest.NAME


def asking(places: dict[str, str], image: np.ndarray, stack: contextlib.ExitStack) -> Callable[[], None]:
    """A call that asks all models at their addresses at once, and ends when the slowest has answered."""
    from dico_tf.edge import messages

    calls = []
    for model, place in places.items():
        channel = stack.enter_context(grpc.insecure_channel(place))
        message = messages.request_to_message(messages.InferenceRequest(model, {"image": image}))
        method = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        calls.append((method, message.SerializeToString()))

    def call() -> None:
        for answer in [method.future(content) for method, content in calls]:
            answer.result()

    return call


def overhead(asked: Measurement, made: dict[str, bytes]) -> dict[str, list[float]]:
    """Milliseconds through the gateway, of the slowest member where all are asked at once, and of each alone."""
    image = np.random.default_rng(0).integers(0, 256, (1, asked.image_size, asked.image_size, 3), np.uint8)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        said = stack.enter_context(running(exported(Path(folder), asked, made)))
        places = {"gateway": {"committee": said["grpc"]}, "members": said["members"]}
        places |= {name: {name: place} for name, place in said["members"].items()}
        calls = {name: asking(found, image, stack) for name, found in places.items()}
        return milliseconds(calls, asked.repeats * asked.requests, 1)


@contextlib.contextmanager
def running(path: Path) -> Iterator[dict]:
    """What serve.py local says when it is ready."""
    command = [sys.executable, "serve.py", "local", f"--manifest={path}", "--deadline_ms=10000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1])
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def main(arguments: list[str]) -> None:
    values, _ = flags.parse(SCRIPT, arguments)
    asked = Measurement(**values)
    cores = sorted(os.sched_getaffinity(0))
    if asked.repeats < 5:
        raise UserError(f"--repeats={asked.repeats} must be at least 5")
    if not 1 < asked.splits <= len(cores):
        raise UserError(f"--splits={asked.splits} must be 2 to {len(cores)}: a core for each branch")
    startup.tensorflow()
    from benchmarks.measure import emit

    made = networks(asked)
    about = {"model": asked.model, "splits": asked.splits, "requests": asked.repeats * asked.requests}
    found = divided(asked, made, cores)
    for part in PARTS:
        emit("latency", statistics.median(found[part]), "ms", part=part, **percentiles(found[part]), **about)
    one, branches, _ = (statistics.median(found[part]) for part in PARTS)
    bar = BAR if (asked.model, asked.splits) == ("wrn_16_8", 2) else None
    emit("latency_of_branches", branches / one, "of the whole's on one core", bar, lower=True, **about)
    if asked.gateway:
        through = overhead(asked, made)
        each = [gateway - slowest for gateway, slowest in zip(through["gateway"], through["members"], strict=True)]
        rows = {f"{name}_ms": round(statistics.median(values), 3) for name, values in through.items()}
        emit("gateway_overhead", statistics.median(each), "ms", OVERHEAD_BAR, lower=True, **percentiles(each), **rows,
             **about)  # fmt: skip


if __name__ == "__main__":
    flags.run(main)
