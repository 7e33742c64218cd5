"""When a connection is pinged, dead or caught_up, and how long the next one waits."""

from hypothesis import given
from hypothesis import strategies as st

from ucloud_slurm.listener.pulse import PING_SECONDS, PONG_SECONDS, QUIET_SECONDS, Pulse, backoff


def test_a_ping_is_due_at_once_and_every_half_minute() -> None:
    pulse = Pulse(0.0)
    asked = []
    for second in range(100):
        if pulse.due(second):
            asked.append(second)
            pulse.answer(second)
    assert asked == [0, 30, 60, 90]
    assert PING_SECONDS == 30


def test_a_connection_without_an_answer_is_dead_after_twenty_seconds() -> None:
    pulse = Pulse(0.0)
    assert pulse.due(0.0)
    assert not pulse.dead(PONG_SECONDS - 0.1)
    assert pulse.dead(PONG_SECONDS)
    pulse.answer(PONG_SECONDS)
    assert not pulse.dead(PONG_SECONDS + 9)
    assert PONG_SECONDS == 20


def test_a_message_is_as_good_as_an_answer() -> None:
    pulse = Pulse(0.0)
    assert pulse.due(0.0)
    pulse.message(10.0)
    assert not pulse.dead(25.0)


def test_a_second_ping_does_not_give_ucloud_more_time() -> None:
    pulse = Pulse(0.0, every=5.0)
    for second in (0, 5, 10, 15):
        assert pulse.due(second)
    assert pulse.dead(20.0)


def test_everything_old_is_said_when_an_answer_follows_a_silence() -> None:
    pulse = Pulse(0.0)
    pulse.answer(1.0)
    pulse.message(25.0)
    pulse.answer(30.0)
    found = [pulse.caught_up]
    pulse.answer(25.0 + QUIET_SECONDS)
    found.append(pulse.caught_up)
    pulse.message(40.0)
    pulse.answer(41.0)
    assert [*found, pulse.caught_up] == [False, True, True]


@given(st.floats(0, 1000))
def test_nothing_is_waited_for_beyond_what_is_due(now: float) -> None:
    pulse = Pulse(0.0)
    pulse.due(0.0)
    left = pulse.left(now)
    assert left >= 0
    assert pulse.due(now + left) or pulse.dead(now + left)


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_the_next_attempt_comes_after_one_second_to_a_minute(failures: int, chance: float) -> None:
    assert 1 <= backoff(failures, chance) <= (5 if failures == 0 else 60)


def test_attempts_that_fail_become_rarer_and_do_not_all_come_at_once() -> None:
    assert [backoff(failures, 1.0) for failures in range(1, 9)] == [2, 4, 8, 16, 32, 60, 60, 60]
    assert backoff(8, 0.0) == 30
