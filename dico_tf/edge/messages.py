"""Inference requests and responses, converted to and from the Open Inference Protocol (protobuf and JSON)."""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from google.protobuf.message import DecodeError, Message

from dico_tf.edge import tensors
from dico_tf.edge.errors import EdgeError, invalid, quote
from dico_tf.wire import inference_pb2

Value = bool | int | float | str
M = TypeVar("M", bound=Message)
_MOST_TENSORS = 32  # inputs or outputs of one request
_MOST_PARAMETERS = 64


@dataclasses.dataclass(frozen=True)
class InferenceRequest:
    """A request to one model; without `outputs` the model returns its default outputs."""

    model: str
    inputs: Mapping[str, np.ndarray]
    outputs: tuple[str, ...] = ()
    version: str = ""
    id: str = ""
    parameters: Mapping[str, Value] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class InferenceResponse:
    """The outputs of one model for a request, and parameters that describe how they were computed."""

    model: str
    outputs: Mapping[str, np.ndarray]
    version: str = ""
    id: str = ""
    parameters: Mapping[str, Value] = dataclasses.field(default_factory=dict)


def parse_message(kind: type[M], content: bytes) -> M:
    """Parse the bytes of a client's message of class `kind`. Raises EdgeError."""
    try:
        return kind.FromString(content)
    except (DecodeError, RecursionError):
        raise invalid(f"the request cannot be parsed as {kind.DESCRIPTOR.name}") from None


def _to_fields(part: InferenceRequest | InferenceResponse) -> dict[str, Any]:
    """Return the message fields that requests and responses share."""
    parameters = {name: _parameter(value) for name, value in part.parameters.items()}
    return {"model_name": part.model, "model_version": part.version, "id": part.id, "parameters": parameters}


def _from_fields(message: inference_pb2.ModelInferRequest | inference_pb2.ModelInferResponse) -> dict[str, Any]:
    """Return `model`, `version`, `id` and `parameters` for an InferenceRequest or InferenceResponse."""
    parameters = _from_parameters(message.parameters)
    return {"model": message.model_name, "version": message.model_version, "id": message.id, "parameters": parameters}


def request_from_message(message: inference_pb2.ModelInferRequest) -> InferenceRequest:
    return InferenceRequest(
        inputs=_from_messages(message.inputs, message.raw_input_contents),
        outputs=_names(output.name for output in message.outputs),
        **_from_fields(message),
    )


def request_to_message(request: InferenceRequest) -> inference_pb2.ModelInferRequest:
    return inference_pb2.ModelInferRequest(
        **_to_fields(request),
        inputs=[tensors.to_message(name, array) for name, array in request.inputs.items()],
        outputs=[inference_pb2.RequestedOutput(name=name) for name in request.outputs],
        raw_input_contents=[tensors.to_raw(array) for array in request.inputs.values()],
    )


def response_from_message(message: inference_pb2.ModelInferResponse) -> InferenceResponse:
    return InferenceResponse(
        outputs=_from_messages(message.outputs, message.raw_output_contents), **_from_fields(message)
    )


def response_to_message(response: InferenceResponse) -> inference_pb2.ModelInferResponse:
    return inference_pb2.ModelInferResponse(
        **_to_fields(response),
        outputs=[tensors.to_message(name, array) for name, array in response.outputs.items()],
        raw_output_contents=[tensors.to_raw(array) for array in response.outputs.values()],
    )


def _from_messages(messages: Sequence[inference_pb2.Tensor], raw: Sequence[bytes]) -> dict[str, np.ndarray]:
    if raw and len(raw) != len(messages):
        raise invalid(f"{len(messages)} tensors have {len(raw)} raw contents: send one for each tensor, or none")
    _check_count(len(messages), "tensors", _MOST_TENSORS)
    return _by_name([tensors.from_message(tensor, raw[n] if raw else None) for n, tensor in enumerate(messages)])


def _by_name(pairs: list[tuple[str, np.ndarray]]) -> dict[str, np.ndarray]:
    named = dict(pairs)
    if len(named) != len(pairs):
        raise invalid(f"a tensor name is used twice; got {quote(', '.join(name for name, _ in pairs))}")
    return named


def _names(names: Iterable[Any]) -> tuple[str, ...]:
    outputs = tuple(names)
    _check_count(len(outputs), "requested outputs", _MOST_TENSORS)
    if any(not isinstance(name, str) or not name for name in outputs):
        raise invalid("every requested output needs a name, a string that is not empty")
    return outputs


def _check_count(count: int, what: str, most: int) -> None:
    if count > most:
        raise invalid(f"expected at most {most} {what}, got {count}")


def _from_parameters(parameters: Mapping[str, inference_pb2.Parameter]) -> dict[str, Value]:
    _check_count(len(parameters), "parameters", _MOST_PARAMETERS)
    kinds = {name: value.WhichOneof("choice") for name, value in parameters.items()}
    return {name: getattr(parameters[name], kind) for name, kind in kinds.items() if kind}


def _parameter(value: Value) -> inference_pb2.Parameter:
    if isinstance(value, bool):
        return inference_pb2.Parameter(bool_param=value)
    if isinstance(value, int):
        return inference_pb2.Parameter(**{"int64_param" if value < 2**63 else "uint64_param": value})
    return inference_pb2.Parameter(**{"double_param" if isinstance(value, float) else "string_param": value})


def request_from_json(content: bytes, model: str, version: str = "") -> InferenceRequest:
    """Parse the body of POST /v2/models/M/infer; `model` and `version` are from the path. Raises EdgeError."""
    body = json_object(content)
    inputs, outputs = body.get("inputs"), body.get("outputs") or []
    if not isinstance(inputs, list) or not inputs:
        raise invalid('the body needs a list of inputs: send {"inputs": [{"name", "datatype", "shape", "data"}]}')
    if not isinstance(outputs, list) or any(not isinstance(output, dict) for output in outputs):
        raise invalid(f'outputs must be a list such as [{{"name": "probabilities"}}], got {quote(outputs)}')
    _check_count(len(inputs), "tensors", _MOST_TENSORS)
    return InferenceRequest(
        model=model,
        inputs=_by_name([tensors.from_json(tensor) for tensor in inputs]),
        outputs=_names(output.get("name") for output in outputs),
        version=version,
        id=_text(body, "id"),
        parameters=_parameters(body),
    )


def response_to_json(response: InferenceResponse) -> bytes:
    """Return the body of the response to POST /v2/models/M/infer."""
    body: dict[str, Any] = {"model_name": response.model, "model_version": response.version, "id": response.id}
    body["parameters"] = dict(response.parameters)
    body["outputs"] = [tensors.to_json(name, array) for name, array in response.outputs.items()]
    return as_json({key: value for key, value in body.items() if value})


def json_object(content: bytes) -> dict[str, Any]:
    """Parse a JSON object that a client sent. Raises EdgeError."""
    try:
        body = json.loads(content, parse_constant=_refuse_constant)
    except EdgeError:
        raise
    except (ValueError, RecursionError):
        raise invalid("the body is not valid JSON") from None
    if not isinstance(body, dict):
        raise invalid("the body must be a JSON object")
    if b"\\u" in content and not _encodable(body):
        raise invalid("the body contains an unpaired surrogate, half of a character")
    return body


def _encodable(body: dict[str, Any]) -> bool:
    """Return True if all strings can be encoded as UTF-8."""
    try:
        json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def as_json(value: Any) -> bytes:
    """Encode a value as JSON. Raises ValueError for NaN and infinity."""
    return json.dumps(value, allow_nan=False).encode()


def _refuse_constant(word: str) -> None:
    raise invalid(f"{word} is not a number in JSON")


def _text(body: Mapping[str, Any], key: str) -> str:
    value = body.get(key, "")
    if not isinstance(value, str):
        raise invalid(f"{key} must be a string, got {quote(value)}")
    return value


def _parameters(body: Mapping[str, Any]) -> dict[str, Value]:
    parameters = body.get("parameters") or {}
    if not isinstance(parameters, dict) or any(not _valid_parameter(value) for value in parameters.values()):
        raise invalid(f"parameters must be an object of booleans, strings and 64-bit numbers, got {quote(parameters)}")
    _check_count(len(parameters), "parameters", _MOST_PARAMETERS)
    return parameters


def _valid_parameter(value: Any) -> bool:
    if isinstance(value, int) and not isinstance(value, bool):
        return -(2**63) <= value < 2**64
    return isinstance(value, bool | float | str)
