"""A worker in a separate process: answers to valid and invalid requests over gRPC and HTTP."""

import base64
import io
import json
import threading

import grpc
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

from dico_tf.data import image_decoding
from dico_tf.edge import messages, tensors
from dico_tf.evaluation.averaging import softmax
from dico_tf.wire import health_pb2, inference_pb2
from tests.edge import exports, workers

INFER = "/v2/models/branch_0/infer"


def expected(images):
    """Return the logits, computed by an interpreter in this process."""
    runner = Interpreter(model_content=exports.branch(), num_threads=1).get_signature_runner("serving_default")
    return np.concatenate([runner(image=image[None].astype(np.float32))["logits"] for image in images])


def encoded(image, kind="PNG", **options):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, **options)
    return stream.getvalue()


def photo(width=90, height=60):
    grid = np.add.outer(np.arange(height) * 3, np.arange(width) * 2)
    return np.stack([grid % 256, (grid * 2) % 256, grid // 2 % 256], -1).astype(np.uint8)


def body(**changes):
    image = exports.images(1)
    tensor = {"name": "image", "datatype": "UINT8", "shape": list(image.shape), "data": image.ravel().tolist()}
    return json.dumps({"inputs": [{**tensor, **changes}]}).encode()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_tensors_over_grpc_are_answered_as_the_file_answers(worker, dtype):
    images = exports.images(3)
    answer = worker.infer({"image": images.astype(dtype)}, id="7")
    assert np.array_equal(answer.outputs["logits"], expected(images))
    assert answer.outputs["probabilities"] == pytest.approx(softmax(expected(images)), abs=1e-6)
    assert np.array_equal(answer.outputs["class_id"], expected(images).argmax(-1))
    assert (answer.model, answer.version, answer.id) == ("branch_0", "first", "7")
    assert answer.parameters == {"export": "first", "format": "float32"}
    assert list(answer.outputs) == ["logits", "probabilities", "class_id"]


def test_typed_contents_over_grpc_are_answered_too(worker):
    image = exports.images(1)
    message = messages.request_to_message(messages.InferenceRequest("branch_0", {"image": image}))
    del message.raw_input_contents[:]
    message.inputs[0].contents.uint_contents.extend(image.ravel().tolist())
    response = inference_pb2.ModelInferResponse.FromString(worker.call("ModelInfer", message.SerializeToString()))
    assert np.array_equal(messages.response_from_message(response).outputs["logits"], expected(image))


def test_tensors_over_http_are_answered_as_over_grpc(worker):
    for data in (exports.images(1).ravel().tolist(), exports.images(1).tolist()):
        status, response = worker.post(body(data=data))
        assert status == 200
        result = {output["name"]: output for output in response["outputs"]}
        assert np.allclose(result["logits"]["data"], expected(exports.images(1))[0], atol=1e-6)
        assert result["logits"]["shape"] == [1, 3] and result["class_id"]["datatype"] == "INT64"


@pytest.mark.parametrize(("kind", "type"), [("PNG", workers.PNG), ("JPEG", workers.JPEG)])
def test_a_picture_is_answered_as_training_would_see_it(worker, kind, type):
    content = encoded(photo(), kind)
    seen = image_decoding.decode(io.BytesIO(content), exports.SIZE, exports.SIZE)[None]
    right = expected(seen)
    over_grpc = worker.infer({"image_bytes": tensors.strings([content])}, ["logits", "class_name"]).outputs
    assert np.array_equal(over_grpc["logits"], right)
    name = exports.CLASSES[right.argmax()]
    assert over_grpc["class_name"].tolist() == [name.encode()]
    as_json = {"name": "image_bytes", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(content).decode()]}
    request = {"inputs": [as_json], "outputs": [{"name": "logits"}]}
    response = worker.post(json.dumps(request).encode())[1]["outputs"]
    assert [output["name"] for output in response] == ["logits"] and np.allclose(response[0]["data"], right[0])
    status, response = worker.post(content, type)
    result = {output["name"]: output["data"] for output in response["outputs"]}
    assert status == 200 and result["class_name"] == [name] and result["class_id"] == [right.argmax()]
    assert result["probabilities"] == pytest.approx(softmax(right)[0], abs=1e-6)


def test_metadata_tells_what_to_send_and_what_comes(worker):
    status, _, response = worker.ask("GET", "/v2/models/branch_0")
    reply = json.loads(response)
    assert status == 200 and reply["versions"] == ["first"]
    assert {t["name"]: (t["datatype"], t["shape"]) for t in reply["inputs"]} == {
        "image": ("FP32", [-1, 32, 32, 3]),
        "image_bytes": ("BYTES", [-1]),
    }
    assert [t["name"] for t in reply["outputs"]] == ["logits", "probabilities", "class_id", "class_name"]
    properties = reply["properties"]
    assert (properties["export"], properties["format"], properties["average"]) == ("first", "float32", "logits")
    assert json.loads(properties["class_names"]) == list(exports.CLASSES) and properties["input_size"] == "32"
    request = inference_pb2.ModelMetadataRequest(name="branch_0").SerializeToString()
    over_grpc = inference_pb2.ModelMetadataResponse.FromString(worker.call("ModelMetadata", request))
    assert dict(over_grpc.properties) == properties and list(over_grpc.versions) == ["first"]
    assert [(t.name, t.datatype, list(t.shape)) for t in over_grpc.inputs] == [
        (t["name"], t["datatype"], t["shape"]) for t in reply["inputs"]
    ]


def test_health_is_told_in_every_way(worker):
    assert worker.health() == worker.health("branch_0") == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as caught:
        worker.health("branch_9")
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    for path in ("/healthz", "/v2/health/live", "/v2/health/ready", "/v2/models/branch_0/ready", "/v2"):
        assert worker.ask("GET", path)[0] == 200
        assert worker.ask("HEAD", path)[::2] == (200, b"")
    assert inference_pb2.ServerLiveResponse.FromString(worker.call("ServerLive", b"")).live
    assert inference_pb2.ServerReadyResponse.FromString(worker.call("ServerReady", b"")).ready
    request = inference_pb2.ModelReadyRequest(name="branch_0").SerializeToString()
    assert inference_pb2.ModelReadyResponse.FromString(worker.call("ModelReady", request)).ready
    assert inference_pb2.ServerMetadataResponse.FromString(worker.call("ServerMetadata", b"")).name == "dico_tf"


CUT = encoded(photo(), "JPEG")[:-300]
HUGE = encoded(np.zeros((6000, 6000), np.uint8))  # 36 megapixels in a few kilobytes
TINY = {"name": "image_bytes", "datatype": "BYTES", "shape": [1]}


@pytest.mark.parametrize(
    ("inputs", "fields", "code", "message"),
    [
        ({"image": exports.images(1)}, {"model": "branch_9"}, "NOT_FOUND", "unknown model 'branch_9'"),
        ({"image": exports.images(1)}, {"version": "2"}, "NOT_FOUND", "this server has first, the id of the export"),
        ({"image": exports.images(1)}, {"outputs": ["logit"]}, "INVALID_ARGUMENT", "known: logits"),
        ({"image": exports.images(1).astype(np.int32)}, {}, "INVALID_ARGUMENT", "must be FP32 or UINT8"),
        ({"image": exports.images(1)[:, 1:]}, {}, "INVALID_ARGUMENT", "must have shape [B, 32, 32, 3], got 1x31x32x3"),
        ({"image": exports.images(1)[0]}, {}, "INVALID_ARGUMENT", "got 32x32x3"),
        ({"image": exports.images(65)}, {}, "INVALID_ARGUMENT", "at most 64"),
        ({"image": np.full((1, 32, 32, 3), np.nan, np.float32)}, {}, "INVALID_ARGUMENT", "NaN or infinity"),
        ({"image": exports.images(1) / np.float32(255) - 1}, {}, "INVALID_ARGUMENT", "send raw pixels"),
        ({"picture": exports.images(1)}, {}, "INVALID_ARGUMENT", "got 'picture'"),
        ({}, {}, "INVALID_ARGUMENT", "got 'none'"),
        ({"image_bytes": exports.images(1)}, {}, "INVALID_ARGUMENT", "must be BYTES of shape [B]"),
        ({"image_bytes": tensors.strings([b"GIF89a"])}, {}, "INVALID_ARGUMENT", "neither JPEG nor PNG"),
        ({"image_bytes": tensors.strings([CUT])}, {}, "INVALID_ARGUMENT", "truncated or damaged"),
        ({"image_bytes": tensors.strings([HUGE])}, {}, "INVALID_ARGUMENT", "more than 25000000 pixels"),
    ],
)
def test_an_invalid_request_over_grpc_is_answered_with_a_code_and_a_sentence(worker, inputs, fields, code, message):
    with pytest.raises(grpc.RpcError) as caught:
        worker.infer(inputs, **fields)
    assert caught.value.code().name == code and message in caught.value.details()


@pytest.mark.parametrize("content", [b"garbage", b"\xff" * 50, bytes(range(256))])
@pytest.mark.parametrize("method", ["ModelInfer", "ModelMetadata", "/grpc.health.v1.Health/Check"])
def test_garbage_over_grpc_is_refused(worker, content, method):
    with pytest.raises(grpc.RpcError) as caught:
        worker.call(method, content)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT and "cannot be parsed" in caught.value.details()


@pytest.mark.parametrize(
    ("content", "type", "path", "status", "response"),
    [
        (b"{}", workers.JSON, INFER, 400, "needs a list of inputs"),
        (b"{", workers.JSON, INFER, 400, "not valid JSON"),
        (body(datatype="FP8"), workers.JSON, INFER, 400, "known: BOOL"),
        (body(shape=[1, 32, 32, 4]), workers.JSON, INFER, 400, "must have 4096 elements"),
        (body(data=[1]), workers.JSON, INFER, 400, "must have 3072 elements, got 1"),
        (json.dumps({"inputs": [{**TINY, "data": ["%"]}]}).encode(), workers.JSON, INFER, 400, "is not base64"),
        (json.dumps({"inputs": [{**TINY, "data": ["YQ=="]}]}).encode(), workers.JSON, INFER, 400, "neither JPEG"),
        (body(), workers.JSON, "/v2/models/branch_9/infer", 404, "this server has branch_0"),
        (body(), workers.JSON, "/v2/models/branch_0/versions/2/infer", 404, "this server has first"),
        (body(), "text/plain", INFER, 415, "must be application/json"),
        (b"GIF89a", "image/gif", INFER, 415, "image/jpeg or image/png"),
        (b"GIF89a", workers.PNG, INFER, 400, "neither JPEG nor PNG"),
        (CUT, workers.JPEG, INFER, 400, "truncated or damaged"),
        (HUGE, workers.PNG, INFER, 400, "more than 25000000 pixels"),
        (b"a" * 2**24 + b"a", workers.PNG, INFER, 413, "longer than 16777216"),
        (body(), workers.JSON, "/v2/models/branch_0", 405, "POST is not allowed for this path"),
        (body(), workers.JSON, "/v2/models/branch_0/../../etc/passwd", 404, "this path does not exist"),
    ],
)
def test_an_invalid_request_over_http_is_answered_with_a_status_and_a_sentence(
    worker, content, type, path, status, response
):
    result, answer = worker.post(content, type, path)
    assert result == status and response in answer["error"] and "Traceback" not in answer["error"]


def test_what_curl_sends_by_itself_is_taken_for_json(worker):
    status, response = worker.post(body(), "application/x-www-form-urlencoded")
    assert status == 200 and response["model_name"] == "branch_0"


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_a_message_that_is_or_becomes_too_long_is_refused_over_grpc(worker, compression):
    infer, before = worker.channel.unary_unary(workers.SERVICE + "ModelInfer"), worker.status()["rss"]
    with pytest.raises(grpc.RpcError) as caught:
        infer(bytes(2**27), timeout=120, compression=compression)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert worker.status()["rss"] - before < 40


def test_a_bomb_is_refused_by_its_size_alone(worker):
    before = worker.status()["rss"]
    for _ in range(3):
        worker.post(HUGE, workers.PNG)
    assert worker.status()["rss"] - before < 20


def test_a_deadline_that_cannot_be_kept_is_said_so(worker):
    status, response = worker.post(body(), timeout_ms="soon")
    assert status == 400 and "whole milliseconds" in response["error"]
    images = np.repeat(exports.images(1), 64, 0)
    with pytest.raises(grpc.RpcError) as caught:
        worker.infer({"image": images}, timeout=0.002)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert worker.post(body(), timeout_ms="5000")[0] == 200


def test_it_is_small_and_soon_ready(export):
    """CPU time is compared, because wall time depends on other processes."""
    with workers.running(export) as worker:
        assert worker.cpu_seconds() < 4.0  # with TensorFlow it would be twice that
        worker.infer({"image": exports.images(8)})
        assert worker.status()["rss"] < 100


def test_many_at_once_are_all_answered_rightly(worker):
    images, wrong = exports.images(16), []
    right = expected(images)

    def ask(n):
        for _ in range(10):
            result = worker.infer({"image": images[n : n + 1]}).outputs["logits"]
            if not np.array_equal(result[0], right[n]):
                wrong.append(n)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(16)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert wrong == []


def test_metrics_count_what_was_answered(worker):
    before = worker.metric('dico_requests_total{protocol="http",code="OK"}')
    refused = worker.metric('dico_requests_total{protocol="http",code="INVALID_ARGUMENT"}')
    images = worker.metric("dico_images_total")
    worker.post(body())
    worker.post(b"{")
    assert worker.metric('dico_requests_total{protocol="http",code="OK"}') == before + 1
    assert worker.metric('dico_requests_total{protocol="http",code="INVALID_ARGUMENT"}') == refused + 1
    assert worker.metric("dico_images_total") == images + 1
    assert worker.metric('dico_export_info{member="branch_0",export="first",format="float32"}') == 1
    assert worker.metric("process_resident_memory_bytes") > 2**24


def test_a_committee_says_what_its_branches_say_and_how_far_they_disagree(tmp_path):
    path = exports.written(tmp_path, {"committee": exports.committee()})
    with workers.running(path, member="committee") as worker:
        outputs = worker.infer({"image": exports.images(2)}, model="committee").outputs
        assert list(outputs) == ["logits", "probabilities", "class_id", "branch_probabilities", "disagreement"]
        assert outputs["branch_probabilities"].shape == (2, 2, 3) and outputs["disagreement"].shape == (2,)
        assert outputs["probabilities"] == pytest.approx(softmax(outputs["logits"]), abs=1e-6)
        reply = json.loads(worker.ask("GET", "/v2/models/committee")[2])
        shapes = {output["name"]: output["shape"] for output in reply["outputs"]}
        assert shapes["branch_probabilities"] == [-1, 2, 3] and shapes["disagreement"] == [-1]


def test_logits_that_are_no_numbers_are_no_answer(tmp_path):
    """The worker refuses to start; it does not wait for a request."""
    path = exports.written(tmp_path, {"branch_0": exports.branch(0, float("nan"))})
    assert "fails its first run: the network's outputs are not finite" in workers.refused(*workers.command(path))
