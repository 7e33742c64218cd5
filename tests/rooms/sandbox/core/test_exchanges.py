"""Watching what is said."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.rooms.sandbox.core.conftest import CHARGE, PRICE, SLEEPER, UPDATE, Client, FakeProvider, Seen, charge
from tests.sandbox.core import CORE_2021, CoreCrashError, Exchange, SimulatedCore


def test_request_and_answer_are_two_moments(core: SimulatedCore, client: Client, provider: FakeProvider) -> None:
    moments: list[tuple[str, str, str, int, tuple[str, ...]]] = []

    def watch(phase: str, exchange: Exchange) -> None:
        moments.append((phase, exchange.direction, exchange.call, exchange.status, exchange.job_ids))

    def inside(seen: Seen) -> None:
        client.update((seen.body["items"][0]["id"], {"state": "RUNNING"}))

    stop = core.on_exchange(watch)
    provider.during = inside
    job_id = core.submit(**SLEEPER)
    stop()
    client.retrieve(job_id)
    create, update = "jobs.provider.example.create", UPDATE
    assert moments == [
        ("request", "core->provider", create, 0, (job_id,)),
        ("request", "provider->core", update, 0, (job_id,)),
        ("response", "provider->core", update, 200, (job_id,)),
        ("response", "core->provider", create, 200, (job_id,)),
    ]
    assert [exchange.call for exchange in core.exchanges] == [create, update, "jobs.control.retrieve"]
    first = core.exchanges[0]
    assert (first.response, first.delivered, first.username) == ({"responses": [None]}, True, "user")
    assert core.exchanges[2].request == {"id": job_id}


def test_a_hook_runs_before_the_provider_hears_the_answer(core: SimulatedCore, client: Client, job_id: str) -> None:
    heard = threading.Event()
    before: list[tuple[int, bool]] = []
    core.wallets.set("user", 0)
    remove = core.before_answer(CHARGE, lambda exchange: before.append((exchange.status, heard.is_set())))
    client.charge(charge(job_id))
    heard.set()
    client.update((job_id, {"status": "x"}))
    remove()
    client.charge(charge(job_id))
    assert before == [(402, False)]


def test_a_failure_in_a_hook_is_not_silent(make_core: Callable[..., SimulatedCore]) -> None:
    core = make_core()
    core.before_answer(UPDATE, lambda _: pytest.fail("seen"))
    job_id = core.submit(**SLEEPER)
    assert Client(core).update((job_id, {"status": "x"})).status_code == 500
    with pytest.raises(CoreCrashError, match="seen"):
        core.stop()


def test_waiting_ends_with_the_change_and_names_the_state(core: SimulatedCore, client: Client, job_id: str) -> None:
    with pytest.raises(TimeoutError, match="IN_QUEUE"):
        core.wait(job_id, "RUNNING", 0.01)
    thread = threading.Thread(target=client.update, args=((job_id, {"state": "RUNNING"}),))
    thread.start()
    core.wait(job_id, "RUNNING", 5)
    thread.join()
    client.update((job_id, {"state": "FAILURE"}))
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="FAILURE"):
        core.wait(job_id, "SUCCESS", 5)
    assert time.monotonic() - began < 1
    core.wait_until(lambda: core.job(job_id).final, 0.1)
    with pytest.raises(TimeoutError, match="a charge"):
        core.wait_until(lambda: bool(core.job(job_id).charges), 0.01, "a charge")


def test_a_job_that_was_looked_at_does_not_change(core: SimulatedCore, client: Client, job_id: str) -> None:
    before = core.job(job_id)
    client.update((job_id, {"state": "RUNNING"}))
    client.charge(charge(job_id))
    assert (before.state, before.updates, before.charges) == ("IN_QUEUE", [], [])
    after = core.job(job_id)
    after.updates.clear()
    after.charges.clear()
    assert len(core.job(job_id).updates) == len(core.job(job_id).charges) == 1


def test_many_at_once_lose_nothing(core: SimulatedCore, client: Client) -> None:
    ids = core.submit_many([SLEEPER] * 8)
    core.wallets.set("user", 8 * 10 * PRICE)

    def work(job_id: str) -> None:
        for number in range(10):
            client.update((job_id, {"status": str(number)}))
            client.charge(charge(job_id, number))

    threads = [threading.Thread(target=work, args=(job_id,)) for job_id in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(job.updates) for job in core.jobs] == [10] * 8
    assert core.wallets.balance("user") == 0
    assert [exchange.number for exchange in core.exchanges] == list(range(161))
    assert core.protocol_errors == []


def test_an_era_can_be_varied(make_core: Callable[..., SimulatedCore], provider: FakeProvider) -> None:
    make_core(replace(CORE_2021, loses_replicas=False)).submit(**SLEEPER, replicas=2)
    assert provider.at("jobs")[0].body["items"][0]["specification"]["replicas"] == 2
