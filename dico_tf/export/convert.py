"""Conversion of SavedModels to other formats, run in a process of its own (converter_process.py).

python -m dico_tf.export JOB.json ..., where JOB is {"format", "saved_model", "files": {kind: path}, "batch", "images"}.
Each file is reported on standard output as one line of JSON, {"path", "error"}; the error of a written file is empty.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from dico_tf.evaluation.members.tf_graph import freeze_variables
from dico_tf.export.formats import registry as formats
from dico_tf.export.graph import ANSWER, ExportMember, Servable
from dico_tf.files import atomic

SIGNATURE = "serving_default"
_OUTPUTS = 8  # at least as many as a signature has outputs


class Frozen(NamedTuple):
    """One signature of a SavedModel as a flat graph with constant weights."""

    graph: tf.compat.v1.GraphDef
    shape: tuple[int | None, ...]  # of the input `image`
    outputs: dict[str, str]  # output -> name of its tensor

    @property
    def function(self) -> tf.types.experimental.GenericFunction:
        """The signature as a function: image [B, H, W, 3] -> {output: tensor}."""
        names, tensors = zip(*self.outputs.items(), strict=True)

        def call(image: tf.Tensor) -> dict[str, tf.Tensor]:
            values = tf.graph_util.import_graph_def(
                self.graph, input_map={"image:0": image}, return_elements=tensors, name=""
            )
            return dict(zip(names, values, strict=True))

        return tf.function(call, input_signature=[tf.TensorSpec(self.shape, tf.float32, name="image")], autograph=False)

    @property
    def after_logits(self) -> list[str]:
        """All names that operations after the logits may have in the converter.

        These are their names in `graph`, and names such as PartitionedCall:0, the first output of a function call.
        """
        own = sorted(node.name for node in self.graph.node if node.name.startswith(f"{ANSWER}/"))
        outputs = [f"{call}:{n}" for call in ("StatefulPartitionedCall", "PartitionedCall") for n in range(_OUTPUTS)]
        return [*own, *outputs, *(f"{name}{n}" for name in outputs for n in range(_OUTPUTS))]


def freeze(loaded, batch: int | None) -> Frozen:
    """Freeze the signature serving_default of a loaded SavedModel for one batch size; None = any.

    The other signatures are left out: the converter would copy all their functions for each file, and those that decode
    images made the conversion take seven times as long.
    """
    serve = loaded.signatures[SIGNATURE]
    shape = (batch, *serve.structured_input_signature[1]["image"].shape[1:])
    spec = tf.TensorSpec(shape, tf.float32, name="image")
    function = tf.function(lambda image: serve(image=image), autograph=False).get_concrete_function(spec)
    constant = freeze_variables(function)
    graph = constant.graph.as_graph_def()
    names = sorted(function.structured_outputs)  # the order in which TensorFlow flattens a dictionary
    outputs = {name: tensor.name for name, tensor in zip(names, constant.outputs, strict=True)}
    _clean(graph)
    return Frozen(graph, shape, outputs)


def _clean(graph: tf.compat.v1.GraphDef) -> None:
    """Change a graph in place: drop custom gradients, and remove the scopes around the network from all names.

    Files store every name.
    """
    names = {node.name for node in graph.node}
    within = next((name for name in names if f"/{ANSWER}/" in name), "")
    prefix = within[: within.find(f"{ANSWER}/")] if within else ""

    def short(name: str) -> str:
        bare = name.removeprefix(prefix)
        return name if bare.split(":")[0] in names else bare

    for node in graph.node:
        node.attr.pop(
            "_gradient_op_type", None
        )  # names a function that no longer exists, so the graph could not be saved
        node.name = short(node.name)
        for n, name in enumerate(node.input):
            node.input[n] = "^" + short(name[1:]) if name.startswith("^") else short(name)


def to_tflite(network: Frozen, kind: str, images: np.ndarray | None = None) -> bytes:
    """Return a LiteRT file with built-in operations only, a float32 input, and the batch size of `network`.

    Args:
        kind: float32, float16, dynamic or int8.
        images: uint8 [N, H, W, 3] that calibrate int8; other kinds need none.
    """
    holder = tf.Module()
    holder.serve = network.function
    converter = tf.lite.TFLiteConverter.from_concrete_functions([holder.serve.get_concrete_function()], holder)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if kind != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if kind == "int8":
        return _int8(converter, network.after_logits, images, network.shape[0] or 1)
    return converter.convert()


def network_to_tflite(network: keras.Model, batch: int = 1) -> bytes:
    """Return a float32 LiteRT file of a network from raw images to logits, converted without a SavedModel.

    The file has the outputs of graph.answers: logits, probabilities and class_id.
    """
    size = network.input_shape[1]
    names = [str(c) for c in range(network.output_shape[-1])]
    servable = Servable(
        ExportMember(name=network.name, networks=[network], class_names=names, image_size=size, short_side=size)
    )
    spec = tf.TensorSpec((batch, size, size, 3), tf.float32, name="image")
    converter = tf.lite.TFLiteConverter.from_concrete_functions([servable.serve.get_concrete_function(spec)], servable)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter.convert()


def _int8(converter, in_float32: list[str], images: np.ndarray, batch: int) -> bytes:
    """Return a LiteRT file of the converter's network, in 8 bits except for the operations named in `in_float32`.

    These are all after the logits: in 8 bits, probabilities would have steps of 1/256.
    """
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.lite.OpsSet.TFLITE_BUILTINS]
    converter.representative_dataset = lambda: _examples(images, batch)
    selective = tf.lite.experimental.QuantizationDebugger(
        converter=converter,
        debug_dataset=lambda: _examples(images[:batch], batch),
        debug_options=tf.lite.experimental.QuantizationDebugOptions(denylisted_nodes=in_float32),
    )
    return selective.get_nondebug_quantized_model()


def _examples(images: np.ndarray, batch: int) -> Iterator[list[np.ndarray]]:
    """Yield all images in batches; the last batch is filled with the first images."""
    for start in range(0, len(images), batch):
        yield [images[np.arange(start, start + batch) % len(images)].astype(np.float32)]


def main(path: str) -> None:
    """Convert the files of the job file `path`. A kind that cannot be converted is reported; the others go on."""
    with open(path, encoding="utf-8") as stream:
        job = json.load(stream)
    images = np.load(job["images"], allow_pickle=False) if job["images"] else None
    network = freeze(tf.saved_model.load(job["saved_model"]), job["batch"] or None)
    format = formats.load(job["format"])
    for kind, out in job["files"].items():
        try:
            content, error = format.convert(network, kind, images), ""
        except Exception as fault:  # the converter raises errors of many types
            content, error = b"", f"{type(fault).__name__}: {fault}"
        if content:
            atomic.write_bytes(Path(out), content)
        sys.stdout.write(json.dumps({"path": out, "error": error}) + "\n")  # read by converter_process.py
        sys.stdout.flush()
