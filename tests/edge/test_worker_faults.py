"""A worker that is killed, stopped or overloaded, has slow clients, or gets an invalid export."""

import asyncio
import io
import json
import os
import queue
import signal
import socket
import statistics
import threading
import time

import grpc
import numpy as np
import pytest
from PIL import Image

from dico_tf.edge import messages, tensors
from dico_tf.edge.errors import EdgeError
from dico_tf.edge.server import access, grpc_server, tls
from dico_tf.wire import health_pb2
from tests.edge import certificates, exports, workers

ONE = {"image": exports.images(1)}
TOKEN = "correct-horse-battery"


def port(address):
    return address.rsplit(":", 1)[1]


def request_bytes(count=1):
    return messages.request_to_message(
        messages.InferenceRequest("branch_0", {"image": exports.images(count)})
    ).SerializeToString()


def ahead(worker, content, timeout=60):
    """Send a request; return its future."""
    return worker.channel.unary_unary(workers.SERVICE + "ModelInfer").future(content, timeout=timeout)


def test_a_killed_worker_can_start_again_at_the_same_ports(export):
    with workers.running(export) as worker:
        worker.infer(ONE)
        worker.process.kill()
        worker.process.wait()
        with pytest.raises(grpc.RpcError) as caught:
            worker.infer(ONE)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    with workers.running(export, f"--port={port(worker.grpc)}", f"--http_port={port(worker.http)}") as again:
        assert (again.grpc, again.http) == (worker.grpc, worker.http)
        again.infer(ONE)


def test_a_port_that_is_taken_is_refused(worker, export):
    for flag, address in (("port", worker.grpc), ("http_port", worker.http)):
        response = workers.refused(*workers.command(export, f"--{flag}={port(address)}"))
        assert response.startswith(f"--{flag}={port(address)} on --host=127.0.0.1 cannot be listened on")


@pytest.mark.slow
def test_told_to_stop_it_finishes_what_it_has_and_says_that_it_is_not_ready(tmp_path):
    path = exports.written(tmp_path, {"branch_0": exports.heavy()})
    with workers.running(path) as worker:
        request = health_pb2.HealthCheckRequest().SerializeToString()
        watching = worker.channel.unary_stream("/grpc.health.v1.Health/Watch")(request, timeout=120)
        states = (health_pb2.HealthCheckResponse.FromString(response).status for response in watching)
        assert next(states) == health_pb2.HealthCheckResponse.SERVING
        futures = [ahead(worker, request_bytes(40)) for _ in range(5)]
        workers.until(lambda: worker.metric("dico_requests_inside") == 5)
        worker.process.send_signal(signal.SIGTERM)
        assert next(states) == health_pb2.HealthCheckResponse.NOT_SERVING
        assert [len(future.result()) > 0 for future in futures] == [True] * 5
        assert list(states) == []
        assert worker.process.wait(60) == 0


@pytest.mark.parametrize("secure", [False, True])
def test_who_is_connected_and_asks_nothing_is_not_waited_for_when_it_stops(export, tmp_path, secure):
    """gRPC alone would wait for each of these connections for all of --stop_seconds."""
    made = certificates.make(tmp_path)
    flags = (f"--tls_cert={made.server.cert}", f"--tls_key={made.server.key}") if secure else ()
    client = tls.ClientTLS(ca=made.ca)
    credentials = client.credentials() if secure else None
    with workers.running(export, "--stop_seconds=60", *flags, credentials=credentials) as worker:
        silent = [socket.create_connection(("127.0.0.1", int(port(at)))) for at in (worker.grpc, worker.http)]
        open_only = socket.create_connection(("127.0.0.1", int(port(worker.grpc))))
        half = socket.create_connection(("127.0.0.1", int(port(worker.http))))
        if secure:
            context = client.context()
            half = context.wrap_socket(half, server_hostname="localhost")
            context.set_alpn_protocols(["h2"])
            open_only = context.wrap_socket(open_only, server_hostname="localhost")
        half.sendall(b"GET / HTTP/1.1\r\n")
        open_only.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")  # settings, and no more
        worker.infer(ONE)
        worker.process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        assert worker.process.wait(60) == 0 and time.monotonic() - started < 40
        [connection.close() for connection in (*silent, open_only, half)]


def test_ctrl_c_stops_it_as_well(export):
    with workers.running(export) as worker:
        worker.process.send_signal(signal.SIGINT)
        assert worker.process.wait(60) == 0


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_four_times_what_it_can_do_is_shed_and_the_rest_answered_in_time(tmp_path, seconds):
    """Each answer triggers four new requests, so on any machine only about a quarter of them can be accepted."""
    path, waiting = exports.written(tmp_path, {"branch_0": exports.heavy(6)}), 4
    with workers.running(path, f"--queue={waiting}") as worker:
        content, ended, took, codes = request_bytes(), queue.SimpleQueue(), [], []

        def ask():
            start = time.monotonic()
            ahead(worker, content).add_done_callback(lambda future: ended.put((future, time.monotonic() - start)))

        start, sent, remaining = time.monotonic(), 0, 4 * (waiting + 1)
        while len(codes) < sent or remaining:
            for _ in range(remaining):
                ask()
            sent += remaining
            future, seconds_taken = ended.get(timeout=60)
            codes.append(future.code().name)
            remaining = 4 if codes[-1] == "OK" and time.monotonic() < start + seconds else 0
            took += [seconds_taken] if codes[-1] == "OK" else []
        assert set(codes) == {"OK", "RESOURCE_EXHAUSTED"} and 0.1 < len(took) / sent < 0.5
        each = worker.metric("dico_inference_seconds_sum") / worker.metric("dico_inference_seconds_count")
        assert statistics.median(took) < 4 * (waiting + 2) * each + 5  # of a busy machine
        for _ in range(5):
            worker.call("ModelInfer", content)
        assert worker.metric("dico_waiting_requests") == 0 == worker.metric("dico_requests_inside")


@pytest.mark.slow
def test_more_requests_at_once_than_allowed_are_refused_whichever_way_they_come(tmp_path):
    path = exports.written(tmp_path, {"branch_0": exports.heavy(6)})
    with workers.running(path, "--max_concurrency=2", "--queue=50") as worker:
        futures = [ahead(worker, request_bytes(8)) for _ in range(2)]
        workers.until(lambda: worker.metric("dico_requests_inside") == 2)
        status, headers, body = worker.ask(
            "POST",
            "/v2/models/branch_0/infer",
            b'{"inputs": [{"name": "image", '
            b'"datatype": "UINT8", "shape": [1, 32, 32, 3], "data": [' + b"1," * 3071 + b"1]}]}",
        )
        assert (
            status == 429 and headers["Retry-After"] and "2 requests are being processed" in json.loads(body)["error"]
        )
        assert all(future.result() for future in futures)


def test_a_request_does_not_outlive_its_deadline(tmp_path):
    path = exports.written(tmp_path, {"branch_0": exports.heavy(6)})
    with workers.running(path, "--timeout_ms=200") as worker:
        content = json.dumps(
            {"inputs": [{"name": "image", "datatype": "UINT8", "shape": [64, 32, 32, 3], "data": [1] * 64 * 3072}]}
        ).encode()
        start = time.monotonic()
        status, response = worker.post(content)
        assert status == 504 and "deadline passed" in response["error"] and time.monotonic() - start < 50
        with pytest.raises(grpc.RpcError) as caught:
            worker.call("ModelInfer", request_bytes(64), timeout=None)
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        workers.until(lambda: worker.metric("dico_requests_inside") == 0 == worker.metric("dico_waiting_requests"))


def test_pictures_are_not_decoded_for_whoever_has_gone(export):
    """A cancelled request with 64 images of 24 megapixels costs the next request at most one of them."""
    stream = io.BytesIO()
    Image.fromarray(np.zeros((4900, 4900), np.uint8)).save(stream, "PNG")
    with workers.running(export, "--queue=1") as worker:
        before = worker.cpu_seconds()
        worker.infer({"image_bytes": tensors.strings([stream.getvalue()])})
        one = worker.cpu_seconds() - before
        with pytest.raises(grpc.RpcError) as caught:
            worker.infer({"image_bytes": tensors.strings([stream.getvalue()] * 64)}, timeout=0.3)
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        before = worker.cpu_seconds()
        worker.infer(ONE)
        assert worker.cpu_seconds() - before < 16 * one  # of the 64 pictures one may have been at work


def test_dripping_and_endless_requests_do_not_hold_up_the_others(export):
    with workers.running(export, "--max_request_bytes=100000") as worker:
        host = worker.http.split(":")[0], int(port(worker.http))
        slow = [socket.create_connection(host) for _ in range(30)]
        for connection in slow:
            connection.sendall(b"POST /v2/models/branch_0/infer HTTP/1.1\r\nHost: a\r\n")
        endless = socket.create_connection(host)
        endless.sendall(b"POST /v2/models/branch_0/infer HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(12):
            endless.sendall(b"2710\r\n" + b"a" * 10000 + b"\r\n")
            worker.infer(ONE)
        assert endless.recv(1000).startswith(b"HTTP/1.1 413 ")
        for connection in slow:
            connection.settimeout(60)
            assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")
            connection.close()
        endless.close()
        worker.infer(ONE)


def test_a_message_that_never_comes_is_not_waited_for_over_grpc():
    async def never():
        await asyncio.sleep(60)
        yield b""

    async def nothing():
        for content in ():
            yield content

    for contents, code in ((never, "DEADLINE_EXCEEDED"), (nothing, "INVALID_ARGUMENT")):
        with pytest.raises(EdgeError) as caught:
            asyncio.run(grpc_server._message(contents(), 0.05))
        assert caught.value.code == code


def test_connections_to_grpc_that_say_nothing_leave_room_for_others(export):
    with workers.running(export, "--max_concurrency=2") as worker:
        host = worker.grpc.split(":")[0], int(port(worker.grpc))
        worker.infer(ONE)
        silent = [socket.create_connection(host) for _ in range(20)]
        time.sleep(0.3)
        worker.infer(ONE)
        silent[-1].settimeout(60)
        assert silent[-1].recv(100) == b""  # turned away at once: it is one of too many
        [connection.close() for connection in silent]


def test_calls_of_strangers_that_send_no_message_leave_room_for_others(export):
    """Health checks need no token, and other calls without one are refused before their message arrives."""
    with workers.running(export, "--max_concurrency=2", env={access.TOKEN_VARIABLE: TOKEN}) as worker:
        over = threading.Event()

        def never():
            over.wait()
            yield from ()

        with grpc.insecure_channel(worker.grpc) as channel:
            for method in ("/grpc.health.v1.Health/Check", workers.SERVICE + "ServerReady"):
                busy = [channel.stream_unary(method).future(never()) for _ in range(grpc_server.PUBLIC_CALLS)]
                workers.until(lambda: _refused(worker))
                worker.call("ModelInfer", request_bytes(), authorization=f"Bearer {TOKEN}")
                [call.cancel() for call in busy]
                workers.until(lambda: not _refused(worker))
            refused = channel.stream_unary(workers.SERVICE + "ModelInfer").future(never())
            assert refused.code() == grpc.StatusCode.UNAUTHENTICATED
            watch = channel.unary_stream("/grpc.health.v1.Health/Watch")
            watching = [watch(b"") for _ in range(grpc_server.WATCHERS)]
            [next(iter(call)) for call in watching]
            assert watch(b"").code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert worker.health() == health_pb2.HealthCheckResponse.SERVING
            worker.call("ModelInfer", request_bytes(), authorization=f"Bearer {TOKEN}")
            over.set()


def _refused(worker):
    try:
        worker.health()
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        return True
    return False


def test_nothing_leaks_over_a_thousand_requests(worker):
    for _ in range(100):
        worker.infer(ONE)
    before = worker.status()
    for _ in range(1000):
        worker.infer(ONE)
    after = worker.status()
    assert after["threads"] == before["threads"] and after["rss"] - before["rss"] < 10


def test_an_export_that_is_none_is_refused(export, tmp_path):
    content = export.read_text()
    foreign, half, gone = tmp_path / "foreign.json", tmp_path / "half.json", tmp_path / "gone.json"
    foreign.write_text('{"kind": "something else"}')
    half.write_text(content[: len(content) // 2])
    for path, response in (
        (foreign, "expected kind 'dico_tf export', got 'something else'"),
        (half, "is not the manifest of an export, or is damaged"),
        (gone, "does not exist"),
    ):
        assert response in workers.refused(*workers.command(path))


def test_a_file_that_was_tampered_with_or_is_missing_is_refused(tmp_path):
    path = exports.small(tmp_path)
    file = tmp_path / "tflite/first/branch_0_float32.tflite"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert "is not the one exported" in workers.refused(*workers.command(path))
    os.unlink(file)
    assert "is missing" in workers.refused(*workers.command(path))


@pytest.mark.parametrize(
    ("files", "flags", "response"),
    [
        ({"branch_0": b"no network"}, {"member": "branch_9"}, "has no member 'branch_9'"),
        ({"branch_0": b"no network"}, {"flag": "--format=int8"}, "has no int8 of branch_0; it has float32"),
        ({"branch_0": b"no network"}, {}, "the export's LiteRT file cannot be used"),
        ({"branch_0": b"\x1c\x00\x00\x00TFL3" + b"\xff" * 64}, {}, "the export's LiteRT file cannot be used"),
    ],
)
def test_a_member_that_cannot_answer_is_refused(tmp_path, files, flags, response):
    path = exports.written(tmp_path, files)
    words = workers.command(path, *([flags["flag"]] if "flag" in flags else []), member=flags.get("member", "branch_0"))
    assert response in workers.refused(*words)


def test_a_file_for_other_classes_is_refused(tmp_path):
    path = exports.written(tmp_path, {"branch_0": exports.branch()}, class_names=["cat", "dog"])
    assert "must be logits or probabilities of 2 classes" in workers.refused(*workers.command(path))


def test_an_image_of_another_size_is_refused_by_the_size_that_would_do(worker):
    with pytest.raises(grpc.RpcError, match=r"must have shape \[B, 32, 32, 3\]"):
        worker.infer({"image": np.zeros((1, 33, 32, 3), np.float32)})
