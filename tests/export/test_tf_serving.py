"""The bundle of TensorFlow Serving: its files parse as the server's own messages, versions come and go whole."""

import shutil

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

from dico_tf.errors import UserError
from dico_tf.export import tf_serving


def bundle(out, names=("branch_0", "committee"), keep=2) -> int:
    """Publishes a version made of a few bytes."""
    out.mkdir(exist_ok=True)
    staged = out / ".staged"
    for name in names:
        (staged / name / "variables").mkdir(parents=True)
        (staged / name / "saved_model.pb").write_bytes(b"graph")
    version = tf_serving.publish(out, staged, keep)
    shutil.rmtree(staged)
    return version


def config(out):
    text = (out / "tf_serving/models.config").read_text(encoding="utf-8")
    parsed = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    return {model.name: model for model in parsed.model_config_list.config}


def test_versions_count_up_and_the_newest_is_stable(tmp_path):
    assert [bundle(tmp_path) for _ in range(3)] == [1, 2, 3]
    for name, model in config(tmp_path).items():
        assert (model.base_path, model.model_platform) == (f"/models/{name}", "tensorflow")
        assert list(model.model_version_policy.specific.versions) == [2, 3]
        assert dict(model.version_labels) == {"stable": 3, "previous": 2}
    assert config(tmp_path).keys() == {"branch_0", "committee"}


def test_a_single_version_has_nothing_previous(tmp_path):
    bundle(tmp_path)
    assert dict(config(tmp_path)["committee"].version_labels) == {"stable": 1}


def test_a_version_goes_one_export_after_it_was_served_the_last_time(tmp_path):
    for expected in ([1], [1, 2], [2, 3], [3, 4]):
        bundle(tmp_path, keep=1)
        assert (
            tf_serving.versions(tmp_path / "tf_serving", "committee") == expected
        )  # the server may not have looked yet
        assert list(config(tmp_path)["committee"].model_version_policy.specific.versions) == expected[-1:]


def test_a_branch_that_the_newest_export_has_not_is_not_served(tmp_path):
    bundle(tmp_path, names=("branch_0", "branch_1", "branch_2", "committee"))
    bundle(tmp_path, names=("branch_0", "committee"))
    assert config(tmp_path).keys() == {"branch_0", "committee"}
    assert tf_serving.roll_back(tmp_path, 1) == ["branch_0", "branch_1", "branch_2", "committee"]
    assert config(tmp_path).keys() == {"branch_0", "branch_1", "branch_2", "committee"}
    assert [bundle(tmp_path, names=("branch_0", "committee")) for _ in range(3)] == [3, 4, 5]
    assert sorted(path.name for path in (tmp_path / "tf_serving").iterdir() if path.is_dir()) == [
        "branch_0",
        "committee",
    ]


def test_what_was_taken_back_is_not_previous_and_what_was_good_stays(tmp_path):
    bundle(tmp_path), bundle(tmp_path)
    tf_serving.roll_back(tmp_path, 1)
    assert bundle(tmp_path) == 3 and dict(config(tmp_path)["committee"].version_labels) == {"stable": 3, "previous": 1}
    assert tf_serving.versions(tmp_path / "tf_serving", "committee") == [1, 3]


def test_a_version_whose_exporter_was_killed_half_way_is_never_served(tmp_path):
    bundle(tmp_path)
    half = tmp_path / "tf_serving/branch_0/2"
    half.mkdir()
    with pytest.raises(UserError, match="it has 1"):
        tf_serving.roll_back(tmp_path, 2)
    assert bundle(tmp_path) == 3 and not half.exists()
    assert list(config(tmp_path)["branch_0"].model_version_policy.specific.versions) == [1, 3]


def test_other_folders_beside_the_models_are_left_alone(tmp_path):
    theirs = tmp_path / "tf_serving/resnet/1/saved_model.pb"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"another's")
    for _ in range(4):
        bundle(tmp_path, keep=1)
    assert theirs.exists() and config(tmp_path).keys() == {"branch_0", "committee"}


def test_the_exports_own_bundle_parses(exported):
    assert config(exported).keys() == {"branch_0", "branch_1", "committee"}
    for name, model in config(exported).items():
        for version in model.model_version_policy.specific.versions:
            assert (exported / "tf_serving" / name / str(version) / "saved_model.pb").is_file()
        assert set(model.version_labels.values()) <= set(model.model_version_policy.specific.versions)


def test_a_roll_back_serves_nothing_newer(tmp_path):
    for _ in range(3):
        bundle(tmp_path, keep=3)
    assert tf_serving.roll_back(tmp_path, 2) == ["branch_0", "committee"]
    model = config(tmp_path)["committee"]
    assert list(model.model_version_policy.specific.versions) == [1, 2]
    assert dict(model.version_labels) == {"stable": 2, "previous": 1}
    assert tf_serving.versions(tmp_path / "tf_serving", "committee") == [1, 2, 3]  # nothing is lost
    assert bundle(tmp_path, keep=3) == 4 and dict(config(tmp_path)["committee"].version_labels)["stable"] == 4


def test_a_version_that_is_not_there_cannot_be_rolled_back_to(tmp_path):
    with pytest.raises(UserError, match="has no tf_serving"):
        tf_serving.roll_back(tmp_path, 1)
    bundle(tmp_path)
    with pytest.raises(UserError, match=r"--stable=7: .* has no such version; it has 1"):
        tf_serving.roll_back(tmp_path, 7)


def test_batches_have_the_sizes_that_are_warmed_up(tmp_path):
    bundle(tmp_path)
    text = (tmp_path / "tf_serving/batching.config").read_text(encoding="utf-8")
    sizes = [int(line.split(": ")[1]) for line in text.splitlines() if line.startswith("allowed_batch_sizes")]
    assert sizes == list(tf_serving.SIZES) == sorted(sizes)
    assert f"max_batch_size {{ value: {sizes[-1]} }}" in text  # the server refuses another last size


def test_the_warm_up_is_read_by_the_servers_own_messages(exported):
    path = exported / "tf_serving/committee/1" / tf_serving.WARM_UP
    records = [bytes(record.numpy()) for record in tf.data.TFRecordDataset(str(path))]
    requests = [prediction_log_pb2.PredictionLog.FromString(record).predict_log.request for record in records]
    assert len(requests) == len(tf_serving.SIZES) + 1 <= 1000
    assert path.stat().st_size < 10_000  # a tensor of one value holds it once
    for size, request in zip(tf_serving.SIZES, requests, strict=False):
        assert (request.model_spec.name, request.model_spec.signature_name) == ("committee", "serving_default")
        image = tf.make_ndarray(request.inputs["image"])
        assert image.shape == (size, 32, 32, 3) and image.dtype == np.float32
    assert requests[-1].model_spec.signature_name == "serving_bytes"
    assert tf.make_ndarray(requests[-1].inputs["image_bytes"])[0][:2] == b"\xff\xd8"


def test_a_served_version_is_the_exported_model_and_its_warm_up(exported):
    served, exported_model = exported / "tf_serving/branch_0/1", exported / "saved_model/branch_0"
    own = {path.relative_to(served): path for path in served.rglob("*") if path.is_file()}
    for path in (path for path in exported_model.rglob("*") if path.is_file()):
        assert own.pop(path.relative_to(exported_model)).samefile(path)  # not twice on the disk
    assert [str(name) for name in own] == [tf_serving.WARM_UP]
