import pytest

from dico_tf.divide import rules
from dico_tf.errors import UserError


def test_root_floors_after_its_offset():
    assert [rules.root(10, s, 0.4) for s in (1, 2, 4, 8, 16)] == [10, 7, 5, 3, 2]
    assert [rules.root(8, s, 0.4) for s in (1, 2, 4, 8, 16)] == [8, 6, 4, 3, 2]


def test_evenly_refuses_what_leaves_a_rest():
    assert rules.evenly(64, 4, "groups") == 16
    message = "groups=8 cannot be divided evenly into 3 branches; use --splits=2, 4 or 8, or --division=params"
    with pytest.raises(UserError, match=message):
        rules.evenly(8, 3, "groups")
    with pytest.raises(UserError, match="groups=1 cannot be divided evenly into 2 branches; use --division=params"):
        rules.evenly(1, 2, "groups")


def test_lookup_names_what_is_published():
    with pytest.raises(UserError, match="no published division by --splits=3; published: 1, 2 and 4"):
        rules.lookup({1: 16, 2: 12, 4: 8}, 3, "resnet")
