"""A cascade with workers and a gateway in separate processes: calls, answers, and a member that is stopped."""

import contextlib
import signal
import time

import grpc
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from dico_tf.committee import serialization
from dico_tf.committee.decision import NEVER, Committee, Decision, decide
from dico_tf.edge import Client
from dico_tf.files import manifest
from tests.edge import exports, gateways, workers

pytestmark = pytest.mark.slow  # trains or starts several processes

NAMES = ("branch_0", "branch_1")
IMAGES = exports.images(24)
FIRST = dict(zip(NAMES, (0, 1), strict=True))  # seeds of the networks
SECOND = dict(zip(NAMES, (1, 0), strict=True))


def logits(seeds=FIRST) -> np.ndarray:
    """Return the logits [B, 2, C], computed by LiteRT in this process."""
    result = []
    for seed in seeds.values():
        call = Interpreter(model_content=exports.branch(seed), num_threads=1).get_signature_runner("serving_default")
        result.append(np.concatenate([call(image=image[None].astype(np.float32))["logits"] for image in IMAGES]))
    return np.stack(result, 1)


def gated_cascade(seeds=FIRST) -> Committee:
    """Return a cascade whose gate about half of the images pass, far from any image's confidence."""
    committee = Committee(members=NAMES, gates=(NEVER,), confidence="logit_gap")
    sure = np.sort(decide(committee, logits(seeds)).confidence[:, 0].astype(float))
    place = 8 + np.diff(sure)[8:16].argmax()
    return Committee(members=NAMES, gates=((sure[place] + sure[place + 1]) / 2,), confidence="logit_gap")


def export(folder, seeds=FIRST, id="first", committee=None):
    files = {name: exports.branch(seed) for name, seed in seeds.items()}
    return exports.written(folder, files, id, serialization.cascade(committee or gated_cascade(seeds)))


@contextlib.contextmanager
def serving(path, *flags):
    """Run workers and a gateway; give (gateway, workers)."""
    with contextlib.ExitStack() as stack:
        result = [stack.enter_context(workers.running(path, member=name)) for name in NAMES]
        places = {name: worker.grpc for name, worker in zip(NAMES, result, strict=True)}
        gateway = stack.enter_context(gateways.running(path, places, "--deadline_ms=20000", *flags))
        workers.until(lambda: gateway.health() == 1)
        yield gateway, result


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with serving(export(tmp_path_factory.mktemp("cascade")), "--quorum=1") as result:
        yield result


@pytest.fixture(scope="module")
def decided() -> Decision:
    return decide(gated_cascade(), logits())


def requests(worker) -> float:
    return worker.metric("dico_requests_total")


def test_it_decides_as_the_definition_does_about_litert_logits(served, decided):
    gateway, _ = served
    assert gateway.ready_line["cascade"] == list(NAMES)
    answer = gateways.infer(gateway, IMAGES)
    assert answer.outputs["stage"].tolist() == decided.stage.tolist() and 8 <= decided.stage.sum() <= 16
    assert answer.outputs["logits"] == pytest.approx(decided.logits, rel=1e-5, abs=1e-5)
    assert answer.outputs["class_id"].tolist() == decided.classes.tolist()
    response = gateway.ask("GET", "/v2/models/committee")[2].decode()
    assert '"stage"' in response and '"cascade": "branch_0,branch_1"' in response
    assert answer.parameters["cascade"] == "branch_0,branch_1" and answer.parameters["gate_passed"] is True
    assert answer.parameters["used"] == "branch_0,branch_1"
    one = [gateways.infer(gateway, image[None]).outputs["stage"][0] for image in IMAGES]
    assert one == decided.stage.tolist()


def test_the_second_member_is_not_called_where_the_first_is_sure(served, decided):
    gateway, (first, second) = served
    before, images = (requests(first), requests(second)), second.metric("dico_images_total")
    for image in IMAGES[decided.stage == 0]:
        answer = gateways.infer(gateway, image[None])
        assert answer.outputs["stage"].tolist() == [0] and answer.parameters["used"] == "branch_0"
    assert (requests(first) - before[0], requests(second) - before[1]) == ((decided.stage == 0).sum(), 0)
    gateways.infer(gateway, IMAGES)
    assert requests(second) == before[1] + 1
    assert second.metric("dico_images_total") - images == decided.stage.sum()  # only those that go on


def test_exits_are_told_to_prometheus_and_to_clients(served, decided):
    gateway, _ = served
    before = gateway.metric('dico_cascade_exits_total{stage="1",member="branch_1"}')
    with Client(gateway.grpc) as client:
        result = client.predict(IMAGES)
    assert result.cascade == NAMES and result.stage.tolist() == decided.stage.tolist() and result.gate_passed
    assert gateway.metric('dico_cascade_exits_total{stage="1",member="branch_1"}') - before == decided.stage.sum()
    assert gateway.metric("dico_cascade_unfinished_total") == 0


def test_branches_are_not_told_in_turn(served):
    gateway, _ = served
    with pytest.raises(grpc.RpcError) as error:
        gateways.infer(gateway, IMAGES, "branch_probabilities")
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT and "--nocascade" in error.value.details()
    status, response = gateway.post(gateways.body(IMAGES[:1]), path=gateways.INFER)
    assert status == 200 and "stage" in {output["name"] for output in response["outputs"]}


def test_a_member_that_stands_still_is_passed_over_in_time(served, decided):
    gateway, (first, second) = served
    sure = gateways.infer(gateway, IMAGES)
    first.process.send_signal(signal.SIGSTOP)
    try:
        begun = time.monotonic()
        answer = gateways.infer(gateway, IMAGES, timeout=4)
        assert time.monotonic() - begun < 4
        assert answer.parameters["used"] == "branch_1" and answer.parameters["late"] == "branch_0"
        assert (answer.outputs["stage"] == 1).all() and answer.parameters["gate_passed"] is True
        assert answer.outputs["logits"] == pytest.approx(logits()[:, 1], rel=1e-5, abs=1e-5)
    finally:
        first.process.send_signal(signal.SIGCONT)
    second.process.send_signal(signal.SIGSTOP)
    try:
        answer = gateways.infer(gateway, IMAGES, timeout=4)
        assert answer.parameters["used"] == "branch_0" and answer.parameters["gate_passed"] is False
        assert (answer.outputs["stage"] == 0).all() and answer.parameters["late"] == "branch_1"
        passed = decided.stage == 0
        assert (answer.outputs["logits"][passed] == sure.outputs["logits"][passed]).all()
        assert gateway.metric("dico_cascade_unfinished_total") == (~passed).sum()
    finally:
        second.process.send_signal(signal.SIGCONT)
    workers.until(lambda: gateways.infer(gateway, IMAGES).parameters["gate_passed"])


def test_asked_for_the_full_ensemble_it_asks_all(tmp_path):
    with serving(export(tmp_path), "--nocascade") as (gateway, _):
        assert gateway.ready_line["cascade"] == []
        answer = gateways.infer(gateway, IMAGES)
        assert answer.outputs["logits"] == pytest.approx(logits().mean(1), rel=1e-5, abs=1e-5)
        assert "stage" not in answer.outputs and "cascade" not in answer.parameters
        reply = gateways.infer(gateway, IMAGES, "stage", "branch_probabilities").outputs
        assert (reply["stage"] == 1).all() and reply["branch_probabilities"].shape == (24, 2, 3)


def test_a_new_export_brings_its_own_gates_and_no_answer_is_of_both(tmp_path, decided):
    answers = {"first": decided, "second": decide(gated_cascade(SECOND), logits(SECOND))}
    assert answers["first"].stage.tolist() != answers["second"].stage.tolist()
    with serving(export(tmp_path), "--quorum=1") as (gateway, _):
        export(tmp_path, SECOND, "second")
        seen = []

        def changed():
            try:
                answer = gateways.infer(gateway, IMAGES)
            except grpc.RpcError as error:  # where the gateway is slower than both workers to see the new export
                assert "branch_1 is of another export: second, expected first" in error.details()
                return False
            reply = answer.parameters
            result = answers[reply["export"]]
            if not reply["missing"]:
                assert answer.outputs["stage"].tolist() == result.stage.tolist()
                assert answer.outputs["logits"] == pytest.approx(result.logits, rel=1e-5, abs=1e-5)
            seen.append((reply["export"], reply["missing"]))
            return seen[-1] == ("second", "") and gateway.ready_line["export"] == "first"

        workers.until(changed)
        assert manifest.load(tmp_path).id == "second"
        assert gateways.infer(gateway, IMAGES).outputs["stage"].tolist() == answers["second"].stage.tolist()


def test_on_one_machine_it_stops_early_too(tmp_path, decided):
    path = export(tmp_path)
    command = [*workers.command(path)[:2], "local", f"--manifest={path}", "--deadline_ms=20000"]
    with workers.running(path, words=command) as local:
        assert local.ready_line["cascade"] == list(NAMES)
        answer = gateways.infer(local, IMAGES)
        assert answer.outputs["stage"].tolist() == decided.stage.tolist()
