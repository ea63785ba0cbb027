"""Faults of one member, a separate process, have the documented result; the average of the others is still given."""

import asyncio
import contextlib
import os
import signal
import socket
import threading
import time

import numpy as np
import pytest

from dico_tf.edge.members.ask_all import BelowQuorum
from dico_tf.edge.members.outcome import Cause
from dico_tf.edge.members.resilience import FAILURES, CircuitState
from dico_tf.formulas.averages import AVERAGES
from tests.edge.committees import IMAGE, committee, expected
from tests.edge.faulty_member import EXPORT, OTHER, Process, logits

LATE = 6.0  # seconds that a busy machine may add to the deadline; late members take 9 s or never answer


@pytest.fixture(scope="module")
def processes():
    started = [Process(name) for name in ("branch_0", "branch_1", "branch_2")]
    yield started
    for process in started:
        process.end()


@pytest.fixture
def members(processes):
    for process in processes:
        process.does("right")
    return processes


def places(members):
    return {process.name: process.address for process in members}


def ask(places, image=IMAGE, **rules):
    """(answers, verdict, seconds) of one request, after one that opened the connections."""

    async def asking():
        async with committee(places, **rules) as remote:
            await remote.probe()
            started = asyncio.get_running_loop().time()
            try:
                answers, answer = await remote.ask(image, remote.deadline())
            except BelowQuorum as error:
                answers, answer = error.answers, error
            return answers, answer, asyncio.get_running_loop().time() - started

    return asyncio.run(asking())


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_the_answer_equals_the_average_computed_in_one_process(members, average, dtype):
    answers, answer, _ = ask(places(members), IMAGE.astype(dtype), average=average, quorum=3)
    names = ["branch_0", "branch_1", "branch_2"]
    assert answer.probabilities == pytest.approx(expected(names, average=average), abs=1e-6)
    assert answer.versions == dict.fromkeys(names, EXPORT) and not answers.missing
    assert (answer.probabilities.dtype, answer.class_id.dtype) == (np.float32, np.int64)


UNUSABLE = {
    "nan": "its logits are not finite",
    "infinity": "its logits are not finite",
    "batch": "its logits must be float32[2, 5], got float32[4, 5]",
    "classes": "its logits must be float32[2, 5], got float32[2, 4]",
    "whole_numbers": "its logits must be float32[2, 5], got int64[2, 5]",
    "nothing": "it has no logits",
    "garbage": "it cannot be parsed as ModelInferResponse",
    "internal": "",
}


@pytest.mark.parametrize("word", UNUSABLE)
def test_an_unusable_answer_counts_as_missing_with_a_reason(members, word):
    members[1].does(word)
    answers, answer, _ = ask(places(members), quorum=2)
    assert answer.probabilities == pytest.approx(expected(["branch_0", "branch_2"]), abs=1e-6)
    assert answer.missing == {"branch_1": f"sent an unusable answer: {UNUSABLE[word]}".removesuffix(": ")}
    assert answers.missing["branch_1"].cause is Cause.UNUSABLE and answer.late == []


@pytest.mark.parametrize(
    ("word", "why", "code"),
    [
        ("busy", Cause.BUSY, "RESOURCE_EXHAUSTED"),
        ("gone", Cause.UNREACHABLE, "UNAVAILABLE"),
        ("stopping", Cause.UNREACHABLE, "UNAVAILABLE"),
        ("unknown", Cause.REFUSED, "UNAVAILABLE"),
        ("nan", Cause.UNUSABLE, "UNAVAILABLE"),
        ("hang", Cause.LATE, "DEADLINE_EXCEEDED"),
    ],
)
def test_below_the_quorum_there_is_a_typed_error_and_no_answer(members, word, why, code):
    members[1].does(word)
    answers, error, _ = ask(places(members), quorum=3, seconds=1.0)
    assert isinstance(error, BelowQuorum) and error.code == code
    assert answers.missing["branch_1"].cause is why
    assert "but the quorum is 3: " in error.sentence and "/home" not in error.sentence.replace("as told, at /home", "")


@pytest.mark.parametrize("word", ["slow:9", "hang"])
def test_a_slow_member_is_left_out_at_the_deadline(members, word):
    members[2].does(word)
    _, answer, took = ask(places(members), quorum=2, seconds=1.0)
    assert answer.probabilities == pytest.approx(expected(["branch_0", "branch_1"]), abs=1e-6)
    assert (answer.late, answer.missing) == (["branch_2"], {})
    assert 1.0 <= took < 1.0 + LATE


def test_slow_answers_that_come_in_time_are_waited_for(members):
    members[2].does("slow:0.2")
    answers, _told, took = ask(places(members), quorum=1)
    assert list(answers.votes) == ["branch_0", "branch_1", "branch_2"] and 0.2 <= took < 20


def test_a_killed_member_is_missing_at_once(members):
    victim = Process("branch_7")
    addresses = {**places(members), "branch_7": victim.address}

    async def story():
        async with committee(addresses, quorum=3) as remote:
            _, before = await remote.ask(IMAGE, remote.deadline())
            os.kill(victim.child.pid, signal.SIGKILL)
            victim.child.wait()
            started = asyncio.get_running_loop().time()
            _, after = await remote.ask(IMAGE, remote.deadline())
            return before, after, asyncio.get_running_loop().time() - started

    try:
        before, after, took = asyncio.run(story())
    finally:
        victim.end()
    assert list(before.versions) == ["branch_0", "branch_1", "branch_2", "branch_7"]
    assert after.missing == {"branch_7": "cannot be reached"} and took < 10  # not the deadline's 20 s
    assert after.probabilities == pytest.approx(expected(["branch_0", "branch_1", "branch_2"]), abs=1e-6)


def test_a_stopped_member_is_late_then_skipped_then_comes_back(members, caplog):
    async def story():
        seen = []
        async with committee(places(members), quorum=2, seconds=1.0, watched=True) as remote:
            await remote.probe()
            os.kill(members[0].child.pid, signal.SIGSTOP)
            for _ in range(FAILURES):
                seen.append((await remote.ask(IMAGE, remote.deadline()))[0].missing.get("branch_0"))
            await asyncio.sleep(0.01)  # the cancellation of the last call is recorded a moment later
            started = asyncio.get_running_loop().time()
            resting, _ = await remote.ask(IMAGE, remote.deadline())
            took = asyncio.get_running_loop().time() - started
            os.kill(members[0].child.pid, signal.SIGCONT)
            breaker = remote.members["branch_0"].replicas[0].breaker
            while breaker.state is CircuitState.OPEN:
                await asyncio.sleep(0.05)
            back = []
            while 3 not in back and len(back) < 20:
                back.append(len((await remote.ask(IMAGE, remote.deadline()))[0].votes))
            return seen, resting, took, back, breaker.state

    try:
        seen, resting, took, back, state = asyncio.run(asyncio.wait_for(story(), 120))
    finally:
        os.kill(members[0].child.pid, signal.SIGCONT)
    assert seen[0].cause is Cause.LATE and {missing.cause for missing in seen} <= {Cause.LATE, Cause.RESTING}
    assert resting.missing["branch_0"].cause is Cause.RESTING and took < 1.0 + LATE
    assert 3 in back and state is CircuitState.CLOSED
    assert "branch_0 at 127.0.0.1:" in caplog.text and " is skipped for now: " in caplog.text
    assert caplog.messages[-1].endswith(" answers again")


def test_answers_come_at_the_deadline_while_a_member_is_stopped(members):
    async def story():
        late = []
        async with committee(places(members), quorum=2, seconds=1.0) as remote:
            await remote.ask(IMAGE, remote.deadline())
            os.kill(members[2].child.pid, signal.SIGSTOP)
            for _ in range(3):
                remote.members["branch_2"].replicas[0].breaker.call_succeeded()  # keep it closed
                deadline = remote.deadline()
                answers, answer = await remote.ask(IMAGE, deadline)
                late.append(asyncio.get_running_loop().time() - deadline)
                assert answers.late == ["branch_2"]
                assert answer.probabilities == pytest.approx(expected(["branch_0", "branch_1"]), abs=1e-6)
        return late

    try:
        late = asyncio.run(story())
    finally:
        os.kill(members[2].child.pid, signal.SIGCONT)
    assert min(late) >= 0 and max(late) < LATE  # test_ask_all.py checks the exact deadline on a virtual clock


@pytest.mark.slow
def test_a_dead_connection_is_replaced(members):
    """A device without power, or a router that lost its table, never closes the connection."""
    connections = []

    async def pump(reader, writer, number):
        with contextlib.suppress(OSError):
            while content := await reader.read(2**16):
                if number < len(connections) - 1 or connections[number]:  # drop everything
                    await asyncio.sleep(3600)
                writer.write(content)

    async def carry(reader, writer):
        connections.append(False)
        onward = await asyncio.open_connection("127.0.0.1", members[0].port)
        number = len(connections) - 1
        await asyncio.gather(pump(reader, onward[1], number), pump(onward[0], writer, number))

    async def story():
        router = await asyncio.start_server(carry, "127.0.0.1", 0)
        place = f"127.0.0.1:{router.sockets[0].getsockname()[1]}"
        async with committee({"branch_0": place}, seconds=1.0, watched=True) as remote:
            await remote.ask(IMAGE, remote.deadline())
            connections[0], started = True, asyncio.get_running_loop().time()
            while True:
                try:
                    await remote.ask(IMAGE, remote.deadline())
                    return asyncio.get_running_loop().time() - started
                except BelowQuorum:
                    await asyncio.sleep(0.2)

    assert asyncio.run(asyncio.wait_for(story(), 120)) < 50  # without keepalive pings it takes more than a minute


def test_nobody_listening_is_unreachable(members):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        addresses = {**places(members), "branch_9": f"127.0.0.1:{unused.getsockname()[1]}"}
    _, answer, took = ask(addresses, quorum=3)
    assert answer.missing == {"branch_9": "cannot be reached"} and took < 10


@pytest.mark.parametrize("junk", [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", b"\x00" * 4096, b""])
def test_a_server_with_another_protocol_is_missing(members, junk):
    """The server sends junk, or closes the connection at once."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_junk, args=(server, junk), daemon=True).start()
        addresses = {**places(members), "branch_9": f"127.0.0.1:{server.getsockname()[1]}"}
        answers, answer, took = ask(addresses, quorum=3, seconds=1.0)
        assert list(answers.missing) == ["branch_9"] and took < 1.0 + LATE
        assert answer.probabilities == pytest.approx(expected(["branch_0", "branch_1", "branch_2"]), abs=1e-6)


def _junk(server, junk):
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            if junk:
                connection.sendall(junk)
                time.sleep(0.05)


def test_exports_are_mixed_only_if_allowed(members):
    members[1].does("version")
    _, answer, _ = ask(places(members), quorum=2)
    assert answer.missing == {"branch_1": f"is of another export: {OTHER}, expected {EXPORT}"}
    assert answer.probabilities == pytest.approx(expected(["branch_0", "branch_2"]), abs=1e-6)
    _, answer, _ = ask(places(members), quorum=3, mixed_exports=True)
    assert answer.versions == {"branch_0": EXPORT, "branch_1": OTHER, "branch_2": EXPORT}
    assert answer.probabilities == pytest.approx(expected(list(answer.versions)), abs=1e-6)
    for member in members:
        member.does("version")
    _, error, _ = ask(places(members), quorum=1)
    assert isinstance(error, BelowQuorum) and error.code == "UNAVAILABLE" and OTHER in error.sentence


def test_a_short_client_deadline_is_kept_and_blames_no_member(members):
    members[0].does("slow:9")

    async def story():
        async with committee(places(members), quorum=2) as remote:
            await remote.probe()
            started = asyncio.get_running_loop().time()
            _, answer = await remote.ask(IMAGE, remote.deadline(started + 1.0))
            took = asyncio.get_running_loop().time() - started
            return answer.late, took, remote.members["branch_0"].replicas[0].breaker._failures

    late, took, blamed = asyncio.run(story())
    assert late == ["branch_0"] and 0.95 <= took < 1.0 + LATE
    assert blamed == 0  # else impatient clients could open circuits


def test_hedges_stay_within_their_share(members):
    """4 of 120 answers of the first address take a second, and at most 6 calls may be hedged."""
    replica = Process("branch_0")
    members[0].does("tail:1")

    async def story():
        async with committee({"branch_0": [members[0].address, replica.address]}, hedge_share=0.05) as remote:
            await remote.probe()
            for _ in range(120):
                _, answer = await remote.ask(IMAGE[:1], remote.deadline())
                assert answer.probabilities == pytest.approx(expected(["branch_0"], IMAGE[:1]), abs=1e-6)
            return remote.members["branch_0"].hedged

    try:
        hedged = asyncio.run(story())
        assert 1 <= hedged <= 0.05 * 120
        # fewer calls arrive where the other address answers first
        assert 120 - hedged <= members[0].calls() <= 120 and replica.calls() <= hedged
    finally:
        replica.end()


def test_logits_of_the_stand_in_differ_by_member():
    assert not np.allclose(logits("branch_0", IMAGE), logits("branch_1", IMAGE))
