import subprocess
import sys

import pytest

from dico_tf.errors import UserError
from dico_tf.views import autoaugment
from dico_tf.views.pieces.augmentation import RandAugment
from dico_tf.views.pieces.pixels import Crop, Cutout, Erase, Flip
from dico_tf.views.pieces.windows import ResizedCrop
from dico_tf.views.policies import PIECES, parse, parse_all


@pytest.mark.parametrize(
    "text, pieces",
    [
        ("none", ()),
        ("crop+flip", (Crop(4), Flip())),
        ("crop:padding=2 + flip", (Crop(2), Flip())),
        ("crop:0", (Crop(0),)),
        ("resized_crop:0.3", (ResizedCrop(0.3),)),
        ("randaugment:4", (RandAugment(4.0),)),
        ("erase", (Erase(0.125, 0.2, 0.99, 0.5, 1.0),)),
        ("erase:0.0625:0.1", (Erase(0.0625, 0.1),)),
        ("erase:0.05:0.12:0.5:0.3", (Erase(0.05, 0.12, 0.5, 0.3),)),
        ("erase:0.05:0.12:min_aspect=0.5:max_aspect=1.5", (Erase(0.05, 0.12, 0.5, 0.5, 1.5),)),
        ("cutout", (Cutout(0),)),
        ("flip+cutout:16", (Flip(), Cutout(16))),
    ],
)
def test_policy_is_read_as_its_pieces_in_order(text, pieces):
    assert parse(text) == pieces


@pytest.mark.parametrize(
    "text, words",
    [
        ("corp+flip", "did you mean crop"),
        ("", "begins with its name, got ''"),
        ("crop++flip", "begins with its name, got ''"),
        ("none+flip", "none must stand alone"),
        ("none:3", "none takes no arguments"),
        ("flip:1", "too many arguments"),
        ("crop:4:4", "too many arguments; crop takes padding"),
        ("crop:pad=4", "has no argument 'pad'; crop takes padding"),
        ("crop:four", "padding must be a whole number, got 'four'"),
        ("crop:1.5", "padding must be a whole number"),
        ("crop:-1", "padding must be at least 0"),
        ("crop:4:padding=4", "padding twice"),
        ("randaugment:nan", "m must be a finite number"),
        ("randaugment:11", "m must lie in 0..10"),
        ("resized_crop:0", "min_area must be above 0"),
        ("erase:0.3:0.2", "min_area <= max_area"),
        ("erase:0.1:0.2:0.5:1.5", "p must lie in 0..1"),
        ("erase:0.1:0.2:2", "min_aspect <= max_aspect"),
        ("cutout:-1", "size must be at least 0"),
    ],
)
def test_a_wrong_policy_says_what_would_do(text, words):
    with pytest.raises(UserError) as error:
        parse(text)
    assert words in str(error.value)


def test_one_policy_serves_all_branches_and_as_many_as_branches_serve_one_each():
    assert parse_all(["flip"], 3, "classification") == ((Flip(),),) * 3
    assert parse_all(["flip", "none"], 2, "video") == ((Flip(),), ())
    with pytest.raises(UserError, match="got 2 view policies for 3 branches"):
        parse_all(["flip", "none"], 3, "segmentation")


def test_every_piece_can_be_said_without_arguments():
    for name in PIECES:
        assert len(parse(name)) == (name != "none")


def test_parsing_needs_no_tensorflow():
    code = """
import sys
from dico_tf.views.policies import PIECES, parse_all
for task in ("classification", "segmentation"):
    windows = ("none", "scale", "resized_crop", "short_side", "simple_crop")
    parse_all(["+".join(name for name in PIECES if name not in windows)], 2, task)
sys.exit("tensorflow" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_autoaugment_tables_hold_25_pairs_with_probabilities_and_levels():
    for table in (autoaugment.CIFAR, autoaugment.IMAGENET):
        assert len(table) == 25
        assert {len(pair) for pair in table} == {2}
        assert all(0 <= chance <= 1 and 0 <= level <= 9 for pair in table for _, chance, level in pair)


@pytest.mark.parametrize(
    "operation, level, value",
    [
        ("shear_x", 9, (0, 0.3)),
        ("translate_y", 9, (0, 150 / 331)),
        ("rotate", 3, (10, 0)),
        ("colour", 9, (1, 0.9)),
        ("contrast", 0, (1, 0)),
        ("posterize", 9, (4, 0)),
        ("posterize", 0, (8, 0)),
        ("posterize", 5, (6, 0)),
        ("solarize", 0, (256, 0)),
        ("solarize", 9, (0, 0)),
        ("equalize", 0, (0, 0)),
    ],
)
def test_autoaugment_level_means_the_published_value(operation, level, value):
    assert autoaugment.value(operation, level) == pytest.approx(value)
