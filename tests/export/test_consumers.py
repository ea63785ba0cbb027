"""Tests of substitutes for the server, which cannot run here: the C API, a session without Keras, its command."""

import io
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.core.protobuf import saved_model_pb2

from dico_tf.data import image_decoding
from dico_tf.evaluation.averaging import combine, softmax
from dico_tf.export import tf_serving
from dico_tf.training.build import trained_run

HERE = Path(__file__).parent
BRANCH = {"probabilities", "class_id", "logits"}
NOISE = np.random.default_rng(0).integers(0, 256, (32, 32, 32, 3)).astype(np.float32)
ERROR = {"rel": 1e-5, "abs": 1e-5}


@pytest.fixture(scope="module")
def expected(run):
    """images -> the run's own logits [B, S, C], by Keras in float32."""
    model = trained_run(run).network(precision="float32")
    return lambda images: np.asarray(model(images, training=False))


def signatures(folder: Path):
    return saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes()).meta_graphs[0].signature_def


def photo(kind: str, seed: int) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (8, 11, 3)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).resize((150, 110)).save(stream, kind)
    return stream.getvalue()


@pytest.mark.parametrize("name", ["branch_0", "committee"])
def test_the_signatures_are_named_typed_and_free_in_their_batch(exported, name):
    definitions = signatures(exported / "saved_model" / name)
    outputs = BRANCH | ({"branch_probabilities", "disagreement"} if name == "committee" else set())
    assert {"serving_default", "serving_bytes", "classify"} <= definitions.keys()
    for signature, entry, kind, shape in (
        ("serving_default", "image", tf.float32, [-1, 32, 32, 3]),
        ("serving_bytes", "image_bytes", tf.string, [-1]),
        ("classify", "inputs", tf.string, [-1]),
    ):
        given = definitions[signature].inputs
        assert list(given) == [entry] and given[entry].dtype == kind.as_datatype_enum
        assert [d.size for d in given[entry].tensor_shape.dim] == shape
    for signature in ("serving_default", "serving_bytes"):
        kinds = {key: tf.as_dtype(tensor.dtype) for key, tensor in definitions[signature].outputs.items()}
        assert kinds == dict.fromkeys(outputs, tf.float32) | {"class_id": tf.int64}
        assert all(tensor.tensor_shape.dim[0].size == -1 for tensor in definitions[signature].outputs.values())
    assert definitions["classify"].method_name == tf_serving_method() and set(definitions["classify"].outputs) == {
        "classes",
        "scores",
    }


def tf_serving_method() -> str:
    return tf.compat.v1.saved_model.CLASSIFY_METHOD_NAME


@pytest.fixture(scope="module")
def infer(tmp_path_factory):
    """The C program, compiled against the TensorFlow that is installed."""
    if not shutil.which("gcc"):
        pytest.skip("there is no gcc to compile a consumer with")
    program, home = tmp_path_factory.mktemp("c") / "infer", Path(tf.__file__).parent
    libraries = [home / "libtensorflow_cc.so.2", home / "libtensorflow_framework.so.2"]
    if not all(library.exists() for library in libraries):
        pytest.skip("this TensorFlow brings no C library")
    names = sorted(set(re.findall(r"\bTF_\w+(?=\()", (HERE / "infer.c").read_text())))
    stub = _library(program.with_name(libraries[0].name), names)
    command = ["gcc", HERE / "infer.c", f"-I{home}/include", stub, f"-Wl,-rpath,{home}", "-o", program]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    stub.unlink()
    return program


def _library(path: Path, names: Sequence[str]) -> Path:
    """TensorFlow's name and functions, without content: to link the real one takes a minute, to load it does not."""
    source = path.with_suffix(".c")
    source.write_text("".join(f"void {name}(void) {{}}\n" for name in names))
    command = ["gcc", "-shared", "-fPIC", "-fno-builtin", f"-Wl,-soname,{path.name}", source, "-o", path]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param("branch_1", marks=pytest.mark.slow), "committee"])
def test_the_c_api_answers_as_keras_does(infer, exported, expected, name):
    folder = exported / "saved_model" / name
    signature = signatures(folder)["serving_default"]
    own = expected(NOISE)
    logits = combine(own) if name == "committee" else own[:, int(name[-1])]
    for batch in (1, 3, 32):
        words = [str(folder), signature.inputs["image"].name, signature.outputs["logits"].name, str(batch), "32", "32"]
        done = subprocess.run([str(infer), *words], input=NOISE[:batch].tobytes(), capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        outputs = np.frombuffer(done.stdout, np.float32).reshape(batch, -1)
        assert outputs == pytest.approx(logits[:batch], **ERROR)


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param("branch_0", marks=pytest.mark.slow), "committee"])
def test_a_session_that_knows_no_keras_answers_every_signature(exported, expected, tmp_path, name):
    encoded = [photo(kind, seed) for seed, kind in enumerate(("JPEG", "PNG", "JPEG"))]
    examples = [
        _example({key: content}) for key, content in zip(("image_bytes", "image/encoded"), encoded, strict=False)
    ]
    questions = {
        "serving_default__image": NOISE[:5],
        "serving_bytes__image_bytes": np.array(encoded, "S"),
        "classify__inputs": np.array(examples, "S"),
    }
    np.savez(tmp_path / "questions.npz", **questions)
    folder = exported / tf_serving.FOLDER / name / "1"
    words = [HERE / "without_keras.py", folder, folder / tf_serving.WARM_UP, *(tmp_path / n for n in _FILES)]
    done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    outputs = np.load(tmp_path / "answers.npz")
    decoded = np.stack([image_decoding.decode(io.BytesIO(content), 32, 32) for content in encoded]).astype(np.float32)
    for signature, images in (("serving_default", NOISE[:5]), ("serving_bytes", decoded)):
        own = expected(images)
        logits = combine(own) if name == "committee" else own[:, 0]
        assert outputs[f"{signature}__logits"] == pytest.approx(logits, **ERROR)
        assert outputs[f"{signature}__probabilities"] == pytest.approx(softmax(logits), abs=1e-5)
    assert outputs["classify__scores"] == pytest.approx(outputs["serving_bytes__probabilities"][:2], abs=1e-6)
    assert outputs["classify__classes"].tolist() == [list("0123456789")] * 2
    assert outputs["refused"] and outputs["replayed"] == len(tf_serving.SIZES) + 1


_FILES = ("questions.npz", "answers.npz")


def _example(features: dict[str, bytes]) -> bytes:
    values = {key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value])) for key, value in features.items()}
    return tf.train.Example(features=tf.train.Features(feature=values)).SerializeToString()


@pytest.mark.slow
def test_the_command_of_tensorflow_shows_and_runs_it(exported, tmp_path):
    np.save(tmp_path / "image.npy", NOISE[:2])
    words = [
        "run",
        "--dir",
        exported / "saved_model/committee",
        "--tag_set",
        "serve",
        "--signature_def",
        "serving_default",
    ]
    words += ["--inputs", f"image={tmp_path / 'image.npy'}", "--outdir", tmp_path]
    command = [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert np.load(tmp_path / "disagreement.npy").shape == (2,) and np.load(tmp_path / "logits.npy").shape == (2, 10)


def test_every_weight_is_stored_once_and_nothing_of_the_optimizer(exported, described):
    for name, branches in (("branch_0", 1), ("branch_1", 1), ("committee", 2)):
        prefix = str(exported / "saved_model" / name / "variables/variables")
        stored = tf.train.load_checkpoint(prefix).get_variable_to_shape_map()
        stored.pop("_CHECKPOINTABLE_OBJECT_GRAPH")
        values = sum(int(np.prod(shape)) for shape in stored.values())
        trained = described.member(name)["params"]
        statistics = values - trained
        assert trained == branches * described.member("branch_0")["params"] and 0 < statistics < 0.2 * trained
        assert not [key for key in stored if "optimizer" in key or "moment" in key.lower().replace("moving", "")]
