"""serve.py local: one command starts workers and gateway, answers, survives the loss of members, and ends cleanly."""

import contextlib
import functools
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from dico_tf.edge import Client, EdgeError
from dico_tf.evaluation.averaging import combine, softmax
from tests.edge import certificates, exports, gateways, workers

NAMES = list(exports.BRANCHES)
IMAGES = exports.images(3)


def command(manifest, *flags):
    return [sys.executable, "serve.py", "local", f"--manifest={manifest}", "--deadline_ms=5000", *flags]


@functools.cache
def logits(seed):
    """Return the logits [B, C] of a branch, computed in this process."""
    interpreter = Interpreter(model_content=exports.branch(seed), num_threads=1)
    run = interpreter.get_signature_runner("serving_default")
    return np.concatenate([run(image=image[None].astype(np.float32))["logits"] for image in IMAGES])


def expected(*seeds):
    return softmax(combine(np.stack([logits(seed) for seed in seeds], 1)))


def children(process):
    """Return {branch: pid} of the worker processes."""
    result = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            if _parent(pid) == process.pid:
                result[next(word for word in words if word.startswith("--member=")).partition("=")[2]] = int(pid)
    return result


def alive(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


@contextlib.contextmanager
def local(manifest, *flags):
    with workers.running(manifest, words=command(manifest, *flags)) as result:
        yield result


def test_one_command_starts_all_and_answers_as_the_files_do_and_survives_a_member(export):
    with local(export, "--quorum=1") as result, Client(result.grpc) as client:
        assert (
            result.ready_line["ready"] and list(result.ready_line["members"]) == NAMES == result.ready_line["present"]
        )
        reply = client.predict(IMAGES, deadline=20)
        assert reply.probabilities == pytest.approx(expected(0, 1), abs=1e-6)
        assert (reply.used, reply.export, reply.class_names) == (tuple(NAMES), "first", exports.CLASSES)
        hint = result.process.stdout.readline()
        assert hint.startswith("try: curl ") and f"http://{result.http}/v2/models/committee/infer" in hint

        pids = children(result.process)
        assert sorted(pids) == NAMES
        os.kill(pids["branch_1"], signal.SIGSTOP)
        reply = client.predict(IMAGES, deadline=2)
        assert (reply.used, reply.late) == (("branch_0",), ("branch_1",))
        os.kill(pids["branch_1"], signal.SIGCONT)
        workers.until(lambda: client.predict(IMAGES, deadline=20).used == tuple(NAMES))

        os.kill(pids["branch_0"], signal.SIGKILL)
        reply = client.predict(IMAGES, deadline=20)
        assert reply.used == ("branch_1",) and list(reply.missing) == ["branch_0"]
        assert reply.probabilities == pytest.approx(expected(1), abs=1e-6)
    assert not any(map(alive, pids.values()))


@pytest.mark.slow
def test_a_new_export_is_taken_by_all_and_no_answer_mixes_two(tmp_path):
    path = exports.small(tmp_path)
    with local(path) as result, Client(result.grpc) as client:
        assert client.predict(IMAGES, deadline=20).export == "first"
        exports.small(tmp_path, "second", seed=2)
        until, seen = time.monotonic() + 60, set()
        while "second" not in seen and time.monotonic() < until:
            with contextlib.suppress(EdgeError):  # with two members there may be no quorum while they change over
                reply = client.predict(IMAGES, deadline=20)
                assert set(reply.versions.values()) == {reply.export}
                seeds = (0, 1) if reply.export == "first" else (2, 3)
                assert reply.probabilities == pytest.approx(expected(*seeds), abs=1e-6)
                seen.add(reply.export)
        assert "second" in seen


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_however_it_ends_no_worker_is_left(export, number):
    with local(export) as result:
        pids = children(result.process).values()
        assert len(pids) == 2 and all(map(alive, pids))
        result.process.send_signal(number)
        result.process.wait(60)
        workers.until(lambda: not any(map(alive, pids)))
        assert result.process.returncode is not None


def test_it_ends_when_whoever_started_it_has(export):
    words = command(export)
    code = f"import subprocess, time; subprocess.Popen({words!r}); time.sleep(600)"
    with workers.running(export, words=[sys.executable, "-c", code]) as parent:
        local = next(int(pid) for pid in filter(str.isdigit, os.listdir("/proc")) if _parent(pid) == parent.process.pid)
        parent.process.kill()
        parent.process.wait()
        workers.until(lambda: not alive(local))
        assert parent.process.returncode == -signal.SIGKILL and not alive(local)


def _parent(pid):
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def test_a_worker_that_cannot_start_is_named_and_nothing_is_left(tmp_path):
    path = exports.small(tmp_path)
    next(tmp_path.rglob("branch_1_float32.tflite")).write_bytes(b"weightz")
    response = workers.refused(*command(path))
    assert "is not the one exported" in response and "the worker of branch_1 did not start" in response


def test_members_are_asked_over_mutual_tls_with_a_token(export, tmp_path):
    made = certificates.make(tmp_path)
    (tmp_path / "token").write_text("correct-horse-battery")
    server = [f"--tls_cert={made.server.cert}", f"--tls_key={made.server.key}", f"--token_file={tmp_path}/token"]
    both = [*server, f"--tls_client_ca={made.ca}"]
    credentials = [
        f"--member_tls_ca={made.ca}",
        f"--member_tls_cert={made.client.cert}",
        f"--member_tls_key={made.client.key}",
        f"--member_token_file={tmp_path}/token",
    ]
    with contextlib.ExitStack() as stack:
        places = {name: stack.enter_context(workers.running(export, *both, member=name)).grpc for name in NAMES}
        flags = [*server, "--deadline_ms=20000"]
        gateway = stack.enter_context(gateways.running(export, places, *flags, *credentials))
        assert gateway.ready_line["present"] == NAMES
        client = stack.enter_context(Client(gateway.grpc, tls_ca=made.ca, token="correct-horse-battery"))
        assert client.predict(IMAGES, deadline=20).probabilities == pytest.approx(expected(0, 1), abs=1e-6)
        stranger = stack.enter_context(gateways.running(export, places, *flags, f"--member_tls_ca={made.ca}"))
        assert stranger.ready_line["present"] == [] and not stranger.ready_line["ready"]
