"""committee.py search --members: models that are asked now, and once."""

import json

import numpy as np
import pytest

from dico_tf.cli import committee
from dico_tf.committee.committee_file import load
from dico_tf.errors import UserError


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """Two .keras files that know a little about digits; the larger knows more."""
    import keras

    from dico_tf.config import Data
    from dico_tf.data import source

    split = source.load(Data(dataset="digits"), 0).splits["train"]
    images, folder = split.take(np.arange(600)), tmp_path_factory.mktemp("networks")
    for name, width, epochs in (("small", 4, 2), ("large", 32, 6)):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input(images.shape[1:]),
                keras.layers.Rescaling(1 / 255),
                keras.layers.Conv2D(width, 5, 4),
                keras.layers.ReLU(),
                keras.layers.Flatten(),
                keras.layers.Dense(10),
            ]
        )
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(images, split.labels[:600], epochs=epochs, verbose=0)
        model.save(folder / f"{name}.keras")
    return folder


@pytest.mark.slow
def test_models_are_asked_once_and_become_a_committee(networks, tmp_path, capsys, monkeypatch):
    words = [
        "search",
        f"--members={networks}/small.keras,big={networks}/large.keras",
        "--dataset=digits",
        f"--cache={tmp_path / 'cache'}",
        "--nofigures",
        "--percentiles=20",
        "--temperatures",
    ]
    committee.main([*words, f"--out={tmp_path / 'one'}"])
    saved = load(tmp_path / "one/committee.json")
    rows = {row["name"]: row["test"] for row in saved.results["rows"]}
    assert {"small", "big"} < rows.keys() and rows["big"]["cost"] > rows["small"]["cost"] > 0
    assert rows["big"]["accuracy"] > 0.7 and all(len(member.sha256) == 64 for member in saved.members)
    macs = {name: row["cost"] for name, row in rows.items()}
    (tmp_path / "costs.json").write_text(json.dumps({"small": {"macs": 7}, "big": {"milliseconds": 0.5}}))
    committee.main([*words, f"--out={tmp_path / 'told'}", f"--costs={tmp_path / 'costs.json'}"])
    told = {row["name"]: row["test"] for row in load(tmp_path / "told/committee.json").results["rows"]}
    assert (told["small"]["cost"], told["big"]["cost"]) == (7, macs["big"])  # what is told, and else what was counted
    monkeypatch.setattr("dico_tf.evaluation.members.member.Member.run", lambda *_: pytest.fail("asked again"))
    committee.main([*words, f"--out={tmp_path / 'two'}"])
    again = load(tmp_path / "two/committee.json")
    assert again.committee == saved.committee
    assert [member.outputs for member in (*saved.members, *again.members)] == ["logits"] * 2 * len(saved.members)
    capsys.readouterr()
    committee.main(["show", f"--committee={tmp_path / 'one/committee.json'}", "--check"])
    assert "every member is the one" in capsys.readouterr().out


def test_an_image_that_a_data_set_has_in_two_splits_is_refused(tmp_path, monkeypatch):
    from dico_tf.data import source

    def split(ids):
        return source.Split(labels=[0, 1], ids=list(ids), images=np.zeros((2, 8, 8, 3), np.uint8))

    data = source.Source(
        name="x", class_names=("a", "b"), image_size=8, splits={"val": split("kl"), "test": split("lm")}
    )
    monkeypatch.setattr(source, "load", lambda *_: data)
    logits = {f"m{k}": (k + 1) * np.eye(3, 2, dtype=np.float32) for k in range(2)}
    np.savez(tmp_path / "t.npz", labels=[0, 1, 1], ids=list("klm"), **logits)
    monkeypatch.setattr("dico_tf.evaluation.members.tables._rows", lambda source, name, *rest: logits[name][:2])
    with pytest.raises(UserError, match=r"m0 \(.*\) and copy \(.*\) are one network"):
        np.savez(tmp_path / "c.npz", labels=[0, 1, 1], ids=list("klm"), copy=logits["m0"])
        committee.main(["search", f"--members={tmp_path}/t.npz:m0,{tmp_path}/c.npz:copy", "--dataset=digits"])
    with pytest.raises(UserError, match="1 images are in the calibration and in the test images, such as l"):
        committee.main(
            [
                "search",
                f"--members={tmp_path}/t.npz:m0?macs=1,{tmp_path}/t.npz:m1?macs=2",
                "--dataset=digits",
                f"--cache={tmp_path}",
            ]
        )
