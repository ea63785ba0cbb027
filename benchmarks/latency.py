"""Latency of a whole network on one core, of its branches on one core each, and of the gateway.

python -m benchmarks.latency --model=wrn_16_8 --splits=2
Uses LiteRT, float32, batch 1, with one thread per process and processes pinned to cores. The whole network is also
measured with one thread for each core. The gateway's overhead is the time through it minus that of the slowest member
when all members are called at once.
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

BAR = 0.65  # share of the whole network's median on one core, for two branches
OVERHEAD_BAR = 2.0  # ms at the median
PARTS = ("whole on one core", "branches on a core each", "whole on all cores")
WARM_UP = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    model: str = option("wrn_16_8", "preset of the whole network")
    splits: int = option(2, "branches, each on its own core")
    image_size: int = option(32, "side of the images in pixels")
    classes: int = option(10, "number of classes")
    repeats: int = option(9, "interleaved repeats")
    requests: int = option(50, "images in each repeat")
    gateway: bool = option(True, "measure the gateway's overhead too")


SCRIPT = flags.Script(name="-m benchmarks.latency", about=__doc__, fields=flags.of(Measurement))


def networks(settings: Measurement) -> dict[str, bytes]:
    """Return LiteRT files of the whole network and of each branch by name."""
    import keras

    from dico_tf.export.convert import network_to_tflite
    from dico_tf.models.presets import PRESETS

    keras.utils.set_random_seed(0)
    preset, shape = PRESETS[settings.model], (settings.image_size, settings.classes)
    branch = preset.divided(settings.splits)
    files = {"whole": network_to_tflite(preset.divided(1).build(*shape))}
    return files | {f"branch_{s}": network_to_tflite(branch.build(*shape)) for s in range(settings.splits)}


def serve_network(pipe: Connection, network: bytes, cores: set[int], threads: int) -> None:
    """Receive images from a pipe and send back their logits until it closes."""
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
    """Start one process for each (network, cores, threads); yield the pipes to them."""
    context, started = multiprocessing.get_context("spawn"), []
    for kind in kinds:
        ours, theirs = context.Pipe()
        process = context.Process(target=serve_network, args=(theirs, *kind), daemon=True)
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
    """Return a call that sends an image to all processes and waits for the slowest."""

    def call() -> None:
        for pipe in pipes:
            pipe.send_bytes(image)
        for pipe in pipes:
            pipe.recv_bytes()

    return call


def milliseconds(calls: dict[str, Callable[[], None]], turns: int, requests: int) -> dict[str, list[float]]:
    """Return the milliseconds of every request by call; the calls take turns of `requests` each."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        for _ in range(WARM_UP):
            call()
    for _, (name, call) in itertools.product(range(turns), calls.items()):
        for _ in range(requests):
            started = time.perf_counter()
            call()
            times[name].append(1e3 * (time.perf_counter() - started))
    return times


def percentiles(values: Sequence[float]) -> dict[str, float]:
    return {f"p{p}_ms": round(float(np.percentile(values, p)), 3) for p in (50, 95, 99)}


def divided(settings: Measurement, files: dict[str, bytes], cores: Sequence[int]) -> dict[str, list[float]]:
    """Return the milliseconds of each of PARTS."""
    image = np.random.default_rng(0).uniform(0, 255, (settings.image_size, settings.image_size, 3)).astype(np.float32)
    branches = [files[f"branch_{s}"] for s in range(settings.splits)]
    kinds = [(files["whole"], {cores[0]}, 1)]
    kinds += [(branch, {core}, 1) for branch, core in zip(branches, cores, strict=False)]
    kinds += [(files["whole"], set(cores[: settings.splits]), settings.splits)]
    with processes(kinds) as pipes:
        groups = (pipes[:1], pipes[1:-1], pipes[-1:])
        calls = {part: together(group, image.tobytes()) for part, group in zip(PARTS, groups, strict=True)}
        return milliseconds(calls, settings.repeats, settings.requests)


def exported(folder: Path, settings: Measurement, files: dict[str, bytes]) -> Path:
    """Write an export of the untrained branches, without accuracies; return the path of its manifest."""
    from dico_tf.files import manifest

    names, members = [name for name in files if name != "whole"], []
    for name in names:
        (folder / f"{name}.tflite").write_bytes(files[name])
        members.append({
            "name": name, "kind": "run", "input_size": settings.image_size, "params": 0, "macs": 0, "metrics": {},
            "class_names": [str(c) for c in range(settings.classes)],
            "files": {"float32": manifest.measure(folder / f"{name}.tflite", folder)},
        })  # fmt: skip
    content = {"id": "latency", "members": members, "committee": {"members": names, "average": "logits"}}
    (folder / manifest.NAME).write_text(manifest.text(content))
    return folder / manifest.NAME


def call_models(addresses: dict[str, str], image: np.ndarray, stack: contextlib.ExitStack) -> Callable[[], None]:
    """Return a call that sends an image to all models at once and waits for the slowest answer."""
    from dico_tf.edge import messages

    calls = []
    for model, address in addresses.items():
        channel = stack.enter_context(grpc.insecure_channel(address))
        message = messages.request_to_message(messages.InferenceRequest(model, {"image": image}))
        method = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        calls.append((method, message.SerializeToString()))

    def call() -> None:
        for answer in [method.future(content) for method, content in calls]:
            answer.result()

    return call


def overhead(settings: Measurement, files: dict[str, bytes]) -> dict[str, list[float]]:
    """Return the milliseconds through the gateway, of all members called at once, and of each member alone."""
    image = np.random.default_rng(0).integers(0, 256, (1, settings.image_size, settings.image_size, 3), np.uint8)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        status = stack.enter_context(running(exported(Path(folder), settings, files)))
        targets = {"gateway": {"committee": status["grpc"]}, "members": status["members"]}
        targets |= {name: {name: address} for name, address in status["members"].items()}
        calls = {name: call_models(addresses, image, stack) for name, addresses in targets.items()}
        return milliseconds(calls, settings.repeats * settings.requests, 1)


@contextlib.contextmanager
def running(path: Path) -> Iterator[dict]:
    """Run serve.py local; yield the status it prints when it is ready."""
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
    settings = Measurement(**values)
    cores = sorted(os.sched_getaffinity(0))
    if settings.repeats < 5:
        raise UserError(f"--repeats={settings.repeats} must be at least 5")
    if not 1 < settings.splits <= len(cores):
        raise UserError(f"--splits={settings.splits} must be 2 to {len(cores)}, one core for each branch")
    startup.tensorflow()
    from benchmarks.measure import emit

    files = networks(settings)
    about = {"model": settings.model, "splits": settings.splits, "requests": settings.repeats * settings.requests}
    times = divided(settings, files, cores)
    for part in PARTS:
        emit("latency", statistics.median(times[part]), "ms", part=part, **percentiles(times[part]), **about)
    one, branches, _ = (statistics.median(times[part]) for part in PARTS)
    bar = BAR if (settings.model, settings.splits) == ("wrn_16_8", 2) else None
    emit("latency_of_branches", branches / one, "of the whole's on one core", bar, lower=True, **about)
    if settings.gateway:
        through = overhead(settings, files)
        each = [gateway - slowest for gateway, slowest in zip(through["gateway"], through["members"], strict=True)]
        rows = {f"{name}_ms": round(statistics.median(values), 3) for name, values in through.items()}
        emit("gateway_overhead", statistics.median(each), "ms", OVERHEAD_BAR, lower=True, **percentiles(each), **rows,
             **about)  # fmt: skip


if __name__ == "__main__":
    flags.run(main)
