"""Core made to fail."""

import threading
import time

import pytest
import requests

from tests.rooms.sandbox.core.conftest import CHARGE, CHARGES, SLEEPER, UPDATE, Client, FakeProvider, charge
from tests.sandbox.core import CoreError, SimulatedCore


def test_a_dropped_answer_leaves_the_work_done(core: SimulatedCore, client: Client, job_id: str) -> None:
    core.faults.drop_answer(CHARGE)
    stale = client.send("POST", CHARGES, None, json={"items": [charge(job_id)]})
    assert stale.status_code == 401
    with pytest.raises(requests.ConnectionError):
        client.charge(charge(job_id))
    assert len(core.job(job_id).charges) == 1
    last = core.exchanges[-1]
    assert (last.call, last.status, last.delivered) == (CHARGE, 200, False)
    assert client.charge(charge(job_id)).json()["duplicateCharges"] == [{"id": job_id}]


def test_the_providers_answer_can_be_lost(core: SimulatedCore, provider: FakeProvider) -> None:
    core.faults.drop_answer("jobs.provider.example.create")
    with pytest.raises(CoreError) as lost:
        core.submit(**SLEEPER)
    assert lost.value.status == 502
    assert core.jobs == []
    assert len(provider.at("jobs")) == 1
    core.submit(**SLEEPER)


def test_an_outage_refuses_everything(core: SimulatedCore, client: Client, job_id: str) -> None:
    core.faults.outage(True)
    assert client.update((job_id, {"state": "RUNNING"})).status_code == 503
    core.faults.outage(True, how="close")
    with pytest.raises(requests.ConnectionError):
        client.update((job_id, {"state": "RUNNING"}))
    assert core.job(job_id).state == "IN_QUEUE"
    core.faults.outage(False)
    assert client.update((job_id, {"state": "RUNNING"})).status_code == 200


def test_canned_answers_do_no_work_and_run_out(core: SimulatedCore, client: Client, job_id: str) -> None:
    core.faults.answer(UPDATE, 429, times=2)
    core.faults.html(UPDATE)
    core.faults.answer(UPDATE, 402, {"why": "x"})
    answers = [client.update((job_id, {"state": "RUNNING"})) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [429, 429, 200, 402]
    assert answers[2].text.startswith("<!DOCTYPE html>")
    assert core.job(job_id).updates == []
    assert client.update((job_id, {"state": "RUNNING"})).json() == {}
    core.faults.answer(UPDATE, 500)
    core.faults.clear()
    assert client.update((job_id, {"status": "x"})).status_code == 200


def test_a_delayed_answer_comes_after_the_work(core: SimulatedCore, client: Client, job_id: str) -> None:
    core.faults.delay(UPDATE, 0.3)
    began = time.monotonic()
    thread = threading.Thread(target=client.update, args=((job_id, {"state": "RUNNING"}),))
    thread.start()
    core.wait(job_id, "RUNNING", 5)
    assert thread.is_alive()
    thread.join()
    assert time.monotonic() - began >= 0.3


def test_a_fault_for_an_unknown_call_is_a_mistake_of_the_test(core: SimulatedCore) -> None:
    for switch in (core.faults.drop_answer, core.faults.html):
        with pytest.raises(ValueError, match=r"jobs\.control\.udpate"):
            switch("jobs.control.udpate")
    with pytest.raises(ValueError, match="update"):
        core.before_answer("update", lambda _: None)
    with pytest.raises(ValueError, match="as-documented"):
        core.charging = "often"  # type: ignore[assignment]


def test_core_comes_back_at_its_old_address(core: SimulatedCore, client: Client, job_id: str) -> None:
    address = core.url
    port = int(address.rsplit(":", 1)[1])
    core.stop()
    with pytest.raises(requests.ConnectionError):
        client.retrieve(job_id)
    core.start(port)
    assert core.url == address
    assert client.retrieve(job_id).status_code == 200
