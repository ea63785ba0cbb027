import pytest

from dico_tf.errors import UserError
from dico_tf.registry import Registry, suggestion


@pytest.fixture
def menu():
    filled = Registry("dish")
    filled.add("wrn_28_10", 1)
    filled.add("wrn_16_8", 2)
    filled.add("resnet_110", 3)
    return filled


def test_what_was_added_is_found(menu):
    assert menu["wrn_16_8"] == 2
    assert menu.add("new", 4) == menu["new"] == 4


def test_names_keep_their_order_and_are_counted(menu):
    assert list(menu) == ["wrn_28_10", "wrn_16_8", "resnet_110"]
    assert len(menu) == 3


def test_what_is_not_there_is_not_contained(menu):
    assert "wrn_16_8" in menu
    assert "wrn_16_9" not in menu
    assert 7 not in menu


def test_a_duplicate_is_refused_and_the_first_stays(menu):
    with pytest.raises(ValueError, match="dish 'wrn_16_8' is registered twice"):
        menu.add("wrn_16_8", 5)
    assert menu["wrn_16_8"] == 2


def test_a_near_miss_names_what_is_near_and_nothing_else(menu):
    with pytest.raises(UserError, match=r"^unknown dish 'resnet110'; did you mean resnet_110\?$"):
        menu["resnet110"]


def test_a_far_miss_lists_the_whole_menu(menu):
    with pytest.raises(UserError, match=r"^unknown dish 'zzz'; known: resnet_110, wrn_16_8, wrn_28_10$"):
        menu["zzz"]


def test_an_empty_name_lists_the_whole_menu(menu):
    with pytest.raises(UserError, match="known: resnet_110"):
        menu[""]


def test_at_most_three_suggestions_are_made():
    assert suggestion("wrn_1", [f"wrn_1{i}" for i in range(9)]).count(" or ") == 2
