import copy

from dico_tf.evaluation.report import evaluate
from dico_tf.export.card import card

CLASSES = ["cat", "dog|wolf"]
CONTENT = {
    "source": {"model": "wrn_tiny", "dataset": "pets"},
    "committee": {"members": ["branch_0"], "average": "logits"},
    "members": [{"name": "branch_0", "input_size": 8, "params": 5, "macs": 7, "class_names": CLASSES, "metrics": {}}],
    "input": {"short_side": 8, "size": 8},
    "comparison": {"images": 0},
}
DATA = {"name": "pets", "sizes": {"train": 2000, "test": 4}}
LOGITS = [[[3, 0]], [[3, 0]], [[3, 0]], [[0, 3]]]  # one branch, answers 0, 0, 0, 1
TEST = evaluate(LOGITS, [0, 0, 1, 1], "logits", "test", "validation", "raw", CLASSES)


def test_the_card_has_the_scores_that_weigh_every_class_the_same_and_those_of_each_class():
    text = card(CONTENT, DATA, TEST)
    assert "reached 75.00 % (NLL" in text and ", balanced accuracy 75.00%, macro F1 73.33%); its best epoch" in text
    assert "| class | images | accuracy |\n|---|---|---|\n| cat | 2 | 100.00% |\n| dog\\|wolf | 2 | 50.00% |" in text


def test_the_card_of_an_older_evaluation_leaves_out_what_it_lacks():
    older = copy.deepcopy(TEST)
    del older["ensemble"]["balanced_accuracy"], older["ensemble"]["macro_f1"], older["per_class"]
    text = card(CONTENT, DATA, older)
    assert "reached 75.00 %" in text and "balanced" not in text and "| class |" not in text
    assert "No test images have been evaluated." in card(CONTENT, DATA, None)


def test_the_card_says_how_few_images_were_trained_on_and_how_many_labels_were_wrong():
    assert "Trained on" not in card(CONTENT, DATA, None)
    used = {"images": 1500, "label_noise": 0.0}
    assert "\nTrained on 1,500 of the train images.\n" in card(CONTENT, {**DATA, "trained_on": used}, None)
    used = {"images": 2000, "label_noise": 0.3}
    line = "Trained on 2,000 of the train images, 30% of the training labels made wrong on purpose."
    assert line in card(CONTENT, {**DATA, "trained_on": used}, None)
