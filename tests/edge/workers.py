"""Workers in separate processes, and plain clients: `with workers.running(path) as worker: worker.infer(...)`."""

import contextlib
import http.client
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import grpc
import numpy as np

from dico_tf.edge import messages
from dico_tf.wire import health_pb2, inference_pb2

ROOT = Path(__file__).parents[2]
SERVICE = "/inference.GRPCInferenceService/"
PNG, JPEG, JSON = "image/png", "image/jpeg", "application/json"


def command(manifest: Path, *flags: str, member: str = "branch_0") -> list[str]:
    return [sys.executable, "serve.py", "worker", f"--manifest={manifest}", f"--member={member}", *flags]


def refused(*words: str, env: Mapping[str, str] = {}) -> str:
    """Run a command that must be refused with exit status 2 and no traceback; return its error message."""
    done = subprocess.run(
        words, cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (2, ""), done
    assert "Traceback" not in done.stderr
    return re.split("serve.py: |dico serve: ", done.stderr, maxsplit=1)[1].strip()


class Worker:
    def __init__(self, process: subprocess.Popen, reply: dict, log: Path, credentials: grpc.ChannelCredentials | None):
        self.process, self.ready_line, self._log = process, reply, log
        self.grpc, self.http = reply["grpc"], reply.get("http")
        options = [("grpc.max_receive_message_length", -1)]
        secure = credentials is not None
        self.channel = (
            grpc.secure_channel(self.grpc, credentials, options)
            if secure
            else grpc.insecure_channel(self.grpc, options)
        )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def status(self) -> dict[str, int]:
        """Return the process's resident memory in MB and its number of threads."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        words = {line.split(":")[0]: line.split()[1:] for line in lines}
        return {"rss": int(words["VmRSS"][0]) // 1024, "threads": int(words["Threads"][0])}

    def cpu_seconds(self) -> float:
        """Return the CPU time that the process has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def call(self, method: str, content: bytes, timeout: float = 30, **metadata: str) -> bytes:
        path = method if method.startswith("/") else SERVICE + method
        return self.channel.unary_unary(path)(content, timeout=timeout, metadata=tuple(metadata.items()))

    def infer(
        self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] = (), timeout=30, **query
    ) -> messages.InferenceResponse:
        message = messages.request_to_message(
            messages.InferenceRequest(query.pop("model", "branch_0"), inputs, tuple(outputs), **query)
        )
        reply = self.call("ModelInfer", message.SerializeToString(), timeout)
        return messages.response_from_message(inference_pb2.ModelInferResponse.FromString(reply))

    def health(self, service: str = "") -> int:
        query = health_pb2.HealthCheckRequest(service=service).SerializeToString()
        return health_pb2.HealthCheckResponse.FromString(self.call("/grpc.health.v1.Health/Check", query)).status

    def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        type: str = "",
        context: ssl.SSLContext | None = None,
        **headers,
    ):
        """Send an HTTP request; return (status, headers, body)."""
        kind, secure = (
            (http.client.HTTPSConnection, {"context": context}) if context else (http.client.HTTPConnection, {})
        )
        connection = kind(self.http, timeout=60, **secure)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body or None, {**sent, **({"Content-Type": type} if type else {})})
        response = connection.getresponse()
        result = response.status, dict(response.getheaders()), response.read()
        connection.close()
        return result

    def post(self, body: bytes, type: str = JSON, path: str = "/v2/models/branch_0/infer", **headers):
        """Send a POST request; return (status, parsed JSON)."""
        status, _, reply = self.ask("POST", path, body, type, **headers)
        return status, json.loads(reply)

    def metric(self, name: str) -> float:
        lines = self.ask("GET", "/metrics")[2].decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


@contextlib.contextmanager
def running(
    manifest: Path,
    *flags: str,
    member: str = "branch_0",
    env: Mapping[str, str] = {},
    credentials: grpc.ChannelCredentials | None = None,
    words: Sequence[str] = (),
) -> Iterator[Worker]:
    """Run a worker, or the command `words`. At the end it must exit with 0 after SIGTERM, unless the test ended it."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("w") as stderr:
            process = subprocess.Popen(
                list(words) or command(manifest, *flags, member=member),
                cwd=ROOT,
                env={**os.environ, **env},
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        try:
            line = process.stdout.readline()
            assert line, log.read_text()
            worker = Worker(process, json.loads(line), log, credentials)
            yield worker
            worker.channel.close()
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                assert process.wait(60) == 0, log.read_text()
                assert "Traceback" not in log.read_text(), log.read_text()
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def until(condition, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)
