"""Milliseconds by which an answer comes after its deadline when a member of the committee has stopped (SIGSTOP).

python -m benchmarks.lateness --manifest=O/manifest.json
Workers and the gateway are processes; the time is a client's, over gRPC on this machine. The last branch is stopped
before each request and goes on after it, or its circuit would open and nobody would wait for it.
"""

import contextlib
import dataclasses
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dico_tf import flags
from dico_tf.config import option
from dico_tf.errors import UserError

BAR = 10.0  # ms
TRIES = 100  # requests in which a member that goes on must be heard again


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    manifest: str = option("", "manifest.json of an export of at least two branches")
    deadline_ms: int = option(100, "deadline of each request")
    requests: int = option(200, "requests with a member stopped")


SCRIPT = flags.Script(name="-m benchmarks.lateness", about=__doc__, fields=flags.of(Measurement))


@contextlib.contextmanager
def serving(verb: str, *words: str) -> Iterator[tuple[subprocess.Popen, dict]]:
    """A process of serve.py, and what it says when it is ready."""
    command = [sys.executable, "serve.py", verb, "--http_port=-1", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1])
    try:
        yield process, json.loads(process.stdout.readline() or "{}")
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait()
        process.stdout.close()


def late(asked: Measurement, branches: list[str], size: int) -> list[float]:
    """Milliseconds after the deadline."""
    from dico_tf.edge import Client

    manifest, image = f"--manifest={os.path.abspath(asked.manifest)}", np.zeros((1, size, size, 3), np.uint8)
    with contextlib.ExitStack() as stack:
        started = {name: stack.enter_context(serving("worker", manifest, f"--member={name}")) for name in branches}
        members = ",".join(f"{name}={said['grpc']}" for name, (_, said) in started.items())
        rules = (f"--members={members}", f"--quorum={len(branches) - 1}", f"--deadline_ms={asked.deadline_ms}")
        _, said = stack.enter_context(serving("gateway", manifest, *rules))
        client, straggler = stack.enter_context(Client(said["grpc"])), started[branches[-1]][0]
        found = []
        while len(found) < asked.requests:
            if not any(len(client.predict(image).used) == len(branches) for _ in range(TRIES)):
                raise UserError(f"{branches[-1]} was not heard within --deadline_ms={asked.deadline_ms}: give more")
            straggler.send_signal(signal.SIGSTOP)
            start = time.perf_counter()
            answer = client.predict(image)
            taken = 1e3 * (time.perf_counter() - start)
            straggler.send_signal(signal.SIGCONT)
            if answer.late:
                found.append(taken - asked.deadline_ms)
        return found


def main(arguments: list[str]) -> None:
    values, _ = flags.parse(SCRIPT, arguments)
    asked = Measurement(**values)
    from benchmarks.measure import emit
    from dico_tf.files import manifest

    found = manifest.load(asked.manifest or "manifest.json")
    if len(found.branches) < 2:
        raise UserError(f"{asked.manifest} has one branch: nobody is left when it stops")
    values = late(asked, found.branches, found.member(found.branches[0])["input_size"])
    more = {f"p{p}_ms": round(float(np.percentile(values, p)), 2) for p in (95, 99)}
    emit("lateness", statistics.median(values), "ms", BAR, lower=True, **more, most_ms=round(max(values), 2),
         requests=len(values), deadline_ms=asked.deadline_ms)  # fmt: skip


if __name__ == "__main__":
    flags.run(main)
