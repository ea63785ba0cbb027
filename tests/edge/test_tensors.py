"""Requests and responses survive encoding and decoding; invalid ones are refused with a sentence."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dico_tf.edge import messages, tensors
from dico_tf.edge.errors import EdgeError
from dico_tf.wire import inference_pb2

NUMBERS = [dtype for dtype in tensors.DTYPES.values() if dtype.kind != "O"]
SHAPES = arrays.array_shapes(max_dims=4, max_side=3)


@st.composite
def a_tensor(draw):
    dtype, shape = draw(st.sampled_from(list(tensors.DTYPES.values()))), draw(SHAPES)
    if dtype.kind == "O":
        values = draw(st.lists(st.binary(max_size=9), min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
        return tensors.strings(values).reshape(shape)
    finite = {"allow_nan": False, "allow_infinity": False} if dtype.kind == "f" else {}
    return draw(arrays.arrays(dtype, shape, elements=arrays.from_dtype(dtype, **finite)))


PARAMETERS = st.dictionaries(
    st.text(min_size=1, max_size=5),
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    max_size=3,
)
REQUESTS = st.builds(
    messages.InferenceRequest,
    model=st.text(max_size=5),
    inputs=st.dictionaries(st.text(min_size=1, max_size=5), a_tensor(), min_size=1, max_size=3),
    outputs=st.lists(st.text(min_size=1, max_size=5), max_size=3).map(tuple),
    id=st.text(max_size=5),
    parameters=PARAMETERS,
)


def request_as_json(request) -> bytes:
    inputs = [tensors.to_json(name, array) for name, array in request.inputs.items()]
    outputs = [{"name": name} for name in request.outputs]
    body = {"id": request.id, "parameters": dict(request.parameters), "inputs": inputs, "outputs": outputs}
    return messages.as_json({key: value for key, value in body.items() if value})


def response_of_json(content: bytes) -> messages.InferenceResponse:
    body = messages.json_object(content)
    return messages.InferenceResponse(
        body.get("model_name", ""),
        dict(tensors.from_json(tensor) for tensor in body["outputs"]),
        body.get("model_version", ""),
        body.get("id", ""),
        body.get("parameters", {}),
    )


def parts(request):
    """Return the content of a request in a form that can be compared."""
    inputs = {name: (array.dtype, array.shape, array.tolist()) for name, array in request.inputs.items()}
    return request.model, inputs, request.outputs, request.id, request.parameters


@settings(deadline=None, max_examples=60)
@given(REQUESTS)
def test_a_request_survives_encoding(request):
    sent = messages.request_to_message(request).SerializeToString()
    read = messages.request_from_message(messages.parse_message(inference_pb2.ModelInferRequest, sent))
    assert parts(read) == parts(request)
    assert parts(messages.request_from_json(request_as_json(request), request.model)) == parts(request)


@settings(deadline=None, max_examples=60)
@given(REQUESTS)
def test_a_response_survives_encoding(request):
    answer = messages.InferenceResponse(request.model, request.inputs, "v", request.id, request.parameters)
    for result in (
        messages.response_from_message(messages.response_to_message(answer)),
        response_of_json(messages.response_to_json(answer)),
    ):
        assert (result.model, result.version, result.id, result.parameters) == (
            request.model,
            "v",
            request.id,
            request.parameters,
        )
        assert all(np.array_equal(result.outputs[name], array) for name, array in answer.outputs.items())


@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
def test_typed_contents_are_read_where_there_is_a_field_for_them(dtype):
    array = np.ones((2, 1), dtype)
    tensor = tensors.to_message("x", array)
    field = tensors._CONTENTS.get(tensor.datatype)
    if field:
        getattr(tensor.contents, field).extend(array.ravel().tolist())
        name, result = tensors.from_message(tensor, None)
        assert (name, result.dtype) == ("x", dtype) and np.array_equal(result, array)
    else:
        with pytest.raises(EdgeError, match="must have raw_input_contents, got no contents"):
            tensors.from_message(tensor, None)


def refused(tensor):
    with pytest.raises(EdgeError) as caught:
        messages.request_from_json(json.dumps({"inputs": [tensor]}).encode(), "m")
    assert caught.value.code == "INVALID_ARGUMENT"
    return caught.value.sentence


GOOD = {"name": "image", "datatype": "FP32", "shape": [2], "data": [1, 2.5]}


@pytest.mark.parametrize(
    ("change", "response"),
    [
        ({"name": ""}, "1 to 256"), ({"name": 3}, "got 3"), ({"datatype": "FP31"}, "known: BOOL"),
        ({"datatype": None}, "known: BOOL"), ({"shape": []}, "positive"), ({"shape": [0]}, "positive"),
        ({"shape": [-2]}, "positive"), ({"shape": [True, 2]}, "positive"), ({"shape": "2"}, "positive"),
        ({"shape": [2**40]}, "positive"), ({"shape": [2**30, 2**30]}, "elements, got 2"),
        ({"shape": [3]}, "3 elements, got 2"), ({"data": [[1, 2]]}, "not nested"),
        ({"shape": [2, 1], "data": [[1], 2]}, "not nested"),
        ({"data": None}, "got None"), ({"data": [1, "2"]}, "not FP32"),
        ({"data": [1, True]}, "not FP32"), ({"data": [1, 1e39]}, "range of FP32"),
        ({"data": [1, 10**400]}, "range of FP32"),
        ({"datatype": "UINT8"}, "not UINT8"), ({"datatype": "UINT8", "data": [1, 256]}, "range of UINT8"),
        ({"datatype": "INT64", "data": [1, 2**63]}, "range of INT64"), ({"datatype": "BOOL"}, "not BOOL"),
        ({"datatype": "BYTES"}, "not a string"), ({"datatype": "BYTES", "data": ["YQ==", "%"]}, "is not base64"),
        ({"datatype": "BYTES", "data": ["a", "b"], "parameters": {"content_type": "np"}}, "base64 or str"),
    ],
)  # fmt: skip
def test_a_bad_tensor_is_refused_by_what_is_wrong(change, response):
    assert response in refused({**GOOD, **change})


@pytest.mark.parametrize(
    ("body", "response"),
    [
        (b"", "valid JSON"), (b"\xff\xfe", "valid JSON"), (b"[" * 100_000, "valid JSON"), (b"[]", "a JSON object"),
        (b"{}", "needs a list of inputs"), (b'{"inputs": [3]}', "must be an object"),
        (b'{"inputs": [], "id": 3}', "needs a list of inputs"),
        (b'{"inputs": [NaN]}', "NaN is not"), (b'{"inputs": [' + b"9" * 5000 + b"]}", "valid JSON"),
        (rb'{"inputs": ["\ud800"]}', "half of a character"),
    ],
)  # fmt: skip
def test_an_invalid_body_is_refused(body, response):
    with pytest.raises(EdgeError, match=response):
        messages.request_from_json(body, "m")


def test_data_may_be_nested_or_flat():
    nested = {"name": "x", "datatype": "INT32", "shape": [2, 1, 3], "data": [[[1, 2, 3]], [[4, 5, 6]]]}
    flat = {**nested, "data": [1, 2, 3, 4, 5, 6]}
    assert np.array_equal(tensors.from_json(nested)[1], tensors.from_json(flat)[1])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=9,
)
ODD = st.fixed_dictionaries(
    {},
    optional={
        "name": JSON | st.just("image"),
        "datatype": JSON | st.sampled_from(list(tensors.DTYPES)),
        "shape": JSON | st.lists(st.integers(-2, 4), max_size=4),
        "data": JSON | st.lists(st.integers(-9, 999) | st.floats() | st.text(max_size=4), max_size=6),
        "parameters": JSON | st.just({"content_type": "str"}),
    },
)
BODIES = st.fixed_dictionaries(
    {"inputs": st.lists(ODD | JSON, max_size=3) | JSON},
    optional={"outputs": JSON, "id": JSON, "parameters": JSON},
)


@settings(deadline=None, max_examples=200)
@given(BODIES.map(json.dumps).map(str.encode) | st.binary(max_size=200))
def test_any_body_is_a_request_or_is_refused(body):
    try:
        request = messages.request_from_json(body, "m")
    except EdgeError as refusal:
        assert refusal.code == "INVALID_ARGUMENT" and len(refusal.sentence) < 500
    else:
        assert all(isinstance(array, np.ndarray) for array in request.inputs.values())


@settings(deadline=None, max_examples=200)
@given(REQUESTS, st.data())
def test_a_damaged_message_is_a_request_or_is_refused(request, data):
    sent = bytearray(messages.request_to_message(request).SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        sent[data.draw(st.integers(0, len(sent) - 1))] = data.draw(st.integers(0, 255))
    sent = bytes(sent[: data.draw(st.integers(0, len(sent)))])
    try:
        messages.request_from_message(messages.parse_message(inference_pb2.ModelInferRequest, sent))
    except EdgeError as refusal:
        assert refusal.code == "INVALID_ARGUMENT" and len(refusal.sentence) < 500


@pytest.mark.parametrize("raw", [b"\x01", b"\x02\x00\x00\x00a", b"\xff\xff\xff\xffabc"])
def test_raw_bytes_that_end_too_early_are_refused(raw):
    with pytest.raises(EdgeError, match="cut short"):
        tensors.from_raw("x", tensors.DTYPES["BYTES"], (1,), raw)


def test_raw_contents_must_be_as_many_as_the_tensors():
    message = messages.request_to_message(messages.InferenceRequest("m", {"x": np.zeros(2)}))
    message.raw_input_contents.append(b"")
    with pytest.raises(EdgeError, match="1 tensors have 2 raw contents"):
        messages.request_from_message(message)
