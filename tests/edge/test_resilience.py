"""Circuit breaker states, call budgets, and response times."""

import pytest

from dico_tf.edge.members.resilience import (
    FAILURES,
    FEWEST_FOR_P95,
    LONGEST_OPEN_SECONDS,
    OPEN_SECONDS,
    RECENT_CALLS,
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
        breaker.start_call()
        breaker.call_failed()


def test_failures_in_a_row_open_the_circuit_unless_a_success_is_between_them(breaker):
    fail(breaker, FAILURES - 1)
    breaker.call_succeeded()
    fail(breaker, FAILURES - 1)
    assert breaker.state is CircuitState.CLOSED and breaker.allows_call
    fail(breaker, 1)
    assert breaker.state is CircuitState.OPEN and not breaker.allows_call


def test_an_open_circuit_pauses_then_needs_a_probe_then_allows_one_trial_call(breaker, clock):
    fail(breaker)
    breaker.probe_ended(True)
    assert breaker.state is CircuitState.OPEN  # too early
    clock.now += OPEN_SECONDS
    breaker.probe_ended(False)
    assert breaker.may_recover and breaker.state is CircuitState.OPEN
    breaker.probe_ended(True)
    assert breaker.state is CircuitState.HALF_OPEN and breaker.allows_call
    breaker.start_call()
    assert not breaker.allows_call  # one at a time
    breaker.call_succeeded()
    assert breaker.state is CircuitState.CLOSED and breaker.allows_call


def test_a_failed_trial_doubles_the_pause_up_to_a_limit(breaker, clock):
    fail(breaker)
    pauses = []
    for _ in range(8):
        started = clock.now
        while not breaker.may_recover:
            clock.now += 0.5
        pauses.append(clock.now - started)
        breaker.probe_ended(True)
        fail(breaker, 1)
    assert pauses == [1, 2, 4, 8, 16, LONGEST_OPEN_SECONDS, LONGEST_OPEN_SECONDS, LONGEST_OPEN_SECONDS]


def test_a_cancelled_trial_allows_another(breaker, clock):
    fail(breaker)
    clock.now += OPEN_SECONDS
    breaker.probe_ended(True)
    breaker.start_call()
    breaker.call_cancelled()
    assert breaker.state is CircuitState.HALF_OPEN and breaker.allows_call


def test_failed_probes_open_the_circuit_without_any_request(breaker):
    for _ in range(FAILURES):
        assert breaker.allows_call
        breaker.probe_ended(False)
    assert breaker.state is CircuitState.OPEN


def test_late_failures_while_it_is_open_do_not_prolong_the_pause(breaker, clock):
    fail(breaker)
    clock.now += OPEN_SECONDS / 2
    breaker.call_failed()
    clock.now += OPEN_SECONDS / 2
    assert breaker.may_recover


@pytest.mark.parametrize("calls", [10, 100, 1000, 5000])
def test_extra_calls_stay_below_their_share(calls):
    budget, extra = CallBudget(0.05), 0
    for _ in range(calls):
        budget.earn()
        extra += budget.spend()
    assert 0.05 * calls - 2 <= extra <= 0.05 * calls


def test_a_budget_saves_a_limited_number_of_calls():
    budget = CallBudget(0.05, start=3.0)
    for _ in range(10_000):
        budget.earn()
    assert sum(budget.spend() for _ in range(100)) == 10


def test_the_95th_percentile_is_of_recent_calls_and_needs_enough_of_them():
    response_times = ResponseTimes()
    for seconds in range(FEWEST_FOR_P95 - 1):
        response_times.add(float(seconds))
    assert response_times.p95() is None
    for seconds in range(1, RECENT_CALLS + 1):
        response_times.add(float(seconds))
    assert response_times.p95() == 0.95 * RECENT_CALLS
