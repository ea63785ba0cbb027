"""Closed, open, half-open; and the budgets of what is asked beyond the ordinary."""

import pytest

from dico_tf.edge.members.resilience import (
    FAILURES,
    LATEST,
    LEAST,
    LONGEST_REST,
    REST,
    CallBudget,
    CircuitBreaker,
    CircuitState,
    ResponseTimes,
)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def breaker(clock):
    return CircuitBreaker(clock)


def fail(breaker, times=FAILURES):
    for _ in range(times):
        breaker.enter()
        breaker.failed()


def test_failures_in_a_row_open_it_and_a_success_between_them_does_not(breaker):
    fail(breaker, FAILURES - 1)
    breaker.succeeded()
    fail(breaker, FAILURES - 1)
    assert breaker.state is CircuitState.CLOSED and breaker.passable
    fail(breaker, 1)
    assert breaker.state is CircuitState.OPEN and not breaker.passable


def test_it_rests_then_waits_for_a_probe_then_lets_one_through_on_trial(breaker, clock):
    fail(breaker)
    breaker.probed(True)
    assert breaker.state is CircuitState.OPEN  # it has not rested
    clock.now += REST
    breaker.probed(False)
    assert breaker.rested and breaker.state is CircuitState.OPEN
    breaker.probed(True)
    assert breaker.state is CircuitState.HALF_OPEN and breaker.passable
    breaker.enter()
    assert not breaker.passable  # one at a time
    breaker.succeeded()
    assert breaker.state is CircuitState.CLOSED and breaker.passable


def test_a_trial_that_fails_doubles_the_rest_up_to_a_limit(breaker, clock):
    fail(breaker)
    rests = []
    for _ in range(8):
        started = clock.now
        while not breaker.rested:
            clock.now += 0.5
        rests.append(clock.now - started)
        breaker.probed(True)
        fail(breaker, 1)
    assert rests == [1, 2, 4, 8, 16, LONGEST_REST, LONGEST_REST, LONGEST_REST]


def test_a_trial_that_was_withdrawn_leaves_room_for_another(breaker, clock):
    fail(breaker)
    clock.now += REST
    breaker.probed(True)
    breaker.enter()
    breaker.withdrawn()
    assert breaker.state is CircuitState.HALF_OPEN and breaker.passable


def test_probes_that_fail_open_it_without_any_request(breaker):
    for _ in range(FAILURES):
        assert breaker.passable
        breaker.probed(False)
    assert breaker.state is CircuitState.OPEN


def test_stragglers_that_fail_while_it_is_open_prolong_nothing(breaker, clock):
    fail(breaker)
    clock.now += REST / 2
    breaker.failed()
    clock.now += REST / 2
    assert breaker.rested


@pytest.mark.parametrize("calls", [10, 100, 1000, 5000])
def test_extra_calls_stay_below_their_share(calls):
    budget, extra = CallBudget(0.05), 0
    for _ in range(calls):
        budget.earn()
        extra += budget.spend()
    assert 0.05 * calls - 2 <= extra <= 0.05 * calls


def test_what_is_saved_up_in_quiet_times_is_limited():
    budget = CallBudget(0.05, start=3.0)
    for _ in range(10_000):
        budget.earn()
    assert sum(budget.spend() for _ in range(100)) == 10


def test_the_95th_percentile_is_of_the_latest_and_only_once_there_are_enough():
    latencies = ResponseTimes()
    for seconds in range(LEAST - 1):
        latencies.add(float(seconds))
    assert latencies.p95() is None
    for seconds in range(1, LATEST + 1):
        latencies.add(float(seconds))
    assert latencies.p95() == 0.95 * LATEST
