"""An export of a committee of any members: whatever they were, they answer as the search heard them, and stop early."""

import dataclasses
import json
import re
import sys

import grpc
import numpy as np
import pytest
import tensorflow as tf

from dico_tf.cli import export
from dico_tf.committee import serialization
from dico_tf.committee.committee_file import save
from dico_tf.edge import Client
from dico_tf.edge.inference.model import load
from dico_tf.edge.server.limits import Limits, decode_image
from dico_tf.errors import UserError
from dico_tf.evaluation.averaging import softmax
from dico_tf.evaluation.members.open_members import open_members
from dico_tf.export.resolve_members import resolve_members
from dico_tf.files import manifest
from dico_tf.training.build import trained_run
from tests.edge import gateways, workers
from tests.export import assemblies, models

RULES = {"temperatures": (1.3, 0.9), "weights": (2.0, 1.0)}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return models.photos(tmp_path_factory.mktemp("pictures") / "photos")


@pytest.fixture(scope="module")
def lite(photos, tmp_path_factory):
    """Float at 24 pixels and whole numbers at 32, both ending in probabilities with a background class."""
    folder = tmp_path_factory.mktemp("lite")
    more = {"background": True, "softmax": True}
    members = [
        f"small={models.tflite(folder / 'a.tflite', 24, 1, **more)}?pixels=-1..1",
        f"large={models.tflite(folder / 'b.tflite', 32, 2, 'uint8', **more)}?pixels=-1..1&short_side=40",
    ]
    return assemblies.made(folder, members, photos, models.CLASSES, **RULES)


def assembled(made, out, capsys, *flags):
    export.main([f"--committee={made.path}", f"--out={out}", *flags])
    return capsys.readouterr().out


@pytest.fixture
def exported(lite, tmp_path, capsys):
    assembled(lite, tmp_path / "o", capsys)
    return tmp_path / "o"


def answered(folder, name, pictures) -> np.ndarray:
    """Logits of a member's worker, which decodes the pictures itself."""
    model = load(folder, name, "safest", 1, 1)
    squares = [decode_image(path.read_bytes(), model.size, model.short, Limits()) for path in pictures]
    return model.run(0, np.stack(squares).astype(np.float32), 1e18)["logits"]


def test_litert_files_are_taken_byte_for_byte_and_the_manifest_says_how_they_are_fed_and_read(lite, tmp_path, capsys):
    output = assembled(lite, tmp_path / "o", capsys)
    assert "no SavedModel with the cascade inside: small, large are LiteRT files" in output
    exported = manifest.load(tmp_path / "o")
    manifest.verify(exported)
    assert exported.branches == ["small", "large"] and exported.formats("small") == ["float32"]
    assert exported.formats("large") == ["int8"]
    for name, kind, file in (("small", "float32", "a"), ("large", "int8", "b")):
        assert exported.path(name, kind).read_bytes() == (lite.path.parent / f"{file}.tflite").read_bytes()
    about = exported.member("large")
    assert (about["input_size"], about["short_side"], about["kind"]) == (32, 40, "tflite")
    reading = {"pixels": "-1..1", "place": 0, "outputs": "probabilities", "background": "first"}
    assert reading.items() <= about["reading"].items() and about["class_names"] == list(lite.saved.class_names)
    rules = exported.content["committee"]
    assert serialization.committee(rules["cascade"]) == lite.saved.committee
    assert (rules["weights"], rules["temperatures"]) == ([2.0, 1.0], [1.3, 0.9])
    assert "There is no SavedModel" in (tmp_path / "o/README.md").read_text()
    assert not (tmp_path / "o/saved_model").exists()


def test_a_manifest_that_does_not_say_how_a_file_is_read_is_refused(exported):
    path = exported / ".current/manifest.json"
    content = json.loads(path.read_text())
    for reading, message in (
        (
            {"pixels": "-1..1"},
            r"'reading' in the manifest to have the keys pixels \(str\), .*, place \(int\), got \{",
        ),
        (content["members"][0]["reading"] | {"pixels": "odd"}, r"\?pixels=odd must be one of"),
        (content["members"][0]["reading"] | {"background": "none"}, "its output must be logits or probabilities of 10"),
    ):
        content["members"][0]["reading"] = reading
        path.write_text(manifest.text(content))
        with pytest.raises(UserError, match=message):
            load(exported, "small", "safest", 1, 1)


def test_workers_say_to_the_last_bit_what_the_search_has_cached(lite, exported):
    for k, name in enumerate(("small", "large")):
        assert (answered(exported, name, lite.pictures) == lite.logits[:, k]).all()


@pytest.mark.parametrize("format", ["safest", "float32"])
def test_a_worker_of_all_members_is_told_how_they_are_served(exported, format):
    """Not to export once more: no single file will hold them."""
    with pytest.raises(UserError, match=r"serve local, or by a worker for each of small, large and a .*gatew"):
        load(exported, "committee", format, 1, 1)


def test_members_of_such_an_export_can_be_searched_again(lite, exported, images_of):
    for k, member in enumerate(open_members([str(exported)], models.CLASSES)):
        assert member.source.endswith(f":{'small' if k == 0 else 'large'}")
        assert (member.run(images_of(lite, member)) == lite.logits[:, k]).all()
        assert (member.file.pixels, member.decoder.kind) == ("-1..1", "probabilities")


@pytest.fixture
def images_of():
    def made(committee, member):
        view = member.input_size, member.short_side, Limits()
        return np.stack([decode_image(path.read_bytes(), *view) for path in committee.pictures])

    return made


def test_one_machine_serves_it_and_asks_the_next_member_only_when_unsure(lite, exported):
    decided, sent = lite.decided, [path.read_bytes() for path in lite.pictures]
    words_ = [sys.executable, "serve.py", "local", f"--manifest={exported}", "--deadline_ms=20000"]
    with workers.running(exported, words=words_) as local, Client(local.grpc) as client:
        assert local.ready_line["cascade"] == ["small", "large"] and 10 < decided.stage.sum() < 50
        answer = client.predict(sent, deadline=30)
        assert answer.stage.tolist() == decided.stage.tolist()
        assert answer.class_id.tolist() == decided.classes.tolist()
        assert answer.probabilities == pytest.approx(softmax(decided.logits), abs=1e-6)
        assert local.metric('dico_cascade_exits_total{stage="1",member="large"}') == decided.stage.sum()
        used = local.metric('dico_member_outcomes_total{member="large",outcome="used"}')
        sure = [content for content, stage in zip(sent, decided.stage, strict=True) if stage == 0]
        assert client.predict(sure, deadline=30).used == ("small",)
        assert local.metric('dico_member_outcomes_total{member="large",outcome="used"}') == used
        status, reply = local.post(sure[0], workers.JPEG, gateways.INFER)
        assert status == 200 and reply["parameters"]["used"] == "small"
        about = json.loads(local.ask("GET", "/v2/models/committee")[2])
        assert [given["name"] for given in about["inputs"]] == ["image_bytes"]
        assert about["properties"]["input_size"] == "24,32"
        with pytest.raises(grpc.RpcError, match="different sizes, 24 and 32 pixels: send image_bytes"):
            gateways.infer(local, np.zeros((1, 24, 24, 3), np.uint8))


@pytest.fixture(scope="module")
def graphs(photos, run, tmp_path_factory):
    """A Keras file and, asked last, a branch that was trained in another precision."""
    folder = tmp_path_factory.mktemp("graphs")
    path = models.keras_file(folder / "k.keras", 28, 4, background=True, softmax=True)
    members = [f"first={path}?pixels=-1..1", f"last={run}:branch_1"]
    return assemblies.made(folder, members, photos, models.CLASSES, **RULES)


@pytest.mark.slow
def test_what_tensorflow_knows_is_converted_and_stops_early_in_one_graph_too(graphs, run, tmp_path, capsys):
    assert "one SavedModel with the cascade inside" in assembled(graphs, tmp_path / "o", capsys)
    manifest.verify(manifest.load(tmp_path / "o"))
    assert answered(tmp_path / "o", "first", graphs.pictures) == pytest.approx(graphs.logits[:, 0], abs=1e-4)
    size = manifest.load(tmp_path / "o").member("last")["input_size"]
    squares = np.stack([decode_image(path.read_bytes(), size, size, Limits()) for path in graphs.pictures])
    own = np.asarray(trained_run(run).network(precision="float32")(squares.astype(np.float32), training=False))[:, 1]
    assert answered(tmp_path / "o", "last", graphs.pictures) == pytest.approx(own, abs=1e-4)
    assert "reading" not in manifest.load(tmp_path / "o").member("last")

    call = tf.saved_model.load(str(tmp_path / "o/saved_model/committee")).signatures["cascade"]
    sent = tf.constant([path.read_bytes() for path in graphs.pictures])
    outputs = {name: value.numpy() for name, value in call(image_bytes=sent).items()}
    decided = dataclasses.replace(graphs, logits=np.stack([graphs.logits[:, 0], own], 1)).decided
    assert outputs["stage"].tolist() == decided.stage.tolist() == graphs.decided.stage.tolist()
    assert 10 < decided.stage.sum() < 50
    assert outputs["probabilities"] == pytest.approx(softmax(decided.logits), abs=1e-4)
    macs = [round(member.cost.macs) for member in graphs.saved.members]
    assert outputs["cost"].tolist() == np.cumsum(macs)[decided.stage].tolist()
    assert call(image_bytes=sent[:0])["stage"].shape == (0,)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        "open.keras",
        "mixed.keras",
        "saved",
        "saved one by one",
        "ensemble",
        "saved ensemble",
        pytest.param("application", marks=pytest.mark.slow),
    ],
)
def test_within_a_graph_a_member_says_what_it_says_outside(kind, run, tmp_path):
    sources = {
        "open.keras": lambda: f"{models.keras_file(tmp_path / 'k.keras', None, 3)}@36?pixels=imagenet",
        "mixed.keras": lambda: str(models.keras_file(tmp_path / "k.keras", 20, 3, policy="mixed_bfloat16")),
        "saved": lambda: f"{models.saved_model(tmp_path / 's', 22, 3)}?pixels=0..1",
        "saved one by one": lambda: f"{models.saved_model(tmp_path / 's', 22, 3, batch=1)}?pixels=-1..1",
        "ensemble": lambda: f"{run}:ensemble",
        "saved ensemble": lambda: f"{_dico(run, tmp_path / 'd.keras')}:ensemble",
        "application": lambda: "keras:MobileNetV2@40?weights=none&alpha=0.35",
    }
    (member,) = open_members([sources[kind]()], models.CLASSES)
    images = np.random.default_rng(0).integers(0, 256, (3, member.input_size, member.input_size, 3), np.uint8)
    graph, expected = member.graph(), member.network.answer(images)
    outputs = tf.function(graph.call, autograph=False)(tf.constant(images, tf.float32)).numpy()
    assert outputs.dtype == np.float32
    near = 0.05 if kind in ("mixed.keras", "ensemble", "saved ensemble") else 1e-4  # bfloat16 outside
    assert outputs == pytest.approx(expected, abs=near * float(abs(expected).max()))


def _dico(run, path):
    trained_run(run).network().save(path)
    return path


@pytest.mark.slow
def test_real_mobilenets_decide_about_photos_as_the_search_did(shared_data, tmp_path, capsys):
    """Three sizes of picture, quantised, with a background class, of probabilities in steps of 1/256."""
    lines = (shared_data / "nips17/labels.csv").read_text().splitlines()[:61]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    (tmp_path / "images").symlink_to(shared_data / "nips17/images")
    names = {"a": "mobilenet_v1_0.25_128_quant", "b": "mobilenet_v1_0.5_160_quant", "c": "mobilenet_v2_1.0_224_quant"}
    members = [f"{name}={shared_data}/mobilenet_tflite/{file}.tflite" for name, file in names.items()]
    committee = assemblies.made(tmp_path, members, tmp_path / "labels.csv", 1000, temperatures=(2.0, 1.5, 1.0))
    assembled(committee, tmp_path / "o", capsys)
    words_ = [sys.executable, "serve.py", "local", f"--manifest={tmp_path / 'o'}", "--deadline_ms=20000"]
    with workers.running(tmp_path / "o", words=words_) as local, Client(local.grpc) as client:
        answer = client.predict(committee.pictures, deadline=60)
    assert answer.stage.tolist() == committee.decided.stage.tolist() and set(answer.stage.tolist()) == {0, 1, 2}
    assert answer.class_id.tolist() == committee.decided.classes.tolist()
    assert answer.probabilities == pytest.approx(softmax(committee.decided.logits), abs=1e-6)


def test_tables_of_logits_are_refused(lite, tmp_path):
    members = tuple(dataclasses.replace(m, kind="table", source="answers.npz") for m in lite.saved.members)
    save(tmp_path / "c.json", dataclasses.replace(lite.saved, members=members))
    with pytest.raises(UserError, match=r"has the member small, a table of logits \(answers.npz\)"):
        resolve_members(tmp_path / "c.json")


def test_a_member_that_changed_since_the_search_makes_the_gates_stale(lite, tmp_path, caplog):
    first, second = lite.saved.members
    members = (first, dataclasses.replace(second, sha256="0" * 64))
    save(tmp_path / "c.json", dataclasses.replace(lite.saved, members=members))
    resolve_members(tmp_path / "c.json")
    assert "the gates are stale: member large is not the one they were fitted to" in caplog.text


def test_branches_that_were_searched_by_their_runs_folder_need_no_folder_named_again(run, lite, tmp_path, caplog):
    trained, names = trained_run(run), ("branch_1", "branch_0")
    members = [
        dataclasses.replace(
            lite.saved.members[0],
            name=name,
            kind="run",
            source=f"{run}:{name}",
            sha256=trained.checksums[name],
            outputs="",
        )
        for name in names
    ]
    rules = dataclasses.replace(lite.saved.committee, members=names)
    saved = dataclasses.replace(lite.saved, committee=rules, members=tuple(members), class_names=tuple("0123456789"))
    save(tmp_path / "c.json", saved)
    _, gathers = resolve_members(tmp_path / "c.json")
    assert [(each.member.name, each.outputs, each.dropped) for each in gathers] == [(n, "logits", 0) for n in names]
    assert "stale" not in caplog.text
    save(tmp_path / "c.json", dataclasses.replace(saved, class_names=tuple("abcdefghij")))
    with pytest.raises(UserError, match="class 0 is '0' in branch_1 and 'a' in --committee="):
        resolve_members(tmp_path / "c.json")


def test_what_outputs_are_is_found_out_where_an_older_search_has_not_said_it(lite, tmp_path):
    members = tuple(dataclasses.replace(member, outputs="") for member in lite.saved.members)
    save(tmp_path / "c.json", dataclasses.replace(lite.saved, members=members))
    _, members = resolve_members(tmp_path / "c.json")
    assert [(each.outputs, each.dropped) for each in members] == [("probabilities", 1)] * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "committee"}, "has a member called committee, the name of the whole"),
        ({"name": "a b"}, "has a member called 'a b'; names become parts of files and addresses"),
        (
            {"source": "gone.tflite"},
            "a member cannot be opened: gone.tflite: there is no gone.tflite",
        ),
    ],
)
def test_members_that_cannot_be_exported_are_named(lite, tmp_path, change, message):
    first, second = lite.saved.members
    first = dataclasses.replace(first, **change)
    rules = dataclasses.replace(lite.saved.committee, members=(first.name, second.name))
    save(tmp_path / "c.json", dataclasses.replace(lite.saved, committee=rules, members=(first, second)))
    with pytest.raises(UserError, match=re.escape(message)):
        resolve_members(tmp_path / "c.json")


def test_flags_of_a_runs_networks_are_refused_and_so_is_a_litert_file_without_litert(lite, tmp_path, capsys):
    flags = [f"--committee={lite.path}", f"--out={tmp_path / 'o'}"]
    with pytest.raises(UserError, match="--quantise is for the networks of a run"):
        export.main([*flags, "--quantise=int8"])
    with pytest.raises(UserError, match=r"a\.tflite.* is a LiteRT file, which can only be copied: add tflite"):
        export.main([*flags, "--formats=saved_model"])
    with pytest.raises(UserError, match=r"--workdir is needed.* or --committee"):
        export.main([f"--out={tmp_path / 'o'}"])
    assert not (tmp_path / "o/manifest.json").exists()
