"""`cancel`: an administrator ends a job, at every stage of it, also while Slurm does not answer."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.conftest import World
from tests.sandbox.core import SimulatedCore
from ucloud_slurm.cli.context import explained
from ucloud_slurm.cli.main import main
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.store.breaker import SLURM
from ucloud_slurm.store.job_state import JobPhase, Stop

pytestmark = pytest.mark.every_era
Type = Callable[..., Result]


@pytest.fixture
def cancel(world: World, monkeypatch: pytest.MonkeyPatch) -> Type:
    """Types `ucloud-slurm cancel`, by the clock of the test."""

    @contextmanager
    def opened(_path: Path | None) -> Iterator[Provider]:
        with explained():
            yield world.provider

    monkeypatch.setattr("ucloud_slurm.cli.cancel.opened", opened)
    monkeypatch.setattr("ucloud_slurm.system.origin.LOGIN_UID", Path("/nonexistent"))
    monkeypatch.setenv("SUDO_USER", "grace")
    return lambda *words: CliRunner().invoke(main, ["cancel", *words])


def recorded(world: World) -> list[tuple[str, str, str]]:
    return [(act.who, act.kind, act.what) for act in world.provider.acts.listed(0.0, 100)]


def test_a_running_job_ends_and_is_billed(world: World, cancel: Type) -> None:
    job = world.submit()
    world.model.begin_run(world.slurm(job))
    world.work(600)
    done = cancel(job)
    assert (done.exit_code, done.output.startswith(f"Slurm was asked to cancel job {job};")) == (0, True)
    for _ in range(3):
        world.work(60)
    assert (world.row(job).phase, world.row(job).stop) == (JobPhase.ENDED, Stop.CANCELLED)
    assert world.told(job)[-1] == "SUCCESS"
    assert world.core.job(job).updates[-1]["status"] == "The provider has cancelled the job."
    assert world.row(job).used == world.row(job).charged >= 600
    assert recorded(world) == [("grace", "jobs", f"cancelled the job {job}")]
    assert cancel(job).output == f"Job {job} has ended already.\n"
    assert len(recorded(world)) == 1


def test_a_job_that_is_not_at_slurm_never_gets_there(world: World, cancel: Type) -> None:
    world.provider.breaker.open(SLURM, "away", world.clock())
    job = world.submit()
    world.clock.advance(60)
    assert cancel(job, "--why", "Wrong machine.").output == f"Job {job} was not at Slurm yet, and has ended.\n"
    assert world.row(job).phase is JobPhase.ENDED
    world.work(60)
    assert world.model.of(job) == []
    statuses = [update["status"] for update in world.core.job(job).updates]
    assert statuses[-2:] == ["The provider cancels the job: Wrong machine.", "The job was cancelled before it began."]


def test_while_slurm_does_not_answer_the_mark_stays_and_the_worker_cancels(world: World, cancel: Type) -> None:
    job = world.submit()
    world.model.begin_run(world.slurm(job))
    world.work(60)
    world.model.controller = False
    for _ in range(2):
        done = cancel(job)
        assert (done.exit_code, "is marked to end; the worker cancels it" in done.output) == (0, True)
    assert (world.row(job).stop, len(recorded(world))) == (Stop.CANCELLED, 1)
    world.model.controller = True
    for _ in range(3):
        world.work(120)
    assert world.row(job).phase is JobPhase.ENDED


def test_the_first_reason_to_end_stays(world: World, core: SimulatedCore, cancel: Type) -> None:
    job = world.submit()
    world.model.begin_run(world.slurm(job))
    world.work(60)
    world.model.controller = False
    core.terminate(job)
    cancel(job, "--why", "Too late.")
    assert (world.row(job).stop, recorded(world)) == (Stop.TERMINATED, [])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["none"], "There is no job none; `ucloud-slurm jobs --all` lists them."),
        (["{job}", "--why", "a\nb"], "why: should be one line of 1 to 200 characters, without control characters."),
        (["{job}", "--why", ""], "why: should be one line of 1 to 200 characters, without control characters."),
    ],
)
def test_what_cannot_be_done_is_one_sentence(world: World, cancel: Type, words: list[str], said: str) -> None:
    job = world.submit()
    done = cancel(*(word.format(job=job) for word in words))
    assert (done.exit_code, done.stdout, done.stderr) == (1, "", f"ucloud-slurm: {said}\n")
    assert (world.row(job).stop, recorded(world)) == (None, [])
