"""Outputs of any network read as logits of the data's classes."""

import numpy as np
import pytest

from dico_tf.errors import UserError
from dico_tf.evaluation.averaging import softmax
from dico_tf.evaluation.members.output_decoding import OutputDecoder, smallest_probability
from dico_tf.evaluation.members.preprocessing import PIXELS, preprocess

LOGITS = np.random.default_rng(0).normal(0, 3, (6, 11)).astype(np.float32)


def test_logits_pass_as_they_are():
    decoder = OutputDecoder(classes=11)
    assert (decoder(LOGITS, name="m") == LOGITS).all()
    assert decoder.description == "m answers with 11 logits"


def test_probabilities_become_logits_with_the_same_softmax():
    decoder = OutputDecoder(classes=11)
    logits = decoder(softmax(LOGITS), name="m")
    assert logits.dtype == np.float32
    np.testing.assert_allclose(softmax(logits), softmax(LOGITS), atol=1e-6)
    assert decoder.description == "m answers with 11 probabilities, whose logarithms are taken"


def test_one_output_more_than_classes_is_a_background_that_goes():
    for values in (LOGITS, softmax(LOGITS)):
        decoder = OutputDecoder(classes=10)
        logits = decoder(values)
        assert logits.shape == (6, 10) and decoder.description.endswith("the first, the background, is left out")
        assert (logits.argmax(1) == LOGITS[:, 1:].argmax(1)).all()


@pytest.mark.parametrize(("background", "classes", "width"), [("first", 11, 10), ("none", 10, 11), ("auto", 7, 11)])
def test_what_is_said_of_a_background_wins(background, classes, width):
    assert OutputDecoder(background=background, classes=classes)(LOGITS).shape == (6, width)


def test_eight_bit_probabilities_are_known_though_their_roundings_add_up():
    peaked = np.tile(np.linspace(0, 2, 1001), (3, 1))
    values = np.round(softmax(peaked) * 256) / 256  # most become 0: they add up to less than 1
    values[:, -1] += 0.8 - values.sum(1)
    decoder = OutputDecoder(classes=1000)
    logits = decoder(values, 1 / 256, "m")
    assert "in steps of 1/256" in decoder.description and np.isfinite(logits).all()
    assert logits.min() == pytest.approx(np.log(smallest_probability(1 / 256, 1000)))


def test_the_first_batch_decides_for_all():
    decoder = OutputDecoder()
    decoder(LOGITS)
    assert (decoder(softmax(LOGITS)) == softmax(LOGITS).astype(np.float32)).all()


def test_a_zero_probability_has_a_finite_logarithm():
    logits = OutputDecoder()(np.array([[1.0, 0.0], [0.5, 0.5]]))
    assert np.isfinite(logits).all() and logits[0, 1] < -80


def test_numbers_that_were_to_be_probabilities_and_are_none_are_refused():
    with pytest.raises(UserError, match=r"\?outputs=logits"):
        OutputDecoder(outputs="probabilities")(LOGITS)


@pytest.mark.parametrize("wrong", [{"outputs": "scores"}, {"background": "last"}])
def test_unknown_words_are_refused_with_those_that_are_known(wrong):
    with pytest.raises(UserError, match="must be one of auto, "):
        OutputDecoder(**wrong)


def test_answers_without_a_score_per_class_are_refused():
    with pytest.raises(UserError, match="one score per class"):
        OutputDecoder()(np.zeros((2, 3, 4)))


@pytest.mark.parametrize(("pixels", "low", "high"), [("0..255", 0, 255), ("0..1", 0, 1), ("-1..1", -1, 1)])
def test_pixels_fill_the_range_a_network_wants(pixels, low, high):
    ends = np.array([0, 255], np.uint8).reshape(1, 1, 2, 1).repeat(3, -1)
    values = preprocess(ends, pixels, np.float32)
    assert values.dtype == np.float32 and (values[0, 0, 0] == low).all() and (values[0, 0, 1] == high).all()


def test_imagenets_statistics_are_those_of_torchvision():
    grey = np.full((1, 1, 1, 3), 128, np.uint8)
    expected = (128 / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(PIXELS["imagenet"](grey.astype(np.float32))[0, 0, 0], expected, rtol=1e-5)


def test_whole_numbers_go_in_raw_or_by_the_scale_that_was_asked_for():
    levels = np.array([0, 128, 255], np.uint8).reshape(1, 1, 3, 1).repeat(3, -1)
    assert preprocess(levels, "0..255", np.uint8, 1 / 128, 128)[0, 0, :, 0].tolist() == [0, 128, 255]
    assert preprocess(levels, "0..255", np.int8, 1 / 128, 0)[0, 0, :, 0].tolist() == [-128, 0, 127]
    assert preprocess(levels, "-1..1", np.uint8, 1 / 128, 128)[0, 0, :, 0].tolist() == [0, 129, 255]
    assert preprocess(levels, "0..1", np.int8, 1 / 64, -64)[0, 0, :, 0].tolist() == [-64, -32, 0]
