"""Distillation: values of the loss, the images that a teacher sees, and training steps."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from dico_tf.cotrain import DiCo
from dico_tf.cotrain.losses import cross_entropy, distillation
from dico_tf.errors import UserError
from dico_tf.views.counter_rng import CounterRng
from tests.small_network import small_file

CLASSES, COUNT = 3, 6
DRAW = np.random.default_rng(0)
IMAGES = DRAW.integers(0, 256, (COUNT, 32, 32, 3), np.uint8)
LABELS = np.arange(COUNT) % CLASSES
# Computed in float64 by the formula T^2 sum_c p_c (log p_c - log softmax(z / T)_c), p = softmax(t / T), T = 2.
STUDENT, TEACHER = np.array([[1.0, -1.0, 0.5], [0.0, 2.0, -1.0]]), np.array([[2.0, 0.0, -1.0], [1.0, 1.0, 1.0]])
LOSS = (0.4969932160149, 0.7963593150927)
GRADIENT = ((-0.3253923039, -0.1197051389, 0.4450974428), (-0.2042188714, 0.5903967718, -0.3861779003))


def softened(logits, temperature: float):
    return tf.nn.softmax(tf.constant(logits, tf.float32) / temperature)


def batch() -> dict[str, tf.Tensor]:
    return {"image": tf.constant(IMAGES), "label": tf.constant(LABELS), "index": tf.range(COUNT, dtype=tf.int64)}


def distilled(teacher, **settings) -> DiCo:
    network = small_file()  # before the seed, as the file is written with random weights
    keras.utils.set_random_seed(0)
    settings = {"views": ("none",), "method": "distill", "temperature": 2.0, "label_weight": 0.25, **settings}
    model = DiCo(network, 2, classes=CLASSES, teacher=teacher, **settings)
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    return model


def brightness(images):
    """Return logits [B, 3] that depend on the image alone."""
    return tf.reduce_mean(tf.cast(images, tf.float32), axis=(1, 2)) / 16


def test_the_loss_and_its_gradient_are_those_of_the_formula():
    z = tf.constant(STUDENT, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(z)
        loss = distillation(z, softened(TEACHER, 2.0), 2.0)
    p, q = (np.exp(x / 2) / np.exp(x / 2).sum(1, keepdims=True) for x in (TEACHER, STUDENT))
    assert 4 * (p * np.log(p / q)).sum(1) == pytest.approx(LOSS, abs=1e-9)
    assert loss.numpy() == pytest.approx(LOSS, abs=1e-5)
    assert tape.gradient(loss, z).numpy() == pytest.approx(np.array(GRADIENT), abs=1e-5)


def test_equal_answers_and_classes_without_probability_cost_nothing():
    assert distillation(tf.constant(TEACHER, tf.float32), softened(TEACHER, 3.0), 3.0).numpy() == pytest.approx(
        0, abs=1e-5
    )
    sure = tf.constant([[1.0, 0.0, 0.0]])
    logits = tf.constant([[2.0, 1.0, 0.0]])
    assert distillation(logits, sure).numpy() == pytest.approx(cross_entropy(logits, sure).numpy(), abs=1e-6)


def test_every_branch_learns_the_labels_and_the_teacher():
    model = distilled(brightness, agreement_weight=0.5)
    (logits, terms), _ = model.learn(model.task.inputs(model.task.unpack(batch()), 0, 0, model.method.teach))
    label = [cross_entropy(logits[:, s, 0], tf.one_hot(LABELS, CLASSES)) for s in range(2)]
    soft = [distillation(logits[:, s, 0], softened(brightness(IMAGES), 2.0), 2.0) for s in range(2)]
    own = sum(0.25 * label[s] + 0.75 * soft[s] for s in range(2))
    assert terms.losses.numpy() == pytest.approx(np.stack(label, 1), abs=1e-5)
    assert terms.total.numpy() == pytest.approx((own + 0.5 * terms.agreement).numpy(), abs=1e-5)


def test_mixed_images_have_the_teachers_answers_mixed_as_their_labels():
    seen = []
    model = distilled(lambda images: seen.append(np.asarray(images)) or brightness(images), mixup=0.4)
    views, truth = model.task.inputs(model.task.unpack(batch()), 0, 0, model.method.teach)
    answers = softened(brightness(IMAGES), 2.0).numpy()
    rows = np.eye(CLASSES)[LABELS]
    order = CounterRng.of_step(0, 0, tf.range(COUNT), -1).permutation("order").numpy()
    apart = rows - rows[order]
    share = ((truth["targets"][0].numpy() - rows[order]) * apart).sum() / (apart**2).sum()
    assert 0 < share < 1
    assert truth["extra_targets"][0].numpy() == pytest.approx(share * answers + (1 - share) * answers[order], abs=1e-5)
    assert all(np.array_equal(images, IMAGES) for images in seen), "the teacher sees images before they are mixed"
    assert not np.array_equal(views[0], IMAGES)


def test_the_teacher_sees_each_branchs_view_or_the_clean_image():
    def teacher(images):
        seen.append(np.asarray(images, np.float32))
        return brightness(images)

    seen: list[np.ndarray] = []
    model = distilled(teacher, views=("crop+flip",))
    model.train_step(batch())
    assert len(seen) == 2 and not np.array_equal(seen[0], seen[1])
    seen.clear()
    distilled(teacher, views=("crop+flip",), same_views=True).train_step(batch())
    assert len(seen) == 1, "one view is answered once"
    seen.clear()
    distilled(teacher, views=("crop+flip",), teacher_views="clean").train_step(batch())
    assert len(seen) == 1 and np.array_equal(seen[0], IMAGES)


def test_no_gradient_reaches_the_teacher_and_its_answers_move_the_branches():
    teacher = keras.Sequential([keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(CLASSES)])
    teacher.build((None, 32, 32, 3))
    before = [w.numpy().copy() for w in teacher.weights]
    moved = []
    for weight in (1.0, 0.25):
        model = distilled(teacher, label_weight=weight)
        assert np.isfinite(float(model.train_step(batch())["loss"]))
        moved.append(model.branch_variables[-1].numpy())
    assert all(np.array_equal(a, w.numpy()) for a, w in zip(before, teacher.weights, strict=True))
    assert not np.array_equal(*moved)


@pytest.mark.parametrize("training", ["together", "independent"])
def test_a_step_learns_with_either_training(training):
    model = distilled(brightness, training=training, mixup=0.2)
    assert np.isfinite(float(model.train_step(batch())["loss"]))


def test_masks_are_taught_pixel_by_pixel():
    keras.utils.set_random_seed(0)
    model = DiCo(
        "deeplabv3_tiny",
        2,
        classes=CLASSES,
        image_size=32,
        views=("flip",),
        method="distill",
        teacher=lambda images: tf.zeros((tf.shape(images)[0], 4, 4, CLASSES)),
    )
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    masks = np.broadcast_to(LABELS[:, None, None], (COUNT, 32, 32)).copy()
    result = model.train_step({"image": IMAGES, "label": masks, "index": np.arange(COUNT)})
    assert np.isfinite(float(result["loss"])) and float(result["loss"]) != float(result["branch_0_loss"])


def test_a_saved_model_answers_without_its_teacher_and_asks_for_it_when_it_trains(tmp_path):
    model = distilled(brightness)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert np.array_equal(loaded(IMAGES), model(IMAGES))
    assert loaded.settings.temperature == 2.0
    loaded.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    with pytest.raises(UserError, match="needs a teacher to train"):
        loaded.train_step(batch())
    loaded.learn_from(lambda images, index: brightness(images))
    loaded.train_step(batch())


def test_a_teacher_needs_the_method():
    with pytest.raises(UserError, match="method='dico' does not use a teacher: give method='distill'"):
        DiCo("wrn_tiny", 2, classes=CLASSES, teacher=brightness)
    with pytest.raises(UserError, match=r"temperature=2\.0 is for method=distill"):
        DiCo("wrn_tiny", 2, classes=CLASSES, temperature=2.0)
