"""Small networks of every kind a committee may have, and pictures to show them."""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from PIL import Image
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

CLASSES = 10


def network(side: int | None, seed: int, background: bool = False, softmax: bool = False) -> keras.Model:
    """Takes -1..1; logits are far enough apart that gates and classes are no matter of rounding."""
    keras.utils.set_random_seed(seed)
    image = keras.Input((side, side, 3))
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu")(image)
    x = keras.layers.Conv2D(12, 3, strides=2, activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    draw = keras.initializers.RandomNormal(0, 4.0, seed=seed)
    outputs = keras.layers.Dense(CLASSES + background, kernel_initializer=draw)(x)
    return keras.Model(image, keras.layers.Softmax()(outputs) if softmax else outputs)


def keras_file(path: Path, side: int | None, seed: int, policy: str = "float32", **more) -> Path:
    keras.config.set_dtype_policy(policy)
    try:
        network(side, seed, **more).save(path)
    finally:
        keras.config.set_dtype_policy("float32")
    return path


def saved_model(path: Path, side: int, seed: int, batch: int | None = None) -> Path:
    """A SavedModel with a fixed batch size if `batch` is given."""
    model, module = network(side, seed), tf.Module()
    module.variables_ = [variable.value for variable in model.variables]
    spec = tf.TensorSpec((batch, side, side, 3), tf.float32, name="picture")
    module.call = tf.function(lambda picture: {"scores": model(picture)}, input_signature=[spec], autograph=False)
    tf.saved_model.save(module, str(path), signatures=module.call)
    return path


def tflite(path: Path, side: int, seed: int, kind: str = "float32", batch: int | None = 1, **more) -> Path:
    """`kind` float32, or int8 or uint8 within and at both ends."""
    model = network(side, seed, **more)
    draw = np.random.default_rng(1)
    noise = draw.uniform(-1, 1, (20, 1, side, side, 3)).astype(np.float32)
    spec = tf.TensorSpec((batch, side, side, 3), tf.float32)
    call = tf.function(lambda image: model(image, training=False)).get_concrete_function(spec)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([convert_variables_to_constants_v2(call)])
    if kind != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image] for image in noise)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.as_dtype(kind)
    path.write_bytes(converter.convert())
    return path


def photos(folder: Path, count: int = 60) -> Path:
    """labels.csv of pictures, JPEG and PNG, some many times as large as any network sees."""
    draw, lines = np.random.default_rng(5), ["image,label"]
    folder.mkdir()
    for n in range(count):
        width, height = draw.integers(40, 700 if n % 5 == 0 else 90, 2)
        coarse = Image.fromarray(draw.integers(0, 256, (4, 5, 3), dtype=np.uint8)).resize((width, height))
        name = f"{n:02}.{'jpg' if n % 3 else 'png'}"
        coarse.save(folder / name, quality=95)
        lines.append(f"{name},{n % CLASSES}")
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder / "labels.csv"
