"""What Core does with the updates of a provider."""

from collections.abc import Callable

import pytest

from tests.conftest import Clock
from tests.rooms.sandbox.core.conftest import SLEEPER, Client, Json, charge
from tests.sandbox.core import CORE_2021, CORE_2022, ERAS, CoreEra, SimulatedCore


def test_an_update_moves_the_job_and_is_stamped_by_core(core: SimulatedCore, client: Client, job_id: str, clock: Clock) -> None:
    clock.time += 10
    update = {"state": "RUNNING", "outputFolder": "/1/jobs", "status": "It runs", "timestamp": 5}
    answer = client.update((job_id, update))
    assert (answer.status_code, answer.json()) == (200, {})
    job = core.job(job_id)
    assert (job.state, job.output_folder) == ("RUNNING", "/1/jobs")
    assert job.started_at == 1_633_329_786_235
    assert job.updates == [update | {"timestamp": 1_633_329_786_235, "expectedState": None, "expectedDifferentState": None}]
    body = client.retrieve(job_id, includeUpdates="true").json()
    assert body["updates"] == job.updates
    assert body["output"] == {"outputFolder": "/1/jobs"}
    assert body["status"]["expiresAt"] == job.started_at + 600_000


@pytest.mark.parametrize("final", ["SUCCESS", "FAILURE", "EXPIRED"])
def test_a_final_state_is_sticky(core: SimulatedCore, client: Client, job_id: str, final: str) -> None:
    client.update((job_id, {"state": final}))
    for state in ("RUNNING", "SUCCESS", "FAILURE", "EXPIRED"):
        assert client.update((job_id, {"state": state, "outputFolder": "/x"})).status_code == 200
    job = core.job(job_id)
    assert (job.state, job.output_folder, job.started_at) == (final, None, None)
    assert len(job.updates) == 5
    assert [change.state for change in job.states] == ["IN_QUEUE", final]


def test_the_first_running_starts_the_job_and_no_other(core: SimulatedCore, client: Client, job_id: str, clock: Clock) -> None:
    client.update((job_id, {"state": "RUNNING"}))
    started = core.job(job_id).started_at
    clock.time += 60
    client.update((job_id, {"state": "IN_QUEUE"}))
    client.update((job_id, {"state": "RUNNING"}))
    client.update((job_id, {"state": "RUNNING"}))
    job = core.job(job_id)
    assert job.started_at == started
    assert [change.state for change in job.states] == ["IN_QUEUE", "RUNNING", "IN_QUEUE", "RUNNING"]


@pytest.mark.parametrize("condition", [{"expectedState": "RUNNING"}, {"expectedDifferentState": True}])
def test_an_update_that_does_not_suit_is_skipped_silently_and_stays_in_the_history(
    core: SimulatedCore, client: Client, job_id: str, condition: Json
) -> None:
    update = {"state": "IN_QUEUE", "outputFolder": "/x", "status": "again"} | condition
    answer = client.update((job_id, update))
    assert (answer.status_code, answer.json()) == (200, {})
    assert core.job(job_id).output_folder is None
    assert [entry["status"] for entry in core.job(job_id).updates] == ["again"]


def test_an_update_that_suits_its_condition_is_taken(core: SimulatedCore, client: Client, job_id: str) -> None:
    client.update((job_id, {"state": "RUNNING", "expectedDifferentState": True, "expectedState": "IN_QUEUE"}))
    assert core.job(job_id).state == "RUNNING"
    client.update((job_id, {"status": "a word", "outputFolder": "/y", "expectedDifferentState": True}))
    assert (core.job(job_id).state, core.job(job_id).output_folder) == ("RUNNING", "/y")


def test_two_updates_of_a_bulk_are_both_compared_with_the_state_before_it(
    core: SimulatedCore, client: Client, job_id: str
) -> None:
    client.update(
        (job_id, {"state": "RUNNING", "expectedState": "IN_QUEUE"}), (job_id, {"state": "SUCCESS", "expectedState": "IN_QUEUE"})
    )
    assert core.job(job_id).state == "SUCCESS"


def test_one_bad_id_refuses_the_whole_bulk(core: SimulatedCore, client: Client, job_id: str) -> None:
    for bad in ("99999999", "no number"):
        answer = client.update((job_id, {"state": "RUNNING"}), (bad, {"state": "RUNNING"}))
        assert answer.status_code == 400
        assert answer.json() == {"why": "Unable to use all requested resources", "errorCode": None}
        assert client.charge(charge(job_id), charge(bad)).status_code == 400
    job = core.job(job_id)
    assert (job.state, job.updates, job.charges) == ("IN_QUEUE", [], [])
    assert core.protocol_errors == []


def test_a_new_time_allocation_counts_from_the_start_and_is_what_the_job_has(make_core: Callable[..., SimulatedCore]) -> None:
    core = make_core(CORE_2022)
    client = Client(core)
    job_id = core.submit(**SLEEPER)
    client.update((job_id, {"state": "RUNNING", "newTimeAllocation": 90_061_000}))
    job = core.job(job_id)
    assert job.started_at is not None
    assert job.expires_at == job.started_at + 90_061_000
    told = client.retrieve(job_id, includeUpdates="true").json()
    assert told["specification"]["timeAllocation"] == {"hours": 25, "minutes": 1, "seconds": 1}
    assert told["status"]["expiresAt"] == job.expires_at
    assert told["updates"][0]["newTimeAllocation"] == 90_061_000
    asked = told["status"]["jobParametersJson"]["request"]["timeAllocation"]
    assert asked == {"hours": 0, "minutes": 10, "seconds": 0}
    assert core.protocol_errors == []


@pytest.mark.parametrize(("key", "value"), [("newTimeAllocation", 30 * 60_000), ("allowRestart", True), ("newMounts", [])])
def test_what_core_of_2021_does_not_know_yet_is_ignored_and_noted(
    make_core: Callable[..., SimulatedCore], key: str, value: object
) -> None:
    for era in (CORE_2021, CORE_2022):
        core = make_core(era)
        job_id = core.submit(**SLEEPER)
        answers = [Client(core).update((job_id, {"state": "RUNNING", key: said})) for said in (None, value)]
        assert [answer.status_code for answer in answers] == [200, 200]
        sentence = f"jobs.control.update: items[0].update.{key} is a key that UCloud of 2021 does not know"
        assert core.protocol_errors == ([sentence] if era is CORE_2021 else [])


def test_core_of_2021_keeps_the_time_that_was_asked_for(core: SimulatedCore, client: Client, job_id: str) -> None:
    client.update((job_id, {"state": "RUNNING", "newTimeAllocation": 30 * 60_000}))
    job = core.job(job_id)
    assert job.started_at is not None
    assert job.expires_at == job.started_at + 10 * 60_000
    told = client.retrieve(job_id, includeUpdates="true").json()
    assert told["specification"]["timeAllocation"] == {"hours": 0, "minutes": 10, "seconds": 0}
    assert "newTimeAllocation" not in told["updates"][0]


@pytest.mark.parametrize("era", ERAS.values(), ids=ERAS)
def test_suspended_is_a_state_since_2022(make_core: Callable[..., SimulatedCore], era: CoreEra) -> None:
    core = make_core(era)
    job_id = core.submit(**SLEEPER)
    answer = Client(core).update((job_id, {"state": "SUSPENDED"}))
    known = era.has_suspended
    assert (answer.status_code, core.job(job_id).state) == ((200, "SUSPENDED") if known else (400, "IN_QUEUE"))
    assert not core.job(job_id).final
    assert ("SUSPENDED" in "".join(core.protocol_errors)) is not known


def test_a_lost_job_is_unknown(core: SimulatedCore, client: Client, job_id: str) -> None:
    core.lose(job_id)
    assert client.retrieve(job_id).status_code == 404
    assert client.update((job_id, {"state": "RUNNING"})).status_code == 400
