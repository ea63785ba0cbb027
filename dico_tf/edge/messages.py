"""A question to a model and its answer, as messages of the Open Inference Protocol and as its JSON, both ways."""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from google.protobuf.message import DecodeError, Message

from dico_tf.edge import tensors
from dico_tf.edge.errors import EdgeError, invalid, shown
from dico_tf.wire import inference_pb2

Value = bool | int | float | str
M = TypeVar("M", bound=Message)
_TENSORS = 32  # inputs or outputs of one question
_PARAMETERS = 64


@dataclasses.dataclass(frozen=True)
class InferenceRequest:
    """What a model is asked; no outputs named: those it gives by default."""

    model: str
    inputs: Mapping[str, np.ndarray]
    outputs: tuple[str, ...] = ()
    version: str = ""
    id: str = ""
    parameters: Mapping[str, Value] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class InferenceResponse:
    model: str
    outputs: Mapping[str, np.ndarray]
    version: str = ""
    id: str = ""
    parameters: Mapping[str, Value] = dataclasses.field(default_factory=dict)


def parse_message(kind: type[M], content: bytes) -> M:
    """A stranger's bytes as a message."""
    try:
        return kind.FromString(content)
    except (DecodeError, RecursionError):
        raise invalid(f"the request is no {kind.DESCRIPTOR.name}: its bytes cannot be read") from None


def _head(part: InferenceRequest | InferenceResponse) -> dict[str, Any]:
    """The fields a question and an answer share, as a message has them."""
    parameters = {name: _parameter(value) for name, value in part.parameters.items()}
    return {"model_name": part.model, "model_version": part.version, "id": part.id, "parameters": parameters}


def _head_of(message: inference_pb2.ModelInferRequest | inference_pb2.ModelInferResponse) -> dict[str, Any]:
    parameters = _parameters_of(message.parameters)
    return {"model": message.model_name, "version": message.model_version, "id": message.id, "parameters": parameters}


def request_from_message(message: inference_pb2.ModelInferRequest) -> InferenceRequest:
    return InferenceRequest(
        inputs=_from_messages(message.inputs, message.raw_input_contents),
        outputs=_names(output.name for output in message.outputs),
        **_head_of(message),
    )


def request_to_message(asked: InferenceRequest) -> inference_pb2.ModelInferRequest:
    return inference_pb2.ModelInferRequest(
        **_head(asked),
        inputs=[tensors.to_message(name, array) for name, array in asked.inputs.items()],
        outputs=[inference_pb2.RequestedOutput(name=name) for name in asked.outputs],
        raw_input_contents=[tensors.to_raw(array) for array in asked.inputs.values()],
    )


def response_from_message(message: inference_pb2.ModelInferResponse) -> InferenceResponse:
    return InferenceResponse(outputs=_from_messages(message.outputs, message.raw_output_contents), **_head_of(message))


def response_to_message(answer: InferenceResponse) -> inference_pb2.ModelInferResponse:
    return inference_pb2.ModelInferResponse(
        **_head(answer),
        outputs=[tensors.to_message(name, array) for name, array in answer.outputs.items()],
        raw_output_contents=[tensors.to_raw(array) for array in answer.outputs.values()],
    )


def _from_messages(found: Sequence[inference_pb2.Tensor], raw: Sequence[bytes]) -> dict[str, np.ndarray]:
    if raw and len(raw) != len(found):
        raise invalid(f"{len(found)} tensors have {len(raw)} raw contents: give one for each, or none")
    _few(len(found), "tensors", _TENSORS)
    return _once([tensors.from_message(tensor, raw[n] if raw else None) for n, tensor in enumerate(found)])


def _once(pairs: list[tuple[str, np.ndarray]]) -> dict[str, np.ndarray]:
    named = dict(pairs)
    if len(named) != len(pairs):
        raise invalid(f"a tensor stands twice; received: {shown(', '.join(name for name, _ in pairs))}")
    return named


def _names(names: Iterable[Any]) -> tuple[str, ...]:
    found = tuple(names)
    _few(len(found), "requested outputs", _TENSORS)
    if any(not isinstance(name, str) or not name for name in found):
        raise invalid("a requested output has no name")
    return found


def _few(count: int, what: str, most: int) -> None:
    if count > most:
        raise invalid(f"{count} {what} are too many: {most} at most")


def _parameters_of(found: Mapping[str, inference_pb2.Parameter]) -> dict[str, Value]:
    _few(len(found), "parameters", _PARAMETERS)
    kinds = {name: value.WhichOneof("choice") for name, value in found.items()}
    return {name: getattr(found[name], kind) for name, kind in kinds.items() if kind}


def _parameter(value: Value) -> inference_pb2.Parameter:
    if isinstance(value, bool):
        return inference_pb2.Parameter(bool_param=value)
    if isinstance(value, int):
        return inference_pb2.Parameter(**{"int64_param" if value < 2**63 else "uint64_param": value})
    return inference_pb2.Parameter(**{"double_param" if isinstance(value, float) else "string_param": value})


def request_from_json(content: bytes, model: str, version: str = "") -> InferenceRequest:
    """The body of POST /v2/models/M/infer."""
    body = json_object(content)
    inputs, outputs = body.get("inputs"), body.get("outputs") or []
    if not isinstance(inputs, list) or not inputs:
        raise invalid('the body has no inputs: give {"inputs": [{"name", "datatype", "shape", "data"}]}')
    if not isinstance(outputs, list) or any(not isinstance(output, dict) for output in outputs):
        raise invalid(f'outputs are {shown(outputs)}: give [{{"name": "probabilities"}}]')
    _few(len(inputs), "tensors", _TENSORS)
    return InferenceRequest(
        model=model,
        inputs=_once([tensors.from_json(tensor) for tensor in inputs]),
        outputs=_names(output.get("name") for output in outputs),
        version=version,
        id=_text(body, "id"),
        parameters=_parameters(body),
    )


def response_to_json(answer: InferenceResponse) -> bytes:
    body: dict[str, Any] = {"model_name": answer.model, "model_version": answer.version, "id": answer.id}
    body["parameters"] = dict(answer.parameters)
    body["outputs"] = [tensors.to_json(name, array) for name, array in answer.outputs.items()]
    return as_json({key: value for key, value in body.items() if value})


def json_object(content: bytes) -> dict[str, Any]:
    """A stranger's bytes as a JSON object."""
    try:
        body = json.loads(content, parse_constant=_no_number)
    except EdgeError:
        raise
    except (ValueError, RecursionError):
        raise invalid("the body is no JSON") from None
    if not isinstance(body, dict):
        raise invalid("the body is no JSON object")
    if b"\\u" in content and not _encodable(body):
        raise invalid("the body holds half a character: a surrogate without its other half")
    return body


def _encodable(body: dict[str, Any]) -> bool:
    try:
        json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def as_json(value: Any) -> bytes:
    return json.dumps(value, allow_nan=False).encode()


def _no_number(word: str) -> None:
    raise invalid(f"{word} is no number in JSON")


def _text(body: Mapping[str, Any], key: str) -> str:
    value = body.get(key, "")
    if not isinstance(value, str):
        raise invalid(f"{key} is {shown(value)}: give a string")
    return value


def _parameters(body: Mapping[str, Any]) -> dict[str, Value]:
    found = body.get("parameters") or {}
    if not isinstance(found, dict) or any(not _plain(value) for value in found.values()):
        raise invalid(f"parameters are {shown(found)}: give an object of truths, numbers and strings")
    _few(len(found), "parameters", _PARAMETERS)
    return found


def _plain(value: Any) -> bool:
    if isinstance(value, int) and not isinstance(value, bool):
        return -(2**63) <= value < 2**64
    return isinstance(value, bool | float | str)
