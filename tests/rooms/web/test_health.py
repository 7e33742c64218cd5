"""P10: /readyz says that the passes have stopped, and that Slurm does not answer, also while nothing is under way."""

import re
from pathlib import Path

import pytest
import requests

from tests.conftest import World
from tests.support.model import CONTROLLER_AWAY
from ucloud_slurm.provider.health import LATE_SECONDS, late
from ucloud_slurm.worker.run import Result

UNITS = Path(__file__).parents[3] / "systemd"


def reasons(world: World) -> list[str]:
    answer = requests.get(f"{world.url}/readyz", timeout=10)
    found: list[str] = answer.json()["reasons"]
    assert answer.json()["ready"] == (not found)
    assert answer.status_code == (500 if found else 200)
    return found


def answers(world: World, part: str) -> float:
    lines = requests.get(f"{world.url}/metrics", timeout=10).text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f'ucloud_slurm_answers{{part="{part}"}}'))


def test_before_the_first_pass_the_site_is_not_ready_and_after_it_is(world: World) -> None:
    assert reasons(world) == ["worker: no pass has ended yet; systemctl enable --now ucloud-slurm-worker.timer"]
    assert answers(world, "worker") == 0
    world.work()
    assert (reasons(world), answers(world, "worker")) == ([], 1)


def test_a_timer_that_has_stopped_is_a_reason_until_the_next_pass(world: World) -> None:
    world.work()
    world.clock.advance(LATE_SECONDS)
    assert reasons(world) == []
    world.clock.advance(86400)
    (reason,) = reasons(world)
    assert reason.startswith("worker: no pass has ended for 1450 min; systemctl list-timers ucloud-slurm-worker.timer")
    assert answers(world, "worker") == 0
    world.work()
    assert (reasons(world), answers(world, "worker")) == ([], 1)


@pytest.mark.parametrize(
    ("ended", "is_late"), [(None, True), (0.0, False), (-LATE_SECONDS, False), (-601.0, True), (1e6, False)]
)
def test_a_pass_is_late_after_ten_minutes(ended: float | None, is_late: bool) -> None:
    assert (late(ended, 0.0) is not None) == is_late


def test_late_is_many_times_what_the_timer_waits_and_longer_than_a_pass_may_take() -> None:
    (every,) = re.findall(r"^OnUnitActiveSec=(\d+)s$", (UNITS / "ucloud-slurm-worker.timer").read_text(), re.MULTILINE)
    (longest,) = re.findall(r"^TimeoutStartSec=(\d+)min$", (UNITS / "ucloud-slurm-worker.service").read_text(), re.MULTILINE)
    assert 20 * int(every) <= LATE_SECONDS
    assert 60 * int(longest) + int(every) < LATE_SECONDS


def test_a_slurm_that_does_not_answer_is_noticed_without_a_job_within_two_minutes(world: World) -> None:
    for _ in range(8):
        assert world.work(15) is Result.DONE
    world.model.controller = False
    results = {world.work(15) for _ in range(8)}
    assert Result.NOT_ALL in results
    assert reasons(world) == [f"slurm: {CONTROLLER_AWAY}"]
    assert answers(world, "slurm") == 0
    world.model.controller = True
    assert world.work(15) is Result.DONE
    assert (reasons(world), answers(world, "slurm")) == ([], 1)


def test_without_jobs_slurm_is_asked_once_a_minute(world: World) -> None:
    for _ in range(40):
        world.work(15)
    assert world.model.counts["squeue"] == 10 + 1  # and at the first pass
    assert set(world.model.counts) == {"squeue"}
