"""The two protocols of members: the Open Inference Protocol of workers, and TensorFlow Serving's Predict API."""

import math
from typing import Protocol

import numpy as np
from google.protobuf.message import DecodeError

from dico_tf.edge import messages
from dico_tf.edge.errors import EdgeError
from dico_tf.edge.members.outcome import Vote
from dico_tf.wire import inference_pb2, tf_serving_pb2

_SERVICE = "/inference.GRPCInferenceService"
_DTYPES = {tf_serving_pb2.DT_FLOAT: ("<f4", "float_val"), tf_serving_pb2.DT_DOUBLE: ("<f8", "double_val")}


class Unusable(Exception):  # noqa: N818 - named for what is the case
    """A response that is not a vote; the argument is the reason."""


class MemberProtocol(Protocol):
    """Requests to one member, and its responses, as bytes.

    For a response that cannot be used, `parse_vote` raises Unusable, and `parse_ready` an exception of any type.
    """

    infer_method: str  # gRPC paths
    probe_method: str

    def infer_request(self, image: np.ndarray) -> bytes: ...
    def parse_vote(self, content: bytes) -> Vote: ...
    def probe_request(self) -> bytes: ...
    def parse_ready(self, content: bytes) -> bool: ...


class OpenInference:
    """The Open Inference Protocol of a worker; `name` is the member's."""

    infer_method, probe_method = f"{_SERVICE}/ModelInfer", f"{_SERVICE}/ModelReady"

    def __init__(self, name: str):
        self._name = name

    def infer_request(self, image: np.ndarray) -> bytes:
        request = messages.InferenceRequest(self._name, {"image": image}, ("logits",))
        return messages.request_to_message(request).SerializeToString()

    def parse_vote(self, content: bytes) -> Vote:
        try:
            response = messages.response_from_message(inference_pb2.ModelInferResponse.FromString(content))
        except DecodeError:
            raise Unusable("it cannot be parsed as ModelInferResponse") from None
        except EdgeError as error:
            raise Unusable(f"a tensor of it is invalid: {error.sentence}") from None
        if "logits" not in response.outputs:
            raise Unusable("it has no logits")
        export = response.parameters.get("export") or response.version
        return Vote(response.outputs["logits"], str(export))

    def probe_request(self) -> bytes:
        return inference_pb2.ModelReadyRequest(name=self._name).SerializeToString()

    def parse_ready(self, content: bytes) -> bool:
        return inference_pb2.ModelReadyResponse.FromString(content).ready


class TensorFlowServing:
    """TensorFlow Serving's Predict API; `name` is the model's, its signature serving_default gives logits."""

    infer_method = "/tensorflow.serving.PredictionService/Predict"
    probe_method = "/tensorflow.serving.ModelService/GetModelStatus"

    def __init__(self, name: str):
        self._name = name

    def infer_request(self, image: np.ndarray) -> bytes:
        image = image.astype("<f4", copy=False)
        request = tf_serving_pb2.PredictRequest(output_filter=["logits"])
        request.model_spec.name, request.model_spec.signature_name = self._name, "serving_default"
        tensor = request.inputs["image"]
        tensor.dtype, tensor.tensor_content = tf_serving_pb2.DT_FLOAT, image.tobytes()
        tensor.tensor_shape.dim.extend(tf_serving_pb2.TensorShape.Dim(size=size) for size in image.shape)
        return request.SerializeToString()

    def parse_vote(self, content: bytes) -> Vote:
        try:
            response = tf_serving_pb2.PredictResponse.FromString(content)
        except DecodeError:
            raise Unusable("it cannot be parsed as PredictResponse") from None
        if "logits" not in response.outputs:
            raise Unusable("it has no logits")
        version = f"{self._name}/{response.model_spec.version.value}"
        return Vote(_array(response.outputs["logits"]), version, known=False)

    def probe_request(self) -> bytes:
        request = tf_serving_pb2.GetModelStatusRequest()
        request.model_spec.name = self._name
        return request.SerializeToString()

    def parse_ready(self, content: bytes) -> bool:
        versions = tf_serving_pb2.GetModelStatusResponse.FromString(content).model_version_status
        return any(version.state == tf_serving_pb2.ModelVersionStatus.AVAILABLE for version in versions)


def _array(tensor: tf_serving_pb2.Tensor) -> np.ndarray:
    if tensor.dtype not in _DTYPES:
        raise Unusable("its logits must be DT_FLOAT or DT_DOUBLE")
    dtype, field = _DTYPES[tensor.dtype]
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    packed = tensor.tensor_content and len(tensor.tensor_content) % np.dtype(dtype).itemsize == 0
    flat = np.frombuffer(tensor.tensor_content, dtype) if packed else np.array(getattr(tensor, field), dtype)
    if min(shape, default=0) < 1 or flat.size != math.prod(shape):
        raise Unusable(f"its logits have shape {shape[:8]}, but {flat.size} elements")
    return flat.reshape(shape)
