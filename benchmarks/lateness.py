"""Delay of answers after their deadline while one member of the committee is stopped (SIGSTOP).

python -m benchmarks.lateness --manifest=O/manifest.json
Workers and the gateway are processes on this machine; a client measures the time over gRPC. The last branch is stopped
before each request and resumed after it. Otherwise the gateway's circuit breaker would open and stop waiting for it.
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
TRIES = 100  # requests within which a resumed member must answer again


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    manifest: str = option("", "manifest.json of an export of at least two branches")
    deadline_ms: int = option(100, "deadline of each request")
    requests: int = option(200, "requests with one member stopped")


SCRIPT = flags.Script(name="-m benchmarks.lateness", about=__doc__, fields=flags.of(Measurement))


@contextlib.contextmanager
def serving(verb: str, *words: str) -> Iterator[tuple[subprocess.Popen, dict]]:
    """Run serve.py; yield its process and the status it prints when it is ready."""
    command = [sys.executable, "serve.py", verb, "--http_port=-1", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1])
    try:
        yield process, json.loads(process.stdout.readline() or "{}")
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait()
        process.stdout.close()


def delays(settings: Measurement, branches: list[str], size: int) -> list[float]:
    """Return how many milliseconds after its deadline each answer came."""
    from dico_tf.edge import Client

    manifest, image = f"--manifest={os.path.abspath(settings.manifest)}", np.zeros((1, size, size, 3), np.uint8)
    with contextlib.ExitStack() as stack:
        started = {name: stack.enter_context(serving("worker", manifest, f"--member={name}")) for name in branches}
        members = ",".join(f"{name}={status['grpc']}" for name, (_, status) in started.items())
        rules = (f"--members={members}", f"--quorum={len(branches) - 1}", f"--deadline_ms={settings.deadline_ms}")
        _, status = stack.enter_context(serving("gateway", manifest, *rules))
        client, straggler = stack.enter_context(Client(status["grpc"])), started[branches[-1]][0]
        milliseconds = []
        while len(milliseconds) < settings.requests:
            if not any(len(client.predict(image).used) == len(branches) for _ in range(TRIES)):
                raise UserError(
                    f"{branches[-1]} did not answer within --deadline_ms={settings.deadline_ms}; give a longer one"
                )
            straggler.send_signal(signal.SIGSTOP)
            start = time.perf_counter()
            answer = client.predict(image)
            duration = 1e3 * (time.perf_counter() - start)
            straggler.send_signal(signal.SIGCONT)
            if answer.late:
                milliseconds.append(duration - settings.deadline_ms)
        return milliseconds


def main(arguments: list[str]) -> None:
    values, _ = flags.parse(SCRIPT, arguments)
    settings = Measurement(**values)
    from benchmarks.measure import emit
    from dico_tf.files import manifest

    export = manifest.load(settings.manifest or "manifest.json")
    if len(export.branches) < 2:
        raise UserError(f"--manifest={settings.manifest} must have at least two branches, got one")
    values = delays(settings, export.branches, export.member(export.branches[0])["input_size"])
    more = {f"p{p}_ms": round(float(np.percentile(values, p)), 2) for p in (95, 99)}
    emit("lateness", statistics.median(values), "ms", BAR, lower=True, **more, most_ms=round(max(values), 2),
         requests=len(values), deadline_ms=settings.deadline_ms)  # fmt: skip


if __name__ == "__main__":
    flags.run(main)
