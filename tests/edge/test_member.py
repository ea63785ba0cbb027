"""Hedges, retries and circuits of a member, on a virtual clock."""

import asyncio

import pytest

from dico_tf.edge.members.member import RemoteMember
from dico_tf.edge.members.outcome import Cause, Missing, Vote
from dico_tf.edge.members.resilience import FAILURES, OPEN_SECONDS, CircuitBreaker, CircuitState
from tests.edge.virtual_time import now, run

VOTE = Vote(None, "0123")
GONE = Missing(Cause.UNREACHABLE)


class Fake:
    """An endpoint with a script of (seconds, outcome) for its calls; the last is repeated."""

    def __init__(self, *turns, hedge_after=None):
        self.turns, self._hedge_after, self.calls, self.cancelled = list(turns), hedge_after, 0, 0
        self.breaker = CircuitBreaker(now)

    def hedge_after(self):
        return self._hedge_after

    async def ask(self, image, deadline):
        seconds, outcome = self.turns[min(self.calls, len(self.turns) - 1)]
        self.calls += 1
        self.breaker.start_call()
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            self.breaker.call_cancelled()
            raise
        if outcome is VOTE:
            self.breaker.call_succeeded()
        else:
            self.breaker.call_failed()
        return outcome


def asking(member, times=1, deadline=10.0):
    """Return [(outcome, seconds)] of successive requests, and the number of tasks that are still running."""

    async def all_of_them():
        results = []
        for _ in range(times):
            started = now()
            try:
                async with asyncio.timeout(deadline):
                    outcome = await member.ask(None, started + deadline)
            except TimeoutError:
                outcome = None
            results.append((outcome, now() - started))
        await asyncio.sleep(0)
        return results, len(asyncio.all_tasks()) - 1

    return run(all_of_them())


def made(*addresses, **more):
    return RemoteMember(list(addresses), **more)


def test_an_answer_is_an_answer():
    (results,), tasks = asking(made(Fake((0.1, VOTE))))
    assert (results, tasks) == ((VOTE, pytest.approx(0.1)), 0)


def test_a_replica_is_asked_after_the_95th_percentile_and_the_loser_cancelled():
    slow, quick = Fake((5.0, VOTE), hedge_after=0.2), Fake((0.1, VOTE))
    results, tasks = asking(made(slow, quick, hedge_share=1.0))
    assert (results, tasks) == ([(VOTE, pytest.approx(0.3))], 0)
    assert (slow.calls, slow.cancelled, quick.calls) == (1, 1, 1)


def test_nothing_is_hedged_before_there_is_a_percentile_nor_without_a_replica():
    quick = Fake((0.1, VOTE))
    results, _ = asking(made(Fake((5.0, VOTE)), quick, hedge_share=1.0))
    assert results == [(VOTE, pytest.approx(5.0))] and quick.calls == 0
    results, _ = asking(made(Fake((5.0, VOTE), hedge_after=0.1), hedge_share=1.0))
    assert results == [(VOTE, pytest.approx(5.0))]


@pytest.mark.parametrize("share", [0.0, 0.05, 0.2])
def test_hedges_stay_within_their_share_of_the_calls(share):
    slow, quick = Fake((1.0, VOTE), hedge_after=0.2), Fake((0.1, VOTE))
    member = made(slow, quick, hedge_share=share)
    results, _ = asking(member, times=1000)
    assert member.hedged == quick.calls <= 1000 * share
    assert member.hedged >= 1000 * share - 1
    assert sum(seconds < 0.9 for _, seconds in results) == member.hedged


def test_a_hedge_that_fails_does_not_spoil_the_answer_that_is_coming():
    results, _ = asking(made(Fake((1.0, VOTE), hedge_after=0.2), Fake((0.1, GONE)), hedge_share=1.0))
    assert results == [(VOTE, pytest.approx(1.0))]


def test_what_was_not_heard_is_asked_of_the_replica_at_once():
    first, second = Fake((0.01, GONE)), Fake((0.1, VOTE))
    results, _ = asking(made(first, second))
    assert results == [(VOTE, pytest.approx(0.11))] and first.calls == 1


def test_the_same_address_is_asked_again_after_a_growing_pause():
    only = Fake((0.0, GONE), (0.0, GONE), (0.0, VOTE))
    results, _ = asking(made(only))
    assert results == [(VOTE, pytest.approx(0.06))] and only.calls == 3


@pytest.mark.parametrize("cause", [cause for cause in Cause if cause is not Cause.UNREACHABLE])
def test_nothing_else_is_asked_again(cause):
    only, replica = Fake((0.1, Missing(cause))), Fake((0.1, VOTE))
    assert asking(made(only, replica))[0] == [(Missing(cause), pytest.approx(0.1))]
    assert (only.calls, replica.calls) == (1, 0)


def test_nothing_is_asked_again_when_the_deadline_would_pass():
    only = Fake((0.05, GONE))
    results, _ = asking(made(only), deadline=0.06)
    assert results == [(GONE, pytest.approx(0.05))] and only.calls == 1


def test_asking_again_has_a_budget():
    """At most 10 + n / 10 of n calls are repeated."""
    turns = [(0.0, GONE), (0.0, VOTE)] * 500
    only = Fake(*turns)
    member = made(only)
    results, _ = asking(member, times=400)
    assert 45 <= member.retried <= 10 + 0.1 * 400
    assert sum(outcome is VOTE for outcome, _ in results) >= member.retried


def test_an_open_circuit_costs_no_time_and_a_probe_and_a_trial_close_it():
    only = Fake(*[(9.0, GONE)] * FAILURES, (0.1, VOTE))

    async def story():
        member, seen = RemoteMember([only]), []
        for _ in range(FAILURES):
            await asyncio.wait_for(member.ask(None, now() + 9.01), 9.5)
        started = now()
        seen.append((await member.ask(None, now() + 1), now() - started, only.breaker.state))
        await asyncio.sleep(OPEN_SECONDS)
        only.breaker.probe_ended(True)
        seen.append((await member.ask(None, now() + 1), 0.0, only.breaker.state))
        return seen

    refused, served = run(story())
    assert refused == (Missing(Cause.RESTING), 0.0, CircuitState.OPEN)
    assert served == (VOTE, 0.0, CircuitState.CLOSED)


def test_the_replica_stands_in_while_a_circuit_is_open():
    broken, replica = Fake((0.0, GONE)), Fake((0.1, VOTE))
    results, _ = asking(made(broken, replica), times=50)
    assert all(outcome is VOTE for outcome, _ in results)
    assert broken.calls == FAILURES and replica.calls == 50


def test_a_request_that_is_dropped_drops_its_calls():
    slow, other = Fake((5.0, VOTE), hedge_after=0.1), Fake((5.0, VOTE))
    results, tasks = asking(made(slow, other, hedge_share=1.0), deadline=1.0)
    assert (results, tasks) == ([(None, 1.0)], 0)
    assert (slow.cancelled, other.cancelled) == (1, 1)
