"""A cascade in a graph decides as the numpy definition does, runs no member on nothing, and is traced once."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from dico_tf.committee.decision import ALWAYS, NEVER, Committee, decide, ensemble
from dico_tf.committee.routing import BUCKETS
from dico_tf.evaluation.averaging import softmax
from dico_tf.export.cascade import Cascade, answers
from dico_tf.formulas.averages import AVERAGES
from dico_tf.formulas.confidences import CONFIDENCES
from tests.committee.generated import pool
from tests.tiers import slow_but

POOL = pool(images=120, members=4)
NAMES, LOGITS = POOL.members, POOL.stacked(POOL.members)
COSTS = (10, 30, 90, 10**10)


class Spy:
    """Members whose images are rows of a table of logits; the size of each run is noted, also within a graph."""

    def __init__(self, committee, logits=LOGITS, buckets=BUCKETS):
        n = len(committee.members)
        self.runs = [[] for _ in range(n)]
        how = {"costs": COSTS[:n], "classes": logits.shape[-1], "buckets": buckets}
        networks = [self._network(logits[:, k], runs) for k, runs in enumerate(self.runs)]
        self.cascade = Cascade(committee=committee, networks=networks, **how)
        spec = tf.TensorSpec((None,), tf.int64)
        self.call = tf.function(lambda rows: answers(self.cascade, rows), input_signature=[spec], autograph=False)

    def _network(self, table, runs):
        def look(rows):
            runs.append(len(rows))
            return table[rows]

        return lambda rows: tf.ensure_shape(tf.numpy_function(look, [rows], tf.float32), (None, table.shape[-1]))

    def __call__(self, rows):
        return {name: value.numpy() for name, value in self.call(tf.constant(rows, tf.int64)).items()}


def cascade(n, *gates, **how):
    return Committee(members=NAMES[:n], gates=gates, **how)


def middling(n, **how):
    """A cascade whose every gate about half of the images pass, none of them within a rounding."""
    confidences = decide(cascade(n, *[NEVER] * (n - 1), **how), LOGITS[:, :n]).confidence
    levels = []
    for column in np.sort(confidences[:, :-1].astype(float), 0).T:
        places = np.flatnonzero(np.diff(column) > 1e-4)
        place = places[abs(places - len(column) // 2).argmin()]
        levels.append((column[place] + column[place + 1]) / 2)
    return cascade(n, *levels, **how)


def compare_with_decide(outputs, committee, logits):
    """To the definition, but for confidences that are a rounding away from a gate."""
    expected = decide(committee, logits)
    gates = np.asarray((*committee.gates, NEVER), np.float64)
    near = (abs(expected.confidence - gates) < 1e-5).any(1)
    ours = ~near & ~expected.lost
    assert (outputs["stage"][~near] == expected.stage[~near]).all()
    assert outputs["logits"][ours] == pytest.approx(expected.logits[ours], rel=1e-5, abs=1e-5)
    assert outputs["probabilities"][ours] == pytest.approx(softmax(expected.logits[ours]), abs=1e-6)
    assert (outputs["class_id"][ours] == expected.classes[ours]).all()
    assert (~np.isfinite(outputs["logits"]).all(-1))[~near].tolist() == expected.lost[~near].tolist()
    assert (outputs["cost"] == np.cumsum(COSTS)[outputs["stage"]]).all()
    return near


gate = st.one_of(st.floats(0.2, 1.0), st.just(NEVER), st.just(ALWAYS))


@given(
    data=st.data(),
    n=st.integers(1, 4),
    name=st.sampled_from(sorted(CONFIDENCES)),
    average=st.sampled_from(sorted(AVERAGES)),
    tuned=st.booleans(),
    bad=st.booleans(),
    buckets=st.sampled_from([(1,), (3, 7), BUCKETS]),
)
@settings(max_examples=20, deadline=None)
def test_the_graph_is_what_numpy_decides(data, n, name, average, tuned, bad, buckets):
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    logits = LOGITS[random.permutation(120)[: data.draw(st.integers(0, 70))], :n].copy()
    if bad and len(logits):
        row = random.integers(len(logits)), random.integers(n), random.integers(10)
        logits[row] = random.choice([np.nan, np.inf, -np.inf])
    how = {"weights": (1.0, 3.0, 2.0, 0.5)[:n]} if tuned and AVERAGES[average].weighted else {}
    how |= {"temperatures": (1.5, 0.7, 1.0, 2.0)[:n]} if tuned else {}
    committee = cascade(n, *data.draw(st.tuples(*[gate] * (n - 1))), confidence=name, average=average, **how)
    near = compare_with_decide(Spy(committee, logits, buckets)(np.arange(len(logits))), committee, logits)
    assert len(near) == len(logits)


@pytest.mark.parametrize("name", sorted(CONFIDENCES))
@pytest.mark.parametrize("average", slow_but(("probs",), AVERAGES))
def test_every_confidence_and_average_is_held_to_the_definition(name, average):
    committee = (
        middling(3, confidence=name, average=average)
        if name != "agreement"
        else cascade(3, 1.1, 0.9, confidence=name, average=average)
    )
    assert not compare_with_decide(Spy(committee)(np.arange(120)), committee, LOGITS[:, :3]).any()
    assert len(set(decide(committee, LOGITS[:, :3]).stage.tolist())) > 1


def test_a_member_runs_on_the_undecided_alone_and_in_sizes_of_buckets():
    committee = middling(3)
    spy, expected = Spy(committee), decide(committee, LOGITS[:, :3])
    outputs = spy(np.arange(30))
    reached = [(expected.stage[:30] >= k).sum() for k in range(3)]
    assert (outputs["stage"] == expected.stage[:30]).all() and 0 < reached[2] < reached[1] < 30
    assert spy.runs == [[30], *([min(next(b for b in BUCKETS if b >= reached[k]), 30)] for k in (1, 2))]


def test_nothing_runs_on_nothing():
    spy = Spy(cascade(3, ALWAYS, 0.5))
    assert (spy(np.arange(7))["stage"] == 0).all() and spy.runs == [[7], [], []]
    outputs = spy(np.arange(0))
    assert spy.runs == [[7], [], []] and outputs["probabilities"].shape == (0, 10) and outputs["cost"].shape == (0,)


def test_batches_of_all_sizes_are_one_trace():
    spy = Spy(middling(4))
    whole = spy(np.arange(100))
    for size in (1, 2, 3, 5, 16, 31, 33, 64):
        part = spy(np.arange(size))
        assert (part["stage"] == whole["stage"][:size]).all() and (part["logits"] == whole["logits"][:size]).all()
    assert spy.call.experimental_get_tracing_count() == 1
    assert {size for runs in spy.runs[1:] for size in runs} <= {*BUCKETS, *range(64, 128, 32), 100, 64, 33, 31, 5, 3}


def test_large_batches_are_filled_up_to_whole_buckets():
    spy = Spy(ensemble(*NAMES[:2]), buckets=(1, 8))
    assert (spy(np.arange(100))["stage"] == 1).all() and spy.runs == [[100], [100]]  # no more than came
    committee = middling(2)
    going = int((decide(committee, LOGITS[:, :2]).stage == 1).sum())
    spy = Spy(committee, buckets=(1, 8))
    spy(np.arange(120))
    assert 8 < going < 100 and spy.runs == [[120], [-(-going // 8) * 8]]


def test_a_row_without_a_number_reaches_the_last_member_and_no_other_does():
    logits = LOGITS.copy()
    logits[4, 0, 1] = np.nan
    spy = Spy(cascade(3, ALWAYS, ALWAYS), logits)
    outputs = spy(np.arange(10))
    assert outputs["stage"].tolist() == [0] * 4 + [2] + [0] * 5 and np.isnan(outputs["probabilities"][4]).any()
    assert spy.runs == [[10], [1], [1]]


def test_a_gate_of_one_is_not_never():
    logits = np.zeros((2, 2, 10), np.float32)
    logits[0, :, 3] = 40
    assert Spy(cascade(2, 1.0), logits)([0, 1])["stage"].tolist() == [0, 1]
    assert Spy(cascade(2, NEVER), logits)([0, 1])["stage"].tolist() == [1, 1]


def test_half_precision_is_compared_in_float32():
    """bfloat16 would call 8 logits of lead a certainty."""
    table = tf.constant([[8.0] + [0.0] * 9], tf.bfloat16)
    networks = [lambda rows: tf.gather(table, tf.zeros_like(rows))] * 2
    made = Cascade(committee=cascade(2, 0.9999), networks=networks, costs=(1, 1), classes=10)
    assert answers(made, tf.constant([0]))["stage"].numpy().tolist() == [1]


@pytest.mark.parametrize("name", ["prob_gap", "logit_gap"])
def test_of_one_class_the_graph_is_as_sure_as_numpy(name):
    logits = np.arange(8, dtype=np.float32).reshape(4, 2, 1)
    for gate in (1.0, NEVER):
        committee = cascade(2, gate, confidence=name)
        spy = Spy(committee, logits)
        assert spy(np.arange(4))["stage"].tolist() == decide(committee, logits).stage.tolist()
