"""A pass asks UCloud no more often than UCloud wants, says once why, and loses nothing."""

import logging

import pytest
import requests

from tests.conftest import Open, World
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.ucloud.pauses import LONGEST_REFUSAL_SECONDS
from ucloud_slurm.worker.run import Result

pytestmark = pytest.mark.every_era
UPDATE, REFRESH = "jobs.control.update", "auth.providers.refresh"


def calls(world: World, since: int) -> list[str]:
    """What UCloud was asked since then, in order."""
    return [exchange.call for exchange in world.core.exchanges[since:] if exchange.direction == "provider->core"]


def ready(world: World) -> list[str]:
    reasons: list[str] = requests.get(f"{world.url}/readyz", timeout=10).json()["reasons"]
    return [reason for reason in reasons if not reason.startswith("channel")]


def answers(world: World) -> str:
    metrics = requests.get(f"{world.url}/metrics", timeout=10).text.splitlines()
    return next(line for line in metrics if line.startswith('ucloud_slurm_answers{part="ucloud"}')).split()[1]


def started(world: World) -> str:
    """A job that runs, of which UCloud does not know it yet."""
    job_id = world.submit()
    world.work(15)
    world.model.begin_run(world.slurm(job_id))
    world.clock.advance(15)
    return job_id


def test_a_pause_is_kept_by_the_next_passes_and_then_everything_is_delivered(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    job_id, since = started(world), len(world.core.exchanges)
    world.core.faults.answer(UPDATE, 429, retry_after="40")
    assert world.work() is Result.NOT_ALL
    assert calls(world, since).count(UPDATE) == 1
    asked = len(world.core.exchanges)
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            assert world.work(15) is Result.NOT_ALL
        lines = [record.getMessage() for record in caplog.records if "UCloud" in record.getMessage()]
        assert lines == [f"UCloud is not asked: {ready(world)[0].removeprefix('ucloud: ')}"]
        assert "UCloud answered 429 and wants no call for" in lines[0]
    assert calls(world, asked) == []
    assert world.work(15) is Result.DONE
    assert world.told(job_id) == ["RUNNING"]
    assert (ready(world), answers(world)) == ([], "1.0")


@pytest.mark.parametrize("era", ["2021", "2022"], scope="session")
def test_a_charge_that_was_not_sent_in_a_pause_does_not_count_as_repeated(world: World) -> None:
    started(world)
    world.work()
    world.core.faults.answer(UPDATE, 429, retry_after="300")
    job_id = started(world)
    world.work()
    world.work(60)
    rows = world.provider.store.rows("select sends from outbox where kind = 'charge' and outcome is null")
    assert [row["sends"] for row in rows] == [0] * len(rows) != []
    world.work(300)
    assert world.told(job_id) == ["RUNNING"]


def test_a_refused_refresh_token_is_asked_with_once_and_the_line_names_the_file(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    started(world)
    world.core.tokens.revoke_access()
    path = world.provider.config.ucloud.refresh_token_file
    right = path.read_text()
    path.write_text("a-wrong-one")
    since = len(world.core.exchanges)
    for _ in range(3):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            assert world.work(5) is Result.NOT_ALL
        (line,) = [record.getMessage() for record in caplog.records if "UCloud" in record.getMessage()]
        assert line.startswith("UCloud is not asked: UCloud refused the refresh token (40")
        assert f"put the right one into ucloud.refresh_token_file ({path}); the next attempt is in" in line
        assert ready(world) == [line.replace("UCloud is not asked: ", "ucloud: ")]
        assert answers(world) == "0.0"
    assert calls(world, since).count(REFRESH) == 1
    path.write_text(right)
    assert world.work(5) is Result.DONE
    assert (ready(world), answers(world)) == ([], "1.0")


def test_without_the_file_of_the_refresh_token_jobs_are_followed_and_the_file_is_named(world: World) -> None:
    job_id = started(world)
    world.core.tokens.revoke_access()
    path = world.provider.config.ucloud.refresh_token_file
    right = path.read_text()
    path.unlink()
    world.provider = Provider.open(world.provider.config, now=world.clock, scheduler=world.model)
    assert world.work(5) is Result.NOT_ALL
    (reason,) = ready(world)
    assert f"ucloud.refresh_token_file: {path} cannot be read" in reason
    row = world.provider.jobs.get(job_id)
    assert row is not None
    assert row.state == "RUNNING"
    path.write_text(right)
    assert world.work(60) is Result.DONE
    assert world.told(job_id) == ["RUNNING"]


@pytest.mark.parametrize("era", ["2021", "2022"], scope="session")
def test_a_pass_that_could_not_ask_ucloud_says_so_also_with_an_empty_outbox(world: World) -> None:
    world.core.include_resolved = False  # the application of the job has to be asked for
    path = world.provider.config.ucloud.refresh_token_file
    right = path.read_text()
    path.write_text("a-wrong-one")
    job_id = world.submit()
    for _ in range(2):
        assert world.work(10) is Result.NOT_ALL
        assert (world.provider.outbox.waiting(), world.model.of(job_id)) == (0, [])
        assert "refused the refresh token" in ready(world)[0]
    path.write_text(right)
    world.work(15)
    assert len(world.model.of(job_id)) == 1


@pytest.mark.parametrize("era", ["today"], scope="session")
def test_a_day_with_a_refused_refresh_token_asks_seldom_and_loses_nothing(world: World, open_provider: Open) -> None:
    job_id = started(world)
    world.core.tokens.revoke_access()
    path = world.provider.config.ucloud.refresh_token_file
    right = path.read_text()
    path.write_text("a-wrong-one")
    since = len(world.core.exchanges)
    for _ in range(24 * 12):
        assert world.work(300) is Result.NOT_ALL
    assert calls(world, since).count(REFRESH) <= 86400 / LONGEST_REFUSAL_SECONDS + 6
    path.write_text(right)
    world.provider.close()
    world.provider = open_provider()
    assert world.work(15) is Result.DONE
    assert world.told(job_id) == ["RUNNING"]


def test_ucloud_that_is_back_is_noticed_without_a_job(world: World, caplog: pytest.LogCaptureFixture) -> None:
    started(world)
    world.core.faults.outage(True)
    world.work()
    world.provider.store.change("update outbox set outcome = 'parked' where outcome is null")
    with caplog.at_level(logging.INFO):
        assert world.work(15) is Result.NOT_ALL
    assert "UCloud cannot be asked yet: UCloud answered 503" in caplog.text
    world.core.faults.outage(False)
    assert world.work(15) is Result.DONE
    assert ready(world) == []
