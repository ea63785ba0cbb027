"""The Python client: predictions, and errors with a clear sentence."""

import concurrent.futures
import contextlib
import dataclasses
import socket
import subprocess
import sys
import threading
import time

import grpc
import numpy as np
import pytest

from dico_tf import edge
from dico_tf.edge import Client, EdgeError, messages
from dico_tf.errors import UserError
from dico_tf.wire import inference_pb2
from tests.edge import committees, exports, gateways, workers
from tests.edge.committees import IMAGE, expected
from tests.edge.faulty_member import EXPORT, Process
from tests.edge.test_gateway import picture

NAMES = ["branch_0", "branch_1"]


@pytest.fixture(scope="module")
def members():
    started = [Process(name) for name in NAMES]
    yield started
    for process in started:
        process.end()


@pytest.fixture(scope="module")
def gateway(members, tmp_path_factory):
    path = committees.written(tmp_path_factory.mktemp("export"), NAMES)
    places = {member.name: member.address for member in members}
    with gateways.running(path, places, "--quorum=1", "--deadline_ms=3000") as result:
        workers.until(lambda: result.health() == 1)
        yield result


@pytest.fixture
def client(gateway, members):
    for member in members:
        member.does("right")
    with Client(gateway.grpc) as result:
        yield result


def test_arrays_are_answered_with_names_and_members(client):
    result = client.predict(IMAGE)
    assert result.probabilities == pytest.approx(expected(NAMES), abs=1e-6)
    assert result.classes == ["abcde"[c] for c in result.class_id] and result.class_names == tuple("abcde")
    assert (result.used, result.late, result.missing, result.export) == (tuple(NAMES), (), {}, EXPORT)
    assert result.versions == dict.fromkeys(NAMES, EXPORT) and result.disagreement.shape == (2,)
    assert client.predict(IMAGE[0].astype(np.float64)).probabilities.shape == (1, 5)
    assert client.predict([IMAGE[0], IMAGE[1]]).class_id.tolist() == result.class_id.tolist()
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.export = "another"


def test_paths_and_bytes_are_answered_like_the_pictures_they_hold(client, tmp_path):
    path = tmp_path / "one.png"
    path.write_bytes(picture())
    correct = expected(NAMES, IMAGE[:1])
    for images in (path, str(path), path.read_bytes(), [path]):
        assert client.predict(images).probabilities == pytest.approx(correct, abs=1e-6)
    assert client.predict([path, path.read_bytes()]).class_id.shape == (2,)


def test_who_was_late_and_who_is_missing_is_told(client, members):
    members[0].does("nan")
    result = client.predict(IMAGE)
    assert result.used == ("branch_1",) and list(result.missing) == ["branch_0"]
    assert result.missing["branch_0"] == "sent an unusable answer: its logits are not finite"
    members[0].does("hang")
    assert client.predict(IMAGE).late == ("branch_0",)


def test_below_the_quorum_the_error_has_a_code_and_the_reasons(client, members):
    for member in members:
        member.does("classes")
    with pytest.raises(EdgeError, match="the quorum is 1: branch_0 sent an unusable") as caught:
        client.predict(IMAGE)
    assert caught.value.code == "UNAVAILABLE"


@pytest.mark.slow
def test_a_worker_may_be_asked_as_well(export):
    with workers.running(export) as worker, Client(worker.grpc, model="branch_0") as client:
        result = client.predict(exports.images(2))
        assert client.ready() and result.class_names == exports.CLASSES and result.export == "first"
        assert result.probabilities.sum(-1) == pytest.approx(1, abs=1e-5)
        assert (result.disagreement, result.used, result.versions) == (None, (), {})


@pytest.mark.parametrize(
    ("images", "response"),
    [
        ([], "expected at least one image"),
        ("/nowhere.jpg", "/nowhere.jpg cannot be read: No such file"),
        (np.zeros((4, 4)), r"got shape \[4, 4\]"),
        ([np.zeros((4, 4, 3)), b""], "arrays and encoded images cannot be mixed"),
        ([np.zeros((4, 4, 3)), np.zeros((5, 4, 3))], r"of one shape, got \[4, 4, 3\], \[5, 4, 3\]"),
    ],
)
def test_what_is_no_image_is_refused_here(client, images, response):
    with pytest.raises(UserError, match=response):
        client.predict(images)


def test_what_the_server_refuses_is_told_in_its_words(client):
    with pytest.raises(EdgeError, match="must have shape \\[B, 8, 8, 3\\]") as caught:
        client.predict(np.zeros((9, 9, 3)))
    assert caught.value.code == "INVALID_ARGUMENT"


def test_a_server_that_is_not_there_is_named():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{unused.getsockname()[1]}"
    with Client(place) as client:
        assert not client.ready()
        with pytest.raises(EdgeError, match=f"{place} cannot be reached: does a worker or gateway run there") as caught:
            client.predict(IMAGE)
    assert caught.value.code == "UNAVAILABLE"


def test_a_server_that_does_not_answer_is_named():
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        Client(f"127.0.0.1:{server.getsockname()[1]}") as client,
        pytest.raises(EdgeError, match="did not answer within the deadline"),
    ):
        client.predict(IMAGE, deadline=0.3)


@contextlib.contextmanager
def stand_in(infer, metadata):
    """Run a server whose two methods are the given functions; give a client of it."""
    names = {"ModelInfer": infer, "ModelMetadata": metadata}
    handlers = {name: grpc.unary_unary_rpc_method_handler(call) for name, call in names.items()}
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("inference.GRPCInferenceService", handlers),)
        )
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with Client(f"127.0.0.1:{port}") as client:
            yield client
        server.stop(None)


def answer(version):
    outputs = {"probabilities": np.ones((1, 1), np.float32), "class_id": np.zeros(1, np.int64)}
    return messages.response_to_message(messages.InferenceResponse("committee", outputs, version)).SerializeToString()


def test_the_deadline_is_that_of_the_answer_and_the_names_together():
    ended = threading.Event()

    def slow(content, context):
        time.sleep(0.7)
        return answer("one")

    started = time.monotonic()
    with stand_in(slow, lambda content, context: ended.wait(20)) as client:
        with pytest.raises(EdgeError, match="did not answer within the deadline"):
            client.predict(IMAGE, deadline=1.0)
        assert time.monotonic() - started < 15  # the names alone would take 20
        ended.set()


def test_an_export_that_is_gone_when_its_classes_are_asked_for_is_asked_again():
    versions = iter(["one", "two"])

    def metadata(content, context):
        request = inference_pb2.ModelMetadataRequest.FromString(content)
        if request.version == "one":
            context.abort(grpc.StatusCode.NOT_FOUND, "here is two")
        return inference_pb2.ModelMetadataResponse(properties={"class_names": '["cat"]'}).SerializeToString()

    with stand_in(lambda content, context: answer(next(versions)), metadata) as client:
        result = client.predict(IMAGE)
    assert (result.export, result.classes) == ("two", ["cat"])


def test_a_server_that_stops_at_that_moment_costs_no_answer():
    turns = iter([True, False])

    def infer(content, context):
        if next(turns):
            context.abort(grpc.StatusCode.CANCELLED, "stopping")
        return answer("one")

    with stand_in(infer, lambda *_: b"") as client:
        assert client.predict(IMAGE).export == "one"


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\x00",
        b"",
        inference_pb2.ModelInferResponse(
            outputs=[inference_pb2.Tensor(name="class_id", datatype="INT64", shape=[1])], raw_output_contents=[b"x"]
        ).SerializeToString(),
    ],
)
def test_what_is_no_answer_is_said_so(content):
    with (
        stand_in(lambda *_: content, lambda *_: content) as client,
        pytest.raises(EdgeError, match=r"127.0.0.1:\d+ is unusable, .*: is it a worker or a gateway") as caught,
    ):
        client.predict(IMAGE)
    assert caught.value.code == "INTERNAL"


def test_a_token_may_end_with_the_line_break_of_its_file_and_is_never_shown():
    with Client("127.0.0.1:1", token="correct-horse-battery\n") as client, pytest.raises(EdgeError, match="be reached"):
        client.predict(IMAGE, deadline=5)
    with pytest.raises(UserError, match="visible ASCII") as caught:
        Client("127.0.0.1:1", token="correct-horse\nbattery")
    assert "horse" not in str(caught.value)


def test_the_room_offers_its_client_and_loads_it_only_then():
    with pytest.raises(AttributeError, match="no attribute 'Klient'"):
        _ = edge.Klient
    code = "import sys, dico_tf.edge; print(sys.modules.keys() & {'grpc', 'numpy'})"
    done = subprocess.run([sys.executable, "-c", code], cwd=workers.ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
