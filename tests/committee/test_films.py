"""What an item costs whose answer is made of several views."""

import json

import numpy as np
import pytest

from dico_tf.committee.inputs import collect
from dico_tf.committee.options import Search
from dico_tf.errors import UserError
from dico_tf.files import tables


@pytest.fixture
def run(tmp_path):
    """The folder of a run on films, in two branches."""
    draw = np.random.default_rng(0)
    for split, count in (("validation", 6), ("test", 5)):
        ids = [f"{split}_{n}" for n in range(count)]
        tables.write_predictions(
            tmp_path / f"predictions_{split}.npz", draw.normal(size=(count, 2, 3)), np.arange(count) % 3, ids
        )
        seen(tmp_path, split, 10)
    facts = {"splits": 2, "macs": {"whole": 90, "branches": 100}, "params": {"whole": 8, "branches": 10}}
    write(tmp_path / "summary.json", facts)
    write(tmp_path / "config.json", {"data": {"image_size": 32, "class_names": ["a", "b", "c"]}})
    return tmp_path


def write(path, value):
    path.write_text(json.dumps({"format": 1, **value}))


def seen(folder, split, clips):
    views = {"clips": clips, "crops": 1, "size": 32, "macs_of_view": 100, "macs": 100 * clips}
    write(folder / f"evaluation_{split}.json", {"views": views})


def test_a_branch_costs_all_the_views_its_answer_is_made_of(run):
    found = collect(Search(), {"workdir": str(run)})
    assert [member.cost.macs for member in found.members.values()] == [500, 500]
    for split in ("validation", "test"):
        write(run / f"evaluation_{split}.json", {})
    found = collect(Search(), {"workdir": str(run)})
    assert [member.cost.macs for member in found.members.values()] == [50, 50]


def test_splits_seen_by_different_views_are_no_committee(run):
    seen(run, "test", 1)
    with pytest.raises(UserError, match=r"different views of its videos \(validation by 10x1, test by 1x1\)"):
        collect(Search(), {"workdir": str(run)})
