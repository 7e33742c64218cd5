"""P10: an administrator sees how long things take and how old they are, whichever process of the service answers."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import START, Clock, Open, Serve, World, configuration
from tests.sandbox.core import SimulatedCore
from tests.sandbox.processes import wait_until
from tests.sandbox.site import PRODUCTS, free_port, toml
from tests.support.database import mark_restored
from tests.support.factories import job_data
from ucloud_slurm.errors import Misconfigured
from ucloud_slurm.slurm.scheduler import Scheduler
from ucloud_slurm.store.fence import LEASE_SECONDS, Fence, Instant, Permit
from ucloud_slurm.store.hooks import MOST_ATTEMPTS
from ucloud_slurm.store.people import UserLink
from ucloud_slurm.ucloud.core import Core
from ucloud_slurm.ucloud.pauses import LONGEST_REFUSAL_SECONDS
from ucloud_slurm.web.metrics import SLURM_CHANGES, SLURM_QUESTIONS, UCLOUD_CALLS, VARIABLE, Durations

ROOT = Path(__file__).parents[3]
HOOKS = "ucloud_slurm_hook_event"
CREATES = "ucloud_slurm_create_duration_seconds_count"

# A service without Slurm by the test's clock, whose answers say which process they come from.
SERVED = f"""
import os
from pathlib import Path
from ucloud_slurm.app import create_app
from ucloud_slurm.config import read
from ucloud_slurm.provider.context import Provider

app = create_app(provider=Provider.open(read(Path("config.toml")), now=lambda: {START}))


@app.after_request
def name_process(response):
    response.headers["X-Process"] = str(os.getpid())
    return response
"""


def metrics(url: str) -> dict[str, float]:
    """Every sample, by its name and the values of its labels."""
    text = requests.get(f"{url}/metrics", timeout=10).text
    return {
        " ".join((sample.name, *sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_creates_and_the_calls_behind_them_are_measured_however_they_end(world: World) -> None:
    world.submit()
    unknown = job_data("2")
    unknown["status"]["resolvedApplication"] = None  # so that UCloud is asked, which does not have the job
    assert world.core.call("POST", "/ucloud/example/jobs", {"items": [unknown]})[0] == 400
    found = metrics(world.url)
    assert found[CREATES] == 2
    assert found["ucloud_slurm_slurm_call_duration_seconds_count submit"] == 1
    assert found["ucloud_slurm_slurm_call_duration_seconds_count suspend"] == 0
    assert found["ucloud_slurm_ucloud_call_duration_seconds_count job"] == 1
    assert 0 < found["ucloud_slurm_create_duration_seconds_sum"] < 60
    assert found["ucloud_slurm_create_duration_seconds_bucket +Inf"] == 2
    world.work()
    found = {name: number for name, number in found.items() if "_duration_seconds" in name}
    after = metrics(world.url)
    assert found == {name: after[name] for name in found}, "a pass of the worker is not the service"


def test_the_ages_of_the_oldest_message_and_of_the_last_pass_are_shown(world: World) -> None:
    assert metrics(world.url)["ucloud_slurm_outbox_oldest_age_seconds"] == 0
    assert "ucloud_slurm_last_pass_age_seconds" not in metrics(world.url)
    job_id = world.submit()
    world.work()
    world.core.faults.outage(True)
    world.model.begin_run(world.slurm(job_id))
    world.work(5)
    world.clock.advance(30)
    world.work()  # it tries again, and writes no other message
    world.clock.advance(10)
    found = metrics(world.url)
    assert found["ucloud_slurm_outbox_waiting"] > 0
    assert found["ucloud_slurm_outbox_oldest_age_seconds"] == 40
    assert found["ucloud_slurm_last_pass_age_seconds"] == 10
    world.core.faults.outage(False)
    world.work(300)
    found = metrics(world.url)
    assert (found["ucloud_slurm_outbox_oldest_age_seconds"], found["ucloud_slurm_last_pass_age_seconds"]) == (0, 0)


def test_a_message_that_is_refused_for_good_is_shown_until_it_is_accepted(world: World) -> None:
    job_id = world.submit()
    world.model.begin_run(world.slurm(job_id))
    world.core.lose(job_id)
    world.work(1)
    found = metrics(world.url)
    assert (found["ucloud_slurm_outbox_parked"], found["ucloud_slurm_outbox_waiting"]) == (1, 0)
    world.provider.outbox.retry()
    found = metrics(world.url)
    assert (found["ucloud_slurm_outbox_parked"], found["ucloud_slurm_outbox_waiting"]) == (0, 1)


def test_a_refresh_token_that_ucloud_refuses_is_shown_until_it_accepts_one(world: World) -> None:
    world.work(1)
    world.core.tokens.revoke_access()
    path = world.provider.config.ucloud.refresh_token_file
    right = path.read_text()
    path.write_text("a-wrong-one")
    world.model.begin_run(world.slurm(world.submit()))
    world.work(60)
    assert metrics(world.url)["ucloud_slurm_refresh_token_refused"] == 1
    world.work(LONGEST_REFUSAL_SECONDS + 1)
    assert metrics(world.url)["ucloud_slurm_refresh_token_refused"] == 1, "it has refused it once more"
    path.write_text(right)
    world.work(5)
    assert metrics(world.url)["ucloud_slurm_refresh_token_refused"] == 0


def test_calls_of_ucloud_are_counted_by_what_became_of_them(world: World) -> None:
    world.submit()
    prefix = "/ucloud/example/jobs"
    assert world.core.call("POST", prefix, {"items": [job_data("2") | {"specification": None}]})[0] == 400
    assert requests.post(f"{world.url}{prefix}", "{}", timeout=10).status_code == 401
    assert requests.get(f"{world.url}/ucloud/another/jobs", timeout=10).status_code == 404, "no call of UCloud's"
    world.provider.store.change("drop table jobs")
    assert world.core.call("POST", prefix, {"items": [job_data("3")]})[0] == 500
    found = metrics(world.url)
    assert {name.split()[1]: number for name, number in found.items() if name.startswith("ucloud_slurm_calls_total")} == {
        "answered": 1,
        "refused": 1,
        "unauthenticated": 1,
        "failed": 1,
    }


def test_a_database_that_is_behind_is_shown(world: World) -> None:
    assert metrics(world.url)["ucloud_slurm_database_behind"] == 0
    mark_restored(world.provider.store, world.clock())
    assert metrics(world.url)["ucloud_slurm_database_behind"] == 1


def test_events_for_programs_of_the_site_are_counted_where_there_are_hooks(
    core: SimulatedCore, open_provider: Open, serve: Serve, clock: Clock
) -> None:
    provider = open_provider(hooks=[{"events": ["person-connected"], "program": "/program"}])
    url, events = serve(provider), provider.hook_events

    def shown() -> dict[str, float]:
        return {name.removeprefix(HOOKS): number for name, number in metrics(url).items() if name.startswith(HOOKS)}

    assert shown() == {"s waiting": 0, "s failed": 0, "s_oldest_age_seconds": 0}
    provider.people.add([UserLink("Ada#1", "ada", 1001, START, "root")])
    provider.store.change("update hook_events set created_at = ?", [clock()])
    clock.advance(40)
    events.replay(clock())
    assert shown() == {"s waiting": 2, "s failed": 0, "s_oldest_age_seconds": 40}
    for _ in range(MOST_ATTEMPTS):
        events.failed(events.listed(1)[0], "it hangs", clock())
    assert shown() == {"s waiting": 1, "s failed": 1, "s_oldest_age_seconds": 0}


def test_which_of_two_hosts_works_and_the_age_of_the_copy_are_shown_from_what_status_shows(world: World) -> None:
    database, now = world.provider.config.database.path, Instant(world.clock(), world.clock())
    world.provider.store.fence = Fence(database, lambda: Instant(world.clock(), world.clock()))

    def shown(permit: Permit | None) -> dict[str, float]:
        if permit is not None:
            permit.write(database)
        found = metrics(world.url)
        assert ("ucloud_slurm_outbox_waiting" in found) == (permit != other), "a host that stands by has an old database"
        return {
            name.removeprefix("ucloud_slurm_"): number
            for name, number in found.items()
            if number and name.startswith(("ucloud_slurm_lease", "ucloud_slurm_standby"))
        }

    mine = Permit(4, "login1", mine=True, since=now)
    other = mine._replace(holder="login2", mine=False)
    assert shown(None) == {"lease nobody": 1}
    assert shown(mine) == {"lease here": 1}
    assert shown(mine._replace(copied_at=now.wall - 90)) == {"lease here": 1, "standby_copy_age_seconds": 90}
    assert shown(mine._replace(problem="it hangs")) == {"lease nobody": 1}
    assert shown(other) == {"lease elsewhere": 1}
    world.clock.advance(LEASE_SECONDS)
    assert shown(mine) == {"lease nobody": 1}, "it is not renewed"
    other.write(database)
    assert metrics(world.url)["ucloud_slurm_lease nobody"] == 1, "this host has not looked since"


def test_a_site_without_hooks_and_a_second_host_has_no_metrics_of_them(world: World) -> None:
    assert [name for name in metrics(world.url) if re.search("hook|lease|standby", name)] == []


def test_to_show_the_metrics_writes_nothing(core: SimulatedCore, open_provider: Open, serve: Serve) -> None:
    provider = open_provider(hooks=[{"events": ["person-connected"], "program": "/program"}])
    url, path = serve(provider), provider.config.database.path
    metrics(url)
    before = {name.name: name.read_bytes() for name in path.parent.glob(f"{path.name}*") if not name.name.endswith("-shm")}
    metrics(url)
    assert before[f"{path.name}-wal"]
    assert before == {name: (path.parent / name).read_bytes() for name in before}


def test_a_change_counts_that_is_made_by_what_was_loaded_before(world: World) -> None:
    job = world.slurm(world.submit())
    world.model.begin_run(job)
    durations = Durations()
    with durations.measure(world.provider).scheduler.changing() as slurm:
        slurm.suspend(job.run.id, 1.0)
    count = b'ucloud_slurm_slurm_call_duration_seconds_count{call="suspend"} 1.0'
    assert count in durations.exposition()


def test_the_calls_that_are_measured_are_calls_of_both_interfaces() -> None:
    assert {*SLURM_QUESTIONS, *SLURM_CHANGES} - {*dir(Scheduler)} == {"submit"}  # which is the send of what is started
    assert not set(UCLOUD_CALLS) - {*vars(Core)}


def test_a_directory_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("absent", "file"):
        monkeypatch.setenv(VARIABLE, str(tmp_path / name))
        with pytest.raises(Misconfigured, match=rf"{VARIABLE}: .*/{name} is not a directory .*; create it"):
            Durations()


# ---- several processes


@contextmanager
def gunicorn(folder: Path, port: int) -> Iterator[None]:
    """Serves with the processes and hooks of etc/gunicorn.conf.py."""
    command = ["-m", "gunicorn", "--config", str(ROOT / "etc/gunicorn.conf.py"), "--bind", f"127.0.0.1:{port}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), VARIABLE: str(folder / "metrics")}
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, *command, "served:app"], cwd=folder, env=environment, stdout=log, stderr=log
        )
    try:
        wait_until("the service", lambda: answers(port) or process.poll() is not None, seconds=30)
        yield
    finally:
        process.terminate()
        process.wait(20)
    assert "Traceback" not in (folder / "log").read_text()


def answers(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/healthz", timeout=10).ok
    except requests.ConnectionError:
        return False


def create(core: SimulatedCore, port: int) -> int:
    """Has a create refused; gives the process that answered."""
    headers = {"Authorization": f"Bearer {core.tokens.core_token()}"}
    answer = requests.post(f"http://127.0.0.1:{port}/ucloud/example/jobs", "{}", headers=headers, timeout=10)
    assert answer.status_code == 400
    return int(answer.headers["X-Process"])


def test_every_process_shows_what_all_of_them_measured_since_the_start(core: SimulatedCore, tmp_path: Path) -> None:
    port, creates = free_port(), 0
    url = f"http://127.0.0.1:{port}"
    configuration(core, tmp_path)  # writes the key and the token
    tables = {
        "provider": {"id": "example", "url": url},
        "ucloud": {"url": core.url, "refresh_token_file": str(tmp_path / "token"), "public_key_file": str(tmp_path / "key")},
        "database": {"path": str(tmp_path / "test.db")},
        "slurm": {"backend": "commands"},
        "products": [dict(product) for product in PRODUCTS],
    }
    (tmp_path / "config.toml").write_text(toml(tables))
    (tmp_path / "served.py").write_text(SERVED)
    (tmp_path / "metrics").mkdir()
    with gunicorn(tmp_path, port), ThreadPoolExecutor(8) as pool:
        seen: set[int] = set()
        while len(seen) < 2:
            assert creates < 2000, "only one process answers"
            seen |= set(pool.map(lambda _: create(core, port), range(8)))
            creates += 8
        assert {metrics(url)[CREATES] for _ in range(20)} == {creates}
        os.kill(min(seen), signal.SIGTERM)
        wait_until("another process", lambda: len(list((tmp_path / "metrics").glob("histogram_*"))) == 3, seconds=30)
        assert metrics(url)[CREATES] == creates, "what a process has measured stays when it ends"
    with gunicorn(tmp_path, port):
        assert metrics(url)[CREATES] == 0
