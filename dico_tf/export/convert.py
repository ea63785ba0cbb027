"""SavedModels made into LiteRT files, in a process of its own: the converter keeps memory for ever.

python -m dico_tf.export.convert JOB.json ..., where JOB is {"saved_model", "files": {kind: path}, "batch", "images"},
tells each file that it has made on standard output.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from dico_tf.export.graph import ANSWER, Member, Servable
from dico_tf.files import atomic

SIGNATURE = "serving_default"
_OUTPUTS = 8  # more than a signature has


def converted(loaded, kind: str, batch: int, images: np.ndarray | None = None) -> bytes:
    """Of a SavedModel: built-in operations only, batches of one size (0: of any), float32 in and out.

    `images` uint8 [N, H, W, 3] are what int8 is calibrated on.
    """
    serve = loaded.signatures[SIGNATURE]
    shape = serve.structured_input_signature[1]["image"].shape
    spec = tf.TensorSpec((batch or None, *shape[1:]), tf.float32, name="image")
    function = tf.function(lambda image: serve(image=image), autograph=False).get_concrete_function(spec)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], loaded)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if kind != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if kind == "int8":
        return _int8(converter, _answering(serve), images, batch or 1)
    return converter.convert()


def of_network(network: keras.Model, batch: int = 1) -> bytes:
    """A float32 file of one network's logits and what follows from them, without the way round by a SavedModel."""
    size = network.input_shape[1]
    names = [str(c) for c in range(network.output_shape[-1])]
    servable = Servable(
        Member(name=network.name, networks=[network], class_names=names, image_size=size, short_side=size)
    )
    spec = tf.TensorSpec((batch, size, size, 3), tf.float32, name="image")
    converter = tf.lite.TFLiteConverter.from_concrete_functions([servable.serve.get_concrete_function(spec)], servable)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter.convert()


def _int8(converter, answering: list[str], images: np.ndarray, batch: int) -> bytes:
    """The network in 8 bits; what turns logits into answers in float32, or probabilities would be 1/256 apart."""
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.lite.OpsSet.TFLITE_BUILTINS]
    converter.representative_dataset = lambda: _examples(images, batch)
    selective = tf.lite.experimental.QuantizationDebugger(
        converter=converter,
        debug_dataset=lambda: _examples(images[:batch], batch),
        debug_options=tf.lite.experimental.QuantizationDebugOptions(denylisted_nodes=answering),
    )
    return selective.get_nondebug_quantized_model()


def _answering(serve) -> list[str]:
    """Names that the converter may give the operations in the scope `answer`: their own, or those of the outputs."""
    functions = serve.graph.as_graph_def().library.function
    own = {node.name for function in functions for node in function.node_def if node.name.startswith(f"{ANSWER}/")}
    outputs = [f"StatefulPartitionedCall:{n}" for n in range(_OUTPUTS)]
    return [*sorted(own), *outputs, *(f"{name}{n}" for name in outputs for n in range(_OUTPUTS))]


def _examples(images: np.ndarray, batch: int) -> Iterator[list[np.ndarray]]:
    """Every image at least once: the first ones fill up the last batch."""
    for start in range(0, len(images), batch):
        yield [images[np.arange(start, start + batch) % len(images)].astype(np.float32)]


def main(path: str) -> None:
    with open(path, encoding="utf-8") as stream:
        job = json.load(stream)
    images = np.load(job["images"], allow_pickle=False) if job["images"] else None
    loaded = tf.saved_model.load(job["saved_model"])
    for kind, out in job["files"].items():
        atomic.write_bytes(Path(out), converted(loaded, kind, job["batch"], images))
        sys.stdout.write(f"{out}\n")  # to the process that waits
        sys.stdout.flush()


if __name__ == "__main__":
    for job in sys.argv[1:]:
        main(job)
