"""committee.json: what is written is read again to the last bit, and what is not one is refused by name."""

import dataclasses
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dico_tf.committee import serialization
from dico_tf.committee.committee_file import Calibration, CommitteeFile, SavedMember, changed, load, save, stale
from dico_tf.committee.decision import ALWAYS, NEVER, Committee
from dico_tf.errors import UserError
from dico_tf.evaluation.cost import Cost
from dico_tf.formulas.confidences import CONFIDENCES

COMMITTEE = Committee(members=("b", "a", "c"), gates=(0.93, NEVER), temperatures=(1.5, 1.0, 0.7))
SUMS = {name: name * 64 for name in "abc"}


def saved(committee=COMMITTEE, **changes):
    members = tuple(
        SavedMember(name=name, kind="run", source="runs/x", sha256=SUMS[name], input_size=32,
               cost=Cost(macs=10.0 * n, params=5, milliseconds=0.1 + n))
        for n, name in enumerate(committee.members)
    )  # fmt: skip
    about = {
        "committee": committee, "members": members, "classes": 2, "class_names": ("cat", "dög"),
        "calibration": Calibration(name="validation", fingerprint="00ff", images=500),
        "results": {"top1": 0.5, "test": [1, 2]}, "promise": {"risk": 0.05},
    }  # fmt: skip
    return CommitteeFile(**{**about, **changes})


gates = st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.just(NEVER), st.just(ALWAYS))
positive = st.floats(1e-300, 1e300)


@given(
    data=st.data(),
    n=st.integers(1, 3),
    confidence=st.sampled_from(sorted(CONFIDENCES)),
    average=st.sampled_from(["logits", "probs"]),
    tuned=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_what_is_saved_is_loaded(tmp_path_factory, data, n, confidence, average, tuned):
    committee = Committee(
        members=("a", "b", "c")[:n],
        gates=data.draw(st.tuples(*[gates] * (n - 1))),
        confidence=confidence,
        average=average,
        weights=data.draw(st.tuples(*[positive] * n)) if tuned else (),
        temperatures=data.draw(st.tuples(*[positive] * n)) if tuned else (),
    )
    path = tmp_path_factory.mktemp("saved") / "committee.json"
    save(path, saved(committee))
    assert load(path) == saved(committee)
    assert serialization.committee(json.loads(json.dumps(serialization.cascade(committee)))) == committee


def test_never_is_written_as_a_word(tmp_path):
    save(tmp_path / "committee.json", saved())
    content = json.loads((tmp_path / "committee.json").read_text(), parse_constant=pytest.fail)
    assert content["gates"] == [0.93, "never"] and load(tmp_path / "committee.json").committee.gates == (0.93, math.inf)
    assert (content["format"], content["kind"], content["ties"]) == (
        1, "dico_tf committee", "a confidence equal to the gate stops",
    )  # fmt: skip
    assert [member["name"] for member in content["members"]] == ["b", "a", "c"]  # as they are asked
    assert content["made_by"].keys() >= {"dico_tf", "numpy"}


def test_what_is_not_known_stays_unknown(tmp_path):
    member = dataclasses.replace(saved().members[0], cost=Cost(macs=3), sha256="")
    one = saved(Committee(members=("b",)), members=(member,), class_names=None, promise=None, results={"nll": math.nan})
    save(tmp_path / "one.json", one)
    found = load(tmp_path / "one.json")
    assert found.members[0].cost.macs == 3 and math.isnan(found.members[0].cost.milliseconds)
    assert found.class_names is None and found.promise is None and found.results == {"nll": None}


def test_an_old_file_stays_whole_where_a_new_one_cannot_be_written(tmp_path):
    path = tmp_path / "committee.json"
    save(path, saved())
    with pytest.raises(TypeError):
        save(path, saved(results={"what": object()}))
    assert load(path) == saved() and [p.name for p in tmp_path.iterdir()] == ["committee.json"]
    with pytest.raises(UserError, match="cannot write"):
        save(tmp_path / "no" / "committee.json", saved())


def test_kinds_of_version_0_1_0_are_read_under_their_present_names(tmp_path):
    path = tmp_path / "committee.json"
    save(path, saved())
    content = json.loads(path.read_text())
    for member, kind in zip(content["members"], ("branch", "logits", "tflite"), strict=True):
        member["kind"] = kind
    path.write_text(json.dumps(content))
    assert [member.kind for member in load(path).members] == ["run", "table", "tflite"]


def test_a_member_that_is_another_makes_the_gates_stale():
    assert changed(saved(), SUMS) == [] and stale(saved(), SUMS) == ""
    assert changed(saved(), {**SUMS, "c": "0" * 64}) == ["c"]
    assert stale(saved(), {**SUMS, "c": "0" * 64}) == (
        "the gates are stale: member c is not the one they were fitted to; search again"
    )
    assert "members b, c are not those" in stale(saved(), {**SUMS, "b": "1" * 64, "c": "0" * 64})
    assert changed(saved(), {}) == changed(saved(), {"d": "1"}) == []


def without(key):
    return lambda content: content.pop(key)


def member(**changes):
    return lambda content: content["members"][1].update(changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(format=2), "expected format 1, got 2: search again"),
        (lambda c: c.update(kind="dico_tf export"), "expected kind 'dico_tf committee', got 'dico_tf export'"),
        (lambda c: c.update(gates=[0.5]), "expected 2 gates, one after each member but the last, got 1"),
        (
            lambda c: c.update(gates=[0.5, "sometimes"]),
            "gates must be finite numbers or 'never' .* got 'sometimes'",
        ),
        (lambda c: c.update(gates=[0.5, True]), "gates must be .* got True"),
        (lambda c: c.update(gates=[0.5, [1]]), r"gates must be .* got \[1\]"),
        (lambda c: c.update(gates=[0.5, 10**400]), "gates must be .* got 10000"),
        (lambda c: c.update(gates=0.5), r"gates must be a list, got 0\.5"),
        (lambda c: c.update(confidence="surely"), "unknown confidence 'surely'"),
        (lambda c: c.update(average=3), "average must be a name, got 3"),
        (lambda c: c.update(average="mean"), "unknown average 'mean'"),
        (lambda c: c.update(weights=["x"]), "weights must be finite numbers, got 'x'"),
        (lambda c: c.update(temperatures=[1.0]), "expected 3 temperatures, one for each member, got 1"),
        (lambda c: c.update(ties="a tie goes on"), "ties .* must be .* got 'a tie goes on'"),
        (lambda c: c.update(classes=3), "expected 3 class_names, one for each class, got 2"),
        (lambda c: c.update(classes=0), "classes must be at least 1, got 0"),
        (lambda c: c.update(class_names=[1, 2]), "class_names must be strings, got 1"),
        (lambda c: c.update(calibration={"name": "v"}), "calibration has no fingerprint"),
        (lambda c: c.update(members=[]), "a committee of nobody"),
        (lambda c: c.update(members=[1, 2, 3]), r"members\[0\] must be an object, got 1"),
        (without("results"), "the file has no results"),
        (member(name="b"), "each member only once, got b 2 times"),
        (member(name=""), "members must be names of members, .* got ''"),
        (member(sha256="abc"), "sha256 of member 'a' must be .* got 'abc'"),
        (member(input_size="32"), "input_size of member 'a' must be an integer, got '32'"),
        (member(cost={"macs": -1}), "macs of member 'a' must be .* got -1"),
        (lambda c: c["members"][2].pop("kind"), "member 'c' has no kind"),
    ],
)
def test_a_file_that_cannot_be_is_refused_by_name(tmp_path, change, message):
    path = tmp_path / "mine.json"
    save(path, saved())
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message) as fault:
        load(path)
    assert str(path) in str(fault.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"gates": [Infinity]}', "\xff", "[" * 100_000])
def test_bytes_that_are_no_committee_are_refused(tmp_path, text):
    path = tmp_path / "mine.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"mine.json is not a committee.json"):
        load(path)


def test_a_file_that_is_not_there_is_said_so(tmp_path):
    with pytest.raises(UserError, match=r"does not exist: give a committee\.json"):
        load(tmp_path / "committee.json")
    with pytest.raises(UserError, match="cannot be read"):
        load(tmp_path)


def test_members_stand_in_the_order_in_which_they_are_asked():
    with pytest.raises(UserError, match="expected the members b, a, c, got c, a, b"):
        saved(members=saved().members[::-1])
