"""Answers of a SavedModel's signatures in a process that cannot import Keras, by a session.

python without_keras.py MODEL WARM_UP QUESTIONS.npz ANSWERS.npz: every array NAME__INPUT of QUESTIONS is given to the
signature NAME; then the warm-up requests are replayed.
"""

import importlib.machinery
import sys


class Blocked:
    """Keras is there for who looks for it, as TensorFlow does, and for nobody who imports it."""

    def find_spec(self, name, path=None, target=None):
        blocked = name.split(".")[0] in ("keras", "tf_keras")
        return importlib.machinery.ModuleSpec(name, self) if blocked else None

    def create_module(self, spec):
        raise ImportError(f"{spec.name} is blocked")

    def exec_module(self, module):
        raise ImportError(f"{module.__name__} is blocked")


sys.meta_path.insert(0, Blocked())

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from tensorflow_serving.apis import prediction_log_pb2  # noqa: E402

model, warm_up, questions, answers = sys.argv[1:]


def replayed(session, signatures) -> int:
    count = 0
    for record in tf.compat.v1.io.tf_record_iterator(warm_up):
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        signature = signatures[request.model_spec.signature_name]
        feeds = {signature.inputs[name].name: tf.make_ndarray(value) for name, value in request.inputs.items()}
        session.run([output.name for output in signature.outputs.values()], feeds)
        count += 1
    return count


with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    signatures = tf.compat.v1.saved_model.load(session, ["serve"], model).signature_def
    arrays = {}
    for name, value in np.load(questions).items():
        signature, entry = name.split("__")
        outputs = {output: tensor.name for output, tensor in signatures[signature].outputs.items()}
        fed = {signatures[signature].inputs[entry].name: value}
        for output, result in session.run(outputs, fed).items():
            arrays[f"{signature}__{output}"] = result.astype(np.str_) if result.dtype == object else result
    try:
        session.run(
            signatures["serving_bytes"].outputs["logits"].name,
            {signatures["serving_bytes"].inputs["image_bytes"].name: [b"no picture"]},
        )
    except tf.errors.InvalidArgumentError:
        arrays["refused"] = np.array(True)
    arrays["replayed"] = np.array(replayed(session, signatures))
assert "keras" not in sys.modules
np.savez(answers, **arrays)
