"""Outputs of a model, and requests to an engine that cannot be answered in time."""

import threading
import time

import numpy as np
import pytest

from dico_tf.edge.errors import EdgeError
from dico_tf.edge.inference import model
from dico_tf.edge.inference.engine import InferenceEngine
from dico_tf.errors import UserError
from dico_tf.evaluation.averaging import softmax
from tests.edge import exports

IMAGES = exports.images(5).astype(np.float32)


def loaded(folder, content, **changes):
    return model.load(exports.written(folder, {"branch_0": content}, **changes), "branch_0", "safest", 1, 1)


def soon():
    return time.monotonic() + 60


@pytest.mark.slow
def test_a_file_of_another_batch_size_answers_any_number_alike(tmp_path):
    fours, ones = loaded(tmp_path / "a", exports.branch(batch=4)), loaded(tmp_path / "b", exports.branch())
    for count in (1, 3, 4, 5):
        actual, right = (one.run(0, IMAGES[:count], soon()) for one in (fours, ones))
        assert actual["logits"] == pytest.approx(right["logits"], rel=1e-4) and len(actual["class_id"]) == count


def test_a_file_that_gives_probabilities_alone_gets_logits_that_lead_back_to_them(tmp_path):
    import tensorflow as tf

    def serve(image):
        return {"probabilities": tf.nn.softmax(image[:, 0, 0] / 10)}

    actual = loaded(tmp_path, exports.of_function(serve)).run(0, IMAGES, soon())
    assert softmax(actual["logits"]) == pytest.approx(actual["probabilities"], abs=1e-6)
    assert np.array_equal(actual["class_id"], IMAGES[:, 0, 0].argmax(-1))
    assert {name: array.dtype.name for name, array in actual.items()} == {
        "logits": "float32",
        "probabilities": "float32",
        "class_id": "int64",
    }


def test_one_image_without_an_answer_is_an_error_and_no_answer(tmp_path):
    import tensorflow as tf

    def serve(image):
        return {"logits": tf.math.sqrt(200 - image[:, 0, 0])}  # no number above 200

    actual = loaded(tmp_path, exports.of_function(serve))
    assert np.isfinite(actual.run(0, IMAGES * 0, soon())["logits"]).all()
    with pytest.raises(EdgeError, match="are not finite") as caught:
        actual.run(0, IMAGES * 0 + 255, soon())
    assert caught.value.code == "INTERNAL"


def test_a_deadline_ends_a_batch_midway(tmp_path):
    with pytest.raises(EdgeError, match="after computing 0 of 5 images") as caught:
        loaded(tmp_path, exports.branch()).run(0, IMAGES, time.monotonic() - 1)
    assert caught.value.code == "DEADLINE_EXCEEDED"


def test_a_foreign_file_is_read_as_the_manifest_says_and_outputs_that_are_something_else_are_its_fault(tmp_path):
    content = exports.of_function(lambda image: {"scores": image[:, 0, 0] / 10})
    reading = {"pixels": "0..255", "output": "scores", "place": 0, "outputs": "logits", "background": "none"}
    actual = loaded(tmp_path / "a", content, reading=reading).run(0, IMAGES, soon())
    assert actual["logits"] == pytest.approx(IMAGES[:, 0, 0] / 10)
    actual = loaded(tmp_path / "b", content, reading=reading | {"outputs": "probabilities"})
    with pytest.raises(EdgeError, match="branch_0: expected probabilities, got values from") as caught:
        actual.run(0, IMAGES, soon())
    assert caught.value.code == "INTERNAL"
    fed = loaded(tmp_path / "c", content, reading=reading | {"pixels": "-1..1"}).run(0, IMAGES, soon())
    assert fed["logits"] == pytest.approx((IMAGES[:, 0, 0] / 127.5 - 1) / 10, abs=1e-6)


@pytest.mark.parametrize(
    ("outputs", "changes", "response"),
    [
        (lambda image: {"scores": image[:, 0, 0]}, {}, "must be logits or probabilities of 3 classes"),
        (lambda image: {"logits": image[:, 0]}, {}, "its output must be"),
        (lambda image: {"logits": image[:, 0, 0]}, {"input_size": 64}, r"float32 \[B, 64, 64, 3\]"),
    ],
)
def test_a_file_that_does_not_fit_its_manifest_is_refused(tmp_path, outputs, changes, response):
    with pytest.raises(UserError, match=response):
        loaded(tmp_path, exports.of_function(outputs), **changes)


@pytest.fixture
def engine(tmp_path):
    made = InferenceEngine(loaded(tmp_path, exports.branch()), 1, 2)
    yield made
    made.stop(10)


def test_an_engine_sheds_what_it_has_no_room_for_and_skips_what_nobody_waits_for(engine):
    go, made = threading.Event(), []

    def images(name):
        def make():
            go.wait(60)
            made.append(name)
            return IMAGES

        return make

    first = engine.submit(engine.model, images("first"), soon())
    while engine.waiting:
        time.sleep(0.01)
    given_up, late = (
        engine.submit(engine.model, images("given up"), soon()),
        engine.submit(engine.model, images("x"), 0),
    )
    with pytest.raises(EdgeError, match="2 requests wait already") as caught:
        engine.submit(engine.model, images("shed"), soon())
    assert caught.value.code == "RESOURCE_EXHAUSTED" and given_up.cancel()
    go.set()
    assert first.result(60)["logits"].shape == (5, 3)
    with pytest.raises(EdgeError, match="while the request waited"):
        late.result(60)
    assert made == ["first"]


def test_a_request_is_answered_by_the_model_it_was_asked_of(engine, tmp_path):
    old, new = engine.model, loaded(tmp_path / "new", exports.branch(2), id="second")
    engine.swap(new)
    for request in (old, new):
        actual = engine.submit(request, lambda: IMAGES, soon()).result(60)["logits"]
        assert np.array_equal(actual, request.run(0, IMAGES, soon())["logits"])


def test_an_unexpected_error_does_not_end_a_thread(engine):
    with pytest.raises(ZeroDivisionError):
        engine.submit(engine.model, lambda: 1 / 0, soon()).result(60)
    assert len(engine.submit(engine.model, lambda: IMAGES, soon()).result(60)["logits"]) == 5
