import os
import warnings

import numpy as np
import pytest

from dico_tf.errors import UserError
from dico_tf.files import tables

LOGITS = np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32)
LABELS = np.array([0, 1, 2, 1, 0])
IDS = ["cats/a.png", "dogs/ü.png", "熊/1.png", "3", "a much longer name than the others.png"]


@pytest.fixture
def path(tmp_path):
    tables.write_predictions(tmp_path / "predictions_test.npz", LOGITS, LABELS, IDS)
    return tmp_path / "predictions_test.npz"


def test_what_was_written_is_read(path):
    logits, labels, ids = tables.read_predictions(path)
    np.testing.assert_array_equal(logits, LOGITS)
    np.testing.assert_array_equal(labels, LABELS)
    assert ids.tolist() == IDS
    assert (logits.dtype, labels.dtype, ids.dtype.kind) == (np.float32, np.int64, "U")


def test_numpy_alone_reads_the_file_without_pickle(path):
    with np.load(path, allow_pickle=False) as archive:
        assert sorted(archive) == ["ids", "labels", "logits"]
        assert archive["logits"].dtype == np.float32
        assert archive["labels"].dtype == np.int64


def test_numbers_and_bytes_are_ids_too(tmp_path):
    tables.write_predictions(
        tmp_path / "p.npz", LOGITS, LABELS, [7, b"cats/\xc3\xbc.png", np.int64(9), "x", np.str_("y")]
    )
    assert tables.read_predictions(tmp_path / "p.npz").ids.tolist() == ["7", "cats/ü.png", "9", "x", "y"]


def test_a_name_without_ending_gets_none(tmp_path):
    tables.write_predictions(str(tmp_path / "plain"), LOGITS, LABELS, IDS)
    assert [file.name for file in tmp_path.iterdir()] == ["plain"]


def test_nan_is_kept_for_whoever_looks_for_its_cause(tmp_path):
    tables.write_predictions(tmp_path / "p.npz", np.full((5, 2, 3), np.nan), LABELS, IDS)
    assert np.isnan(tables.read_predictions(tmp_path / "p.npz").logits).all()


def test_the_same_predictions_make_the_same_bytes(path, tmp_path):
    tables.write_predictions(tmp_path / "again.npz", LOGITS, LABELS, IDS)
    assert (tmp_path / "again.npz").read_bytes() == path.read_bytes()


def test_writing_replaces_the_old_file(path):
    tables.write_predictions(path, LOGITS + 1, LABELS, IDS)
    np.testing.assert_array_equal(tables.read_predictions(path).logits, LOGITS + 1)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(path, monkeypatch, step):
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(UserError, match=r"cannot write .*No space left"):
        tables.write_predictions(path, LOGITS + 1, LABELS, IDS)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_the_file_is_whole_before_it_takes_its_name(path, monkeypatch):
    seen = []
    replace = os.replace

    def look(beside, final):
        seen.append(tables.read_predictions(beside).ids.tolist())
        replace(beside, final)

    monkeypatch.setattr(os, "replace", look)
    tables.write_predictions(path, LOGITS, LABELS, IDS)
    assert seen == [IDS]


def test_a_folder_that_does_not_exist_is_a_users_mistake(tmp_path):
    with pytest.raises(UserError, match=r"cannot write .*p\.npz: "):
        tables.write_predictions(tmp_path / "nowhere" / "p.npz", LOGITS, LABELS, IDS)


def test_a_folder_that_is_a_file_is_a_users_mistake(path):
    with pytest.raises(UserError, match=r"cannot write .*p\.npz: "):
        tables.write_predictions(path / "p.npz", LOGITS, LABELS, IDS)


@pytest.mark.parametrize(
    ("logits", "labels", "ids"),
    [
        (LOGITS[:, 0], LABELS, IDS),
        (LOGITS[:0], LABELS[:0], []),
        (LOGITS.astype(int), LABELS, IDS),
        (LOGITS, LABELS[:4], IDS),
        (LOGITS, LABELS.astype(float), IDS),
        (LOGITS, LABELS, IDS[:4]),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, logits, labels, ids):
    with pytest.raises(UserError, match="expected"):
        tables.write_predictions(tmp_path / "p.npz", logits, labels, ids)
    assert not list(tmp_path.iterdir())


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"p\.npz does not exist: expected a predictions file"):
        tables.read_predictions(tmp_path / "p.npz")


def test_a_folder_is_no_predictions_file(tmp_path):
    with pytest.raises(UserError, match="does not exist: expected a predictions file"):
        tables.read_predictions(tmp_path)


def test_every_truncation_is_noticed(path):
    whole = path.read_bytes()
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match="damaged, cut short"):
            tables.read_predictions(path)


@pytest.mark.filterwarnings("ignore")
def test_no_damaged_byte_changes_what_is_read(path):
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x15]) + whole[position + 1 :])
        try:
            logits, labels, ids = tables.read_predictions(path)
        except UserError:
            continue
        np.testing.assert_array_equal(logits, LOGITS)  # a byte nobody reads, such as a date
        np.testing.assert_array_equal(labels, LABELS)
        assert ids.tolist() == IDS


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"PK\x03\x04 not a zip"])
def test_a_foreign_file_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"not an \.npz file"):
        tables.read_predictions(path)


def test_a_single_array_is_refused(tmp_path):
    np.save(tmp_path / "p.npy", LOGITS)
    with pytest.raises(UserError, match="single array"):
        tables.read_predictions(tmp_path / "p.npy")


def test_an_archive_of_other_arrays_names_what_it_lacks(tmp_path):
    np.savez(tmp_path / "p.npz", logits=LOGITS, x=LABELS)
    with pytest.raises(UserError, match="it lacks labels, ids"):
        tables.read_predictions(tmp_path / "p.npz")


def test_arrays_of_the_wrong_shape_name_the_file(tmp_path):
    np.savez(tmp_path / "p.npz", logits=LOGITS[:, 0], labels=LABELS, ids=IDS)
    with pytest.raises(UserError, match=r"p.npz is not a predictions file: expected logits as .* got float32 \[5, 3\]"):
        tables.read_predictions(tmp_path / "p.npz")


def test_pickled_objects_are_never_opened(tmp_path):
    np.savez(tmp_path / "p.npz", logits=LOGITS, labels=LABELS, ids=np.array([object] * 5, dtype=object))
    with warnings.catch_warnings(), pytest.raises(UserError, match="damaged"):
        tables.read_predictions(tmp_path / "p.npz")


def test_further_arrays_do_no_harm(tmp_path):
    np.savez(tmp_path / "p.npz", logits=LOGITS, labels=LABELS, ids=IDS, later=LABELS)
    assert tables.read_predictions(tmp_path / "p.npz").ids.tolist() == IDS


def test_a_runs_predictions_are_a_table_of_its_branches(path):
    table = tables.read(path)
    assert list(table.logits) == ["branch_0", "branch_1"] and table.class_names is None
    np.testing.assert_array_equal(table.logits["branch_1"], LOGITS[:, 1])
    assert table.labels.tolist() == LABELS.tolist() and table.ids.tolist() == IDS


def test_a_table_names_its_members_and_classes(tmp_path):
    members = {"small": LOGITS[:, 0], "large": LOGITS[:, 1]}
    np.savez(tmp_path / "t.npz", labels=LABELS, image_ids=IDS, class_names=["a", "b", "c"], **members)
    table = tables.read(tmp_path / "t.npz")
    assert list(table.logits) == ["small", "large"] and table.class_names == ("a", "b", "c")


def test_a_table_without_labels_or_ids_is_refused(tmp_path):
    np.savez(tmp_path / "t.npz", ids=IDS, small=LOGITS[:, 0])
    with pytest.raises(UserError, match=r"t\.npz: expected a table of logits with labels and ids or image_ids"):
        tables.read(tmp_path / "t.npz")
