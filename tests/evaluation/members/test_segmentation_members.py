"""Networks of any kind that say the class of each pixel, asked through one door."""

from pathlib import Path

import keras
import numpy as np
import pytest

from dico_tf.errors import UserError
from dico_tf.evaluation.members.segmentation_members import open_segmentation_members
from dico_tf.evaluation.segmentation import enlarged

DRAW = np.random.default_rng(0)
PICTURES = DRAW.integers(0, 256, (2, 24, 32, 3), np.uint8)


def network(size=(None, None), classes=4, strides=2) -> keras.Model:
    image = keras.Input((*size, 3), name="image")
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(8, 3, strides=strides, padding="same", activation="relu")(x)
    return keras.Model(image, keras.layers.Conv2D(classes, 1, name="logits")(x))


def kept(folder: Path, model: keras.Model) -> str:
    model.save(folder / "net.keras")
    return str(folder / "net.keras")


def test_a_file_answers_as_large_as_the_picture_whatever_its_stride(tmp_path):
    model = network()
    (member,) = open_segmentation_members([kept(tmp_path, model)], 4)
    expected = enlarged(model(PICTURES.astype("float32")), (24, 32))
    assert member.answer(PICTURES) == pytest.approx(expected, abs=1e-6)
    assert member.macs((24, 32)) == 12 * 16 * (27 * 8 + 8 * 4) and member.params == 27 * 8 + 8 + 8 * 4 + 4
    assert member.macs((48, 32)) == 2 * member.macs((24, 32))


def test_a_network_of_one_size_sees_other_pictures_resized(tmp_path):
    model = network((16, 16), strides=1)
    (member,) = open_segmentation_members([f"small={kept(tmp_path, model)}"], 4)
    assert member.name == "small" and member.answer(PICTURES).shape == (2, 24, 32, 4)
    own = DRAW.integers(0, 256, (1, 16, 16, 3), np.uint8)
    assert member.answer(own) == pytest.approx(np.asarray(model(own.astype("float32"))), abs=1e-6)
    assert member.macs((500, 500)) == member.macs((16, 16))


def test_what_cannot_classify_pixels_is_refused(tmp_path):
    path = kept(tmp_path, network())
    for sources, message in {
        (f"{path}@64",): "leave out @64",
        (path, path): "more than once",
        (f"{path}?outputs=logits",): "has no option",
        ("keras:MobileNetV2",): "got a member of kind application",
    }.items():
        with pytest.raises(UserError, match=message):
            open_segmentation_members(sources, 4)
    with pytest.raises(UserError, match="has 4 classes and the data has 5"):
        open_segmentation_members([path], 5)
    image = keras.Input((8, 8, 3))
    keras.Model(image, keras.layers.GlobalAveragePooling2D()(image)).save(tmp_path / "flat.keras")
    with pytest.raises(UserError, match="expected one image"):
        open_segmentation_members([str(tmp_path / "flat.keras")], 4)
    (tmp_path / "text.tflite").write_text("nothing of the kind")
    with pytest.raises(UserError, match=r"text.tflite cannot be read: it is not a .tflite file"):
        open_segmentation_members([str(tmp_path / "text.tflite")], 4)


def test_scores_are_read_where_a_file_says_only_which_is_largest(shared_data):
    from ai_edge_litert.interpreter import Interpreter

    path = shared_data / "deeplab_tflite/deeplabv3_mnv2_dm05_pascal_quant.tflite"
    (member,) = open_segmentation_members([str(path)], 21)
    pictures = DRAW.integers(0, 256, (1, 513, 513, 3), np.uint8)
    plain = Interpreter(str(path))
    plain.allocate_tensors()
    plain.set_tensor(plain.get_input_details()[0]["index"], pictures)
    plain.invoke()
    output = plain.get_tensor(plain.get_output_details()[0]["index"])
    assert np.array_equal(member.answer(pictures).argmax(-1), output)
    assert member.macs((100, 100)) == 867_496_704
