"""A network as a TensorFlow graph for inference, and the two kinds of files it becomes."""

from pathlib import Path

import keras
import tensorflow as tf


class Servable(tf.Module):
    """image [B, H, W, 3], raw 0..255 -> {"logits": float32 [B, C]}, batch size free.

    Keras would store every weight twice: so the module holds the variables, and the network hides in a closure.
    """

    def __init__(self, network: keras.Model):
        super().__init__()
        self.weights = [variable.value for variable in network.variables]
        signature = tf.TensorSpec((None, *network.inputs[0].shape[1:]), tf.float32, name="image")

        @tf.function(input_signature=[signature], autograph=False)
        def serve(image):
            return {"logits": tf.cast(network(image, training=False), tf.float32)}

        self.serve = serve


def saved_model(network: keras.Model, folder: str | Path) -> None:
    """Writes a SavedModel with the signature serving_default."""
    servable = Servable(network)
    tf.saved_model.save(servable, str(folder), signatures={"serving_default": servable.serve})


def litert(network: keras.Model, batch: int = 1) -> bytes:
    """A float32 LiteRT file of built-in operations only, for batches of one size."""
    servable = Servable(network)
    shape = (batch, *network.inputs[0].shape[1:])
    concrete = servable.serve.get_concrete_function(tf.TensorSpec(shape, tf.float32, name="image"))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], servable)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter.convert()
