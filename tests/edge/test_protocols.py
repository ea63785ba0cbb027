"""Any answer of a member is either a vote or Unusable; no other error is raised."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dico_tf.edge.members.outcome import Vote
from dico_tf.edge.members.protocols import OpenInference, TensorFlowServing, Unusable
from dico_tf.wire import inference_pb2, tf_serving_pb2

PROTOCOLS = [OpenInference("branch_0"), TensorFlowServing("cifar")]
INT64 = st.integers(-(2**63), 2**63 - 1)
SHAPES = st.lists(st.one_of(st.integers(0, 4), INT64), max_size=40)


def is_vote_or_unusable(protocol, content):
    """Return True if the content is a usable vote, or unusable with a reason."""
    try:
        vote = protocol.parse_vote(content)
    except Unusable as error:
        return bool(str(error))
    return isinstance(vote, Vote) and isinstance(vote.logits, np.ndarray) and isinstance(vote.export, str)


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=["worker", "serving"])
@settings(deadline=None)
@given(st.binary(max_size=200))
def test_bytes_of_any_kind(protocol, content):
    assert is_vote_or_unusable(protocol, content)


@settings(deadline=None)
@given(SHAPES, st.sampled_from(["FP32", "FP64", "INT64", "BYTES", "x", ""]), st.binary(max_size=64), st.booleans())
def test_tensors_of_a_worker_of_any_shape(shape, datatype, raw, twice):
    tensor = inference_pb2.Tensor(name="logits", datatype=datatype, shape=shape)
    message = inference_pb2.ModelInferResponse(outputs=[tensor] * (1 + twice), raw_output_contents=[raw])
    assert is_vote_or_unusable(PROTOCOLS[0], message.SerializeToString())


@settings(deadline=None)
@given(SHAPES, st.integers(0, 12), st.binary(max_size=64), st.lists(st.floats(width=32), max_size=16))
def test_tensors_of_tensorflow_serving_of_any_shape(shape, dtype, content, values):
    response = tf_serving_pb2.PredictResponse()
    tensor = response.outputs["logits"]
    tensor.dtype, tensor.tensor_content = dtype, content
    tensor.float_val.extend(values)
    tensor.tensor_shape.dim.extend(tf_serving_pb2.TensorShape.Dim(size=size) for size in shape)
    assert is_vote_or_unusable(PROTOCOLS[1], response.SerializeToString())


@pytest.mark.parametrize("dtype", ["<f4", "<f8"])
def test_logits_as_content_or_as_values_are_the_same(dtype):
    logits = np.arange(6, dtype=dtype).reshape(2, 3)
    kind, field = {"<f4": (tf_serving_pb2.DT_FLOAT, "float_val"), "<f8": (tf_serving_pb2.DT_DOUBLE, "double_val")}[
        dtype
    ]
    for more in ({"tensor_content": logits.tobytes()}, {field: logits.ravel().tolist()}):
        response = tf_serving_pb2.PredictResponse()
        response.outputs["logits"].CopyFrom(tf_serving_pb2.Tensor(dtype=kind, **more))
        response.outputs["logits"].tensor_shape.dim.extend(tf_serving_pb2.TensorShape.Dim(size=n) for n in (2, 3))
        response.model_spec.version.value = 7
        vote = PROTOCOLS[1].parse_vote(response.SerializeToString())
        assert vote.logits.tolist() == logits.tolist() and vote.export == "cifar/7"
