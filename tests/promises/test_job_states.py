"""P1, P3: a job goes from state to state as the table of transitions says, and in no other way."""

import inspect
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.factories import new_job
from ucloud_slurm.store.charges import Charges
from ucloud_slurm.store.job_state import TRANSITIONS, Guard, JobEvent, JobPhase, Lifecycle, Stop
from ucloud_slurm.store.jobs import Jobs
from ucloud_slurm.store.observations import Observation, Observations
from ucloud_slurm.store.outbox import Outbox
from ucloud_slurm.store.sqlite import Store
from ucloud_slurm.ucloud.reports import Charge, JobState, JobUpdate, Usage

NOW = 1000.0
CLAIM_SECONDS = 60.0
UPDATE = JobUpdate(None, "words")

Write = Callable[[Store, str], object]


@dataclass(frozen=True)
class Facts:
    """All of a row that a transition depends on or changes."""

    state: Lifecycle
    stop: Stop | None = None
    acknowledged: bool = False
    held: bool = False


GUARDS: dict[Guard, Callable[[Facts], bool]] = {
    Guard.NOT_STOPPED: lambda facts: facts.stop is None,
    Guard.NOT_HELD: lambda facts: not facts.held,
    Guard.HELD: lambda facts: facts.held,
    Guard.ACKNOWLEDGED: lambda facts: facts.acknowledged,
    Guard.NOT_ACKNOWLEDGED: lambda facts: not facts.acknowledged,
    Guard.VISIBLE: lambda facts: facts.stop is not Stop.ROLLED_BACK,
    Guard.ROLLED_BACK: lambda facts: facts.stop is Stop.ROLLED_BACK,
}

EVENTS: dict[JobEvent, Write] = {
    JobEvent.ACCEPT: lambda store, id_: Jobs(store).accept([new_job(id_)]),
    JobEvent.ACCEPT_CLAIMED: lambda store, id_: Jobs(store).accept(
        [new_job(id_)], claimed=[id_], attempted_at=NOW, claimed_until=NOW + CLAIM_SECONDS
    ),
    JobEvent.ADOPT: lambda store, id_: Observations(store).adopt(new_job(id_), NOW),
    JobEvent.LOOK_UP: lambda store, id_: Observations(store).look_up(id_),
    JobEvent.REGISTER: lambda store, id_: Observations(store).register(new_job(id_), 7, 1, NOW),
    JobEvent.ACKNOWLEDGE: lambda store, id_: Jobs(store).acknowledge([id_], NOW),
    JobEvent.CLAIM: lambda store, id_: Jobs(store).claim([id_], NOW, NOW + CLAIM_SECONDS),
    JobEvent.CLAIM_EXPIRES: lambda _store, _id: None,
    JobEvent.OUTCOME_UNKNOWN: lambda store, id_: Jobs(store).mark_outcome_unknown(id_, 1, NOW),
    JobEvent.SUBMITTED: lambda store, id_: Jobs(store).submitted(id_, 7, 1, attempt=1),
    JobEvent.SUBMITTED_ACKNOWLEDGED: lambda store, id_: Jobs(store).submitted(id_, 7, 1, acknowledged_at=NOW),
    JobEvent.RELEASE_CLAIM: lambda store, id_: Jobs(store).release_claim([id_], 1),
    JobEvent.REFUSED: lambda store, id_: Jobs(store).refused(id_, 400, "no", NOW, attempt=1),
    JobEvent.ROLL_BACK: lambda store, id_: Jobs(store).roll_back([id_], 400, "no", NOW),
    JobEvent.END_UNSUBMITTED: lambda store, id_: Jobs(store).end_unsubmitted(id_, UPDATE, NOW),
    JobEvent.HOLD: lambda store, id_: Jobs(store).held(id_, UPDATE, NOW),
    JobEvent.RELEASE: lambda store, id_: Jobs(store).released(id_, UPDATE, NOW),
    JobEvent.STOP: lambda store, id_: Jobs(store).stop(id_, Stop.TERMINATED, NOW),
    JobEvent.END: lambda store, id_: Observations(store).record_end(id_, UPDATE, 60, NOW),
    JobEvent.FORGET: lambda store, id_: Observations(store).forgotten(id_, "no", NOW),
}

# These write what is no part of the state.
OTHERS: dict[str, Write] = {
    "confirmed": lambda store, id_: Observations(store).confirmed([id_], NOW),
    "record_observation": lambda store, id_: Observations(store).record_observation(
        id_, Observation(slurm_state="RUNNING", submitted_at=1, run_submitted=1, time_limit=5, found=True)
    ),
    "report_run": lambda store, id_: Observations(store).report_run(id_),
    "record_clock": lambda store, id_: Observations(store).record_clock(id_, 5),
    "record_known_state": lambda store, id_: Observations(store).record_known_state(id_, "RUNNING"),
    "record_user": lambda store, id_: Observations(store).record_user(id_, "ada", 1000),
    "record_absence": lambda store, id_: Observations(store).record_absence(id_, NOW),
    "record_time_limit": lambda store, id_: Observations(store).record_time_limit(id_, 5, UPDATE, NOW),
    "record_extension": lambda store, id_: Observations(store).record_extension(id_, "60", NOW),
    "enqueue_update": lambda store, id_: Outbox(store).enqueue_update(id_, JobUpdate(JobState.RUNNING, "runs"), NOW),
    "repeat_update": lambda store, id_: Outbox(store).repeat_update(id_, UPDATE, NOW),
    "add": lambda store, id_: Charges(store).add(Charge(f"c-{id_}", id_, 1, 1, "d"), 7, 60, NOW),
    "add(usage)": lambda store, id_: Charges(store).add(
        Charge(f"u-{id_}", id_, 1, 1, "d"), 7, 60, NOW, Usage("u", None, "c", "p", "s", 1)
    ),
}
READING = {
    *("get", "in_phase", "unknown", "open", "to_stop", "newest", "count", "fingerprints"),
    *(
        "rate_limit_remaining",
        "any_claimed",
        "audited",
        "by_slurm_id",
        "ended_since",
        "awaited",
        "record_waiting",
        "unconfirmed",
        "on_another_cluster",
    ),
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "test.db")
    yield store
    store.close()


def rows() -> Iterator[tuple[Facts, float | None]]:
    """What rows there can be, and when the claim of each expires."""
    yield Facts(Lifecycle.ABSENT), None
    marks = itertools.product((None, *Stop), (False, True), (False, True))
    for stop, acknowledged, held in marks:
        for state in set(Lifecycle) - {Lifecycle.ABSENT}:
            facts = Facts(state, stop, acknowledged, held)
            match state:
                case Lifecycle.SUBMITTING:
                    yield facts, NOW + CLAIM_SECONDS
                case Lifecycle.UNKNOWN:
                    yield facts, NOW - 1
                    yield facts, None
                case _:
                    yield facts, None


def build(store: Store, job_id: str, facts: Facts, claimed_until: float | None) -> None:
    """Puts a job into a state, by no event."""
    if facts.state is Lifecycle.ABSENT:
        return
    phase = JobPhase.SUBMITTING if facts.state is Lifecycle.UNKNOWN else JobPhase(facts.state.value)
    Jobs(store).accept([new_job(job_id)])
    acknowledged_at, held_at = NOW if facts.acknowledged else None, NOW if facts.held else None
    store.change(
        "update jobs set attempts = 1, phase = ?, claimed_until = ?, stop = ?, promised_at = ?, held_at = ? where id = ?",
        [phase, claimed_until, facts.stop, acknowledged_at, held_at, job_id],
    )


def read(store: Store, job_id: str, now: float) -> Facts:
    row = Jobs(store).get(job_id)
    if row is None:
        return Facts(Lifecycle.ABSENT)
    state = Lifecycle.of(row.phase, row.claimed_until, now)
    assert (state is Lifecycle.UNKNOWN) == (job_id in {each.id for each in Jobs(store).unknown(now)})
    return Facts(state, row.stop, row.acknowledged_at is not None, row.held_at is not None)


def expected(facts: Facts, event: JobEvent) -> Facts:
    """What the table says; what it does not list changes nothing."""
    possible = [
        each
        for each in TRANSITIONS
        if (each.source, each.event) == (facts.state, event) and all(GUARDS[guard](facts) for guard in each.when)
    ]
    assert len(possible) <= 1, "the table says two things"
    for each in possible:
        return Facts(
            each.target,
            facts.stop if each.stop is None else each.stop,
            facts.acknowledged if each.acknowledged is None else each.acknowledged,
            facts.held if each.held is None else each.held,
        )
    return facts


@pytest.mark.parametrize("event", JobEvent)
def test_an_event_does_to_a_job_in_any_state_what_the_table_says(store: Store, event: JobEvent) -> None:
    now = NOW + CLAIM_SECONDS + 1 if event is JobEvent.CLAIM_EXPIRES else NOW
    with store.writing():  # one for all: each would wait for the disk
        for number, (before, claimed_until) in enumerate(rows()):
            build(store, str(number), before, claimed_until)
            EVENTS[event](store, str(number))
            assert read(store, str(number), now) == expected(before, event), before


@pytest.mark.parametrize("number", [2, 500])
def test_a_bulk_is_rolled_back_by_a_constant_number_of_statements(store: Store, number: int) -> None:
    jobs, ids = Jobs(store), [str(each) for each in range(number)]
    jobs.accept([new_job(id_) for id_ in ids], claimed=ids, attempted_at=NOW, claimed_until=NOW + CLAIM_SECONDS)
    jobs.submitted(ids[-1], 7, 1, attempt=1)
    jobs.refused(ids[0], 422, "no such account", NOW, attempt=1)
    asked: list[str] = []
    store._connection().conn.set_trace_callback(asked.append)
    live = jobs.roll_back(ids, 400, "Job 0 of the same request: no such account", NOW + 1)
    store._connection().conn.set_trace_callback(None)
    assert [(job.id, job.slurm_id, job.stop) for job in live] == [(ids[-1], 7, Stop.ROLLED_BACK)]
    statements = {sql.partition(" ")[0]: sql for sql in asked if not sql.startswith("pragma")}
    assert [*statements] == ["begin", "update", "select", "commit"]
    assert set(statements.values()) == {sql for sql in asked if not sql.startswith("pragma")}  # triggers repeat theirs
    first, last = jobs.get(ids[0]), jobs.get(ids[-1])
    assert first is not None
    assert last is not None
    assert (first.refused_status, first.refused_why) == (422, "no such account")
    assert (last.refused_status, last.stop_at) == (400, NOW + 1)


@pytest.mark.parametrize("forgotten", [False, True])
def test_of_a_refused_job_ucloud_hears_unless_it_does_not_have_it(store: Store, forgotten: bool) -> None:
    jobs = Jobs(store)
    jobs.accept([new_job("7")])
    jobs.acknowledge(["7"], NOW)
    if forgotten:
        Observations(store).forgotten("7", "UCloud does not have it", NOW)
    jobs.refused("7", 400, "no", NOW)
    row = jobs.get("7")
    assert row is not None
    assert (row.phase, row.refused_why) == (JobPhase.REFUSED if forgotten else JobPhase.ENDED, "no")
    assert [message.content["update"]["status"] for message in Outbox(store).of("7")] == ([] if forgotten else ["no"])


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_event_changes_no_state(store: Store, name: str) -> None:
    with store.writing():
        for number, (before, claimed_until) in enumerate(rows()):
            if before.state is not Lifecycle.ABSENT:
                build(store, str(number), before, claimed_until)
                OTHERS[name](store, str(number))
                assert read(store, str(number), NOW) == before


def test_every_method_of_jobs_is_an_event_or_is_tried_as_none() -> None:
    methods = {
        name
        for part in (Jobs, Observations)
        for name, _ in inspect.getmembers(part, inspect.isfunction)
        if not name.startswith("_")
    }
    events = {event.value.partition("(")[0] for event in JobEvent} - {""}
    assert methods == events | READING | (OTHERS.keys() & methods)


def test_every_transition_can_happen_and_the_last_states_are_final() -> None:
    happen = {(facts.state, event) for facts, _ in rows() for event in JobEvent if expected(facts, event) != facts}
    assert {(each.source, each.event) for each in TRANSITIONS} == happen
    final = (Lifecycle.ENDED, Lifecycle.REFUSED)
    left = {(each.source, each.target) for each in TRANSITIONS if each.source in final and each.target != each.source}
    assert left == {(Lifecycle.ENDED, Lifecycle.REFUSED)}
