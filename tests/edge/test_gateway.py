"""A gateway in a separate process: answers over gRPC and HTTP, refusals, metrics, and shutdown."""

import concurrent.futures
import contextlib
import io
import json
import signal
import time

import grpc
import numpy as np
import pytest
from PIL import Image

from dico_tf.edge import Client, messages, tensors
from dico_tf.wire import inference_pb2
from tests.edge import committees, gateways, workers
from tests.edge.committees import IMAGE, expected
from tests.edge.faulty_member import EXPORT, OTHER, Process

NAMES = ["branch_0", "branch_1", "branch_2"]
ALL = {"used": ",".join(NAMES), "late": "", "missing": "", "export": EXPORT}
VERSIONS = {f"version.{name}": EXPORT for name in NAMES}


@pytest.fixture(scope="module")
def processes():
    started = [Process(name) for name in NAMES]
    yield started
    for process in started:
        process.end()


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return committees.written(tmp_path_factory.mktemp("export"), NAMES, average="probs")


def places(processes):
    return {process.name: process.address for process in processes}


@pytest.fixture(scope="module")
def gateway(processes, manifest):
    with gateways.running(manifest, places(processes), "--deadline_ms=3000", "--max_batch=4") as actual:
        workers.until(lambda: actual.health() == 1)
        yield actual


@pytest.fixture
def members(processes, gateway):
    """Give the members, all of them correct and with closed circuits."""
    for process in processes:
        process.does("right")
    workers.until(lambda: everyone(gateway) and gateway.metric("dico_member_circuit") == 0)
    for process in processes:
        process.does("right")
    return processes


def everyone(gateway):
    with contextlib.suppress(grpc.RpcError):
        return gateways.infer(gateway, IMAGE).parameters["used"] == ",".join(NAMES)


def test_it_says_where_it_listens_and_whom_it_asks(gateway):
    response = gateway.ready_line
    assert (response["committee"], response["quorum"], response["export"]) == (NAMES, 2, EXPORT)
    assert response["grpc"] and response["http"] and set(response["present"]) <= set(NAMES)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_over_grpc_it_answers_with_the_average_and_says_whose_it_is(gateway, members, dtype):
    answer = gateways.infer(gateway, IMAGE.astype(dtype), id="one")
    assert answer.outputs["probabilities"] == pytest.approx(expected(NAMES, average="probs"), abs=1e-6)
    assert answer.outputs["class_id"].tolist() == expected(NAMES, average="probs").argmax(-1).tolist()
    assert answer.outputs["disagreement"].shape == (2,) and answer.outputs["logits"].shape == (2, 5)
    assert (answer.model, answer.version, answer.id) == ("committee", EXPORT, "one")
    assert answer.parameters == {**ALL, **VERSIONS}


def test_over_http_it_answers_the_same(gateway, members):
    status, response = gateway.post(gateways.body(IMAGE), path=gateways.INFER)
    actual = {output["name"]: output["data"] for output in response["outputs"]}
    assert status == 200 and response["parameters"] == {**ALL, **VERSIONS}
    assert actual["probabilities"] == pytest.approx(expected(NAMES, average="probs").ravel(), abs=1e-6)


def picture(kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(IMAGE[0]).save(stream, kind)
    return stream.getvalue()


def test_pictures_are_decoded_once_and_sent_as_bytes(gateway, members):
    content = tensors.strings([picture(), picture()])
    answer = gateway.infer({"image_bytes": content}, ["probabilities", "class_name"], model="committee")
    image = np.stack([IMAGE[0], IMAGE[0]])
    correct = expected(NAMES, image, "probs")
    assert answer.outputs["probabilities"] == pytest.approx(correct, abs=1e-6)
    assert answer.outputs["class_name"].tolist() == [b"abcde"[c : c + 1] for c in correct.argmax(-1)]
    status, response = gateway.post(picture("JPEG"), workers.JPEG, gateways.INFER)
    assert status == 200 and {output["name"] for output in response["outputs"]} >= {"class_name", "probabilities"}


def test_branches_are_told_where_they_are_asked_for(gateway, members):
    members[1].does("nan")
    answer = gateways.infer(gateway, IMAGE, "branch_probabilities")
    assert list(answer.outputs) == ["branch_probabilities"] and answer.parameters["used"] == "branch_0,branch_2"
    each = np.stack([expected([name]) for name in ("branch_0", "branch_2")], 1)
    assert answer.outputs["branch_probabilities"] == pytest.approx(each, abs=1e-6)


def test_who_is_late_and_who_is_missing_stands_in_the_answer(gateway, members):
    members[0].does("hang")
    answer = gateways.infer(gateway, IMAGE)
    assert (answer.parameters["used"], answer.parameters["late"]) == ("branch_1,branch_2", "branch_0")
    members[0].does("version")
    reply = gateways.infer(gateway, IMAGE).parameters
    assert (reply["late"], reply["missing"]) == ("", "branch_0")
    assert reply["reason.branch_0"].startswith("is of another export: export-two")
    correct = expected(["branch_1", "branch_2"], average="probs")
    assert answer.outputs["probabilities"] == pytest.approx(correct, abs=1e-6)


@pytest.mark.parametrize(
    ("word", "code", "status"),
    [("hang", "DEADLINE_EXCEEDED", 504), ("nan", "UNAVAILABLE", 503), ("busy", "RESOURCE_EXHAUSTED", 429)],
)
def test_below_the_quorum_the_error_names_members_and_reasons(gateway, members, word, code, status):
    for member in members[:2]:
        member.does(word)
    with pytest.raises(grpc.RpcError) as caught:
        gateways.infer(gateway, IMAGE)
    assert caught.value.code().name == code and "of 3 members answered, but the quorum is 2" in caught.value.details()
    actual, response = gateway.post(gateways.body(IMAGE), path=gateways.INFER)
    assert actual == status and "branch_0" in response["error"] and "branch_1" in response["error"]


def test_the_clients_deadline_counts_if_it_is_shorter(members, manifest):
    members[2].does("hang")
    with gateways.running(manifest, places(members), "--deadline_ms=60000") as gateway:
        assert gateways.infer(gateway, IMAGE, timeout=2).parameters["late"] == "branch_2"
        status, response = gateway.post(gateways.body(IMAGE), path=gateways.INFER, timeout_ms="1000")
        assert status == 200 and response["parameters"]["late"] == "branch_2"


def test_it_is_ready_when_a_quorum_of_members_is(gateway, members):
    workers.until(lambda: gateway.health() == 1)
    members[0].does("unready")
    time.sleep(0.8)
    assert gateway.health() == 1
    members[1].does("unready")
    workers.until(lambda: gateway.health() == 2)
    assert gateway.ask("GET", "/v2/health/ready")[0] == 503 and gateway.ask("GET", "/v2/health/live")[0] == 200
    for member in members:
        member.does("right")
    workers.until(lambda: gateway.health() == 1)


def request(name="image", array=IMAGE, **more):
    return messages.request_to_message(
        messages.InferenceRequest(**{"model": "committee", "inputs": {name: array}, **more})
    )


BAD = {
    "another model": (request(model="branch_0"), "NOT_FOUND", "this server has committee"),
    "another version": (request(version="7"), "NOT_FOUND", EXPORT),
    "another output": (request(outputs=("labels",)), "INVALID_ARGUMENT", "unknown output 'labels'; known: logits"),
    "another input": (request("x"), "INVALID_ARGUMENT", "got 'x'"),
    "another size": (request(array=IMAGE[:, 1:]), "INVALID_ARGUMENT", "must have shape [B, 8, 8, 3]"),
    "another dtype": (request(array=IMAGE.astype(np.int64)), "INVALID_ARGUMENT", "must be FP32 or UINT8"),
    "normalised": (request(array=IMAGE.astype(np.float32) - 9), "INVALID_ARGUMENT", "send raw pixels"),
    "not a number": (request(array=np.full_like(IMAGE, np.nan, np.float32)), "INVALID_ARGUMENT", "NaN or infinity"),
    "too many": (request(array=np.repeat(IMAGE, 3, 0)), "INVALID_ARGUMENT", "at most 4"),
    "no picture": (request("image_bytes", tensors.strings([b"GIF89a"])), "INVALID_ARGUMENT", "neither JPEG nor PNG"),
    "half a picture": (
        request("image_bytes", tensors.strings([picture()[:200]])),
        "INVALID_ARGUMENT",
        "truncated or damaged",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_gets_a_code_and_a_sentence_and_asks_nobody(gateway, members, name):
    message, code, sentence = BAD[name]
    with pytest.raises(grpc.RpcError) as caught:
        gateway.call("ModelInfer", message.SerializeToString())
    assert caught.value.code().name == code and sentence in caught.value.details()
    assert members[0].calls() == 0


def test_garbage_is_refused(gateway):
    with pytest.raises(grpc.RpcError) as caught:
        gateway.call("ModelInfer", b"\xff\xff\xff")
    assert caught.value.code().name == "INVALID_ARGUMENT"


def test_metadata_tells_what_to_send_and_who_answers(gateway):
    status, _, response = gateway.ask("GET", "/v2/models/committee")
    actual = json.loads(response)
    assert status == 200 and actual["versions"] == [EXPORT] and actual["platform"] == "dico_tf_gateway"
    assert actual["properties"]["members"] == "branch_0,branch_1,branch_2" and actual["properties"]["quorum"] == "2"
    assert json.loads(actual["properties"]["class_names"]) == list("abcde")
    content = gateway.call("ModelMetadata", inference_pb2.ModelMetadataRequest(name="committee").SerializeToString())
    names = {output.name for output in inference_pb2.ModelMetadataResponse.FromString(content).outputs}
    assert names == {"logits", "probabilities", "class_id", "class_name", "disagreement", "branch_probabilities"}


def test_while_members_change_over_classes_are_named_as_their_export_does(members, tmp_path):
    path = committees.written(tmp_path, NAMES)
    with gateways.running(path, places(members), "--deadline_ms=20000") as gateway, Client(gateway.grpc) as client:
        right = expected(NAMES).argmax(-1)
        assert client.predict(IMAGE).classes == ["abcde"[c] for c in right]
        committees.written(tmp_path, NAMES, export=OTHER, class_names="vwxyz")
        workers.until(lambda: json.loads(gateway.ask("GET", "/v2/models/committee")[2])["versions"] == [OTHER])
        for export, names in ((EXPORT, "abcde"), (OTHER, "vwxyz")):
            answer = gateways.infer(gateway, IMAGE, "class_name")
            assert (answer.version, answer.parameters["export"]) == (export, export)
            assert answer.outputs["class_name"].tolist() == [names[c].encode() for c in right]
            actual = client.predict(IMAGE)
            assert actual.class_names == tuple(names) and actual.classes == [names[c] for c in right]
            with pytest.raises(grpc.RpcError, match=f"{export}, the export that answered"):
                gateways.infer(gateway, IMAGE, version=OTHER if export == EXPORT else EXPORT)
            for member in members:
                member.does("version")


def test_numbers_tell_of_requests_and_of_every_member(gateway, members):
    used = gateway.metric('dico_member_outcomes_total{member="branch_0",outcome="used"}')
    unusable = gateway.metric('dico_member_outcomes_total{member="branch_1",outcome="unusable"}')
    members[1].does("nan")
    for _ in range(3):
        gateways.infer(gateway, IMAGE)
    assert gateway.metric('dico_member_outcomes_total{member="branch_0",outcome="used"}') == used + 3
    assert gateway.metric('dico_member_outcomes_total{member="branch_1",outcome="unusable"}') == unusable + 3
    assert gateway.metric("dico_quorum") == 2 and gateway.metric("dico_members_present") == 3
    assert gateway.metric("dico_member_circuit") == 0 and gateway.metric("dico_member_hedges_total") == 0


def test_what_is_being_answered_is_finished_when_it_is_told_to_stop(members, manifest):
    with gateways.running(manifest, places(members), "--deadline_ms=3000", "--quorum=3") as gateway:
        gateways.infer(gateway, IMAGE)
        members[0].does("slow:0.5")
        with concurrent.futures.ThreadPoolExecutor() as pool:
            answer = pool.submit(gateways.infer, gateway, IMAGE)
            time.sleep(0.2)
            gateway.process.send_signal(signal.SIGTERM)
            assert answer.result().parameters["used"] == ",".join(NAMES)
        assert gateway.process.wait(60) == 0


def test_more_requests_at_once_than_allowed_are_refused(members, manifest):
    members[0].does("slow:0.5")
    with (
        gateways.running(manifest, places(members), "--max_concurrency=2", "--quorum=3") as gateway,
        concurrent.futures.ThreadPoolExecutor(8) as pool,
    ):
        actual = list(pool.map(lambda _: _code(gateway), range(8)))
    assert set(actual) == {"OK", "RESOURCE_EXHAUSTED"} and actual.count("OK") >= 2


def _code(gateway):
    try:
        gateways.infer(gateway, IMAGE)
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


@pytest.mark.parametrize(
    ("flags", "response"),
    [
        (["--members=branch_0=a:1"], "--members has no address of branch_1, branch_2"),
        (["--members=branch_0=a:1,branch_9=a:1"], "'branch_9' is not in the manifest's committee"),
        (["--members=branch_0=a:1,branch_1=b,branch_2=c:1"], "--members=branch_1=b is not an address"),
        (["--quorum=4"], "--quorum=4 must be at most 3, the members of the committee"),
        (["--quorum=-1", "--deadline_ms=0"], "--quorum=-1 must be at least 0\n--deadline_ms=0 must be at least 1"),
        (["--hedge=2"], "--hedge=2.0 must be between 0 and 1"),
        (["--manifest="], "--manifest is required"),
        (["--member_tls_cert=x"], "--member_tls_cert and --member_tls_key must be given together"),
        (["--member_token_file=/nowhere"], "--member_token_file=/nowhere cannot be read"),
        (["--host=0.0.0.0"], "--host=0.0.0.0 can be reached from other machines"),
    ],
)
def test_what_cannot_be_is_refused_before_it_starts(manifest, flags, response):
    assert response in workers.refused(*gateways.command(manifest, dict.fromkeys(NAMES, "127.0.0.1:1")), *flags)


def test_a_token_is_not_sent_for_all_to_read(manifest, tmp_path):
    (tmp_path / "token").write_text("correct-horse-battery")
    words = gateways.command(manifest, dict.fromkeys(NAMES, "10.0.0.1:1"), f"--member_token_file={tmp_path}/token")
    assert "would be sent unencrypted to 10.0.0.1:1" in workers.refused(*words)
