"""pyslurm in the program that acts as a user: no job is submitted twice, nothing waits, and sbatch takes over."""

import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.rooms.slurm.stand_ins import FAKE, Bench, submission
from tests.sandbox.processes import find, wait_until
from tests.support import hostile
from tests.support.runner_site import PATIENCE, Site
from ucloud_slurm.errors import InvalidRequestError
from ucloud_slurm.slurm.errors import OutcomeUnknownError, SchedulerUnavailableError
from ucloud_slurm.slurm.pyslurm import translation
from ucloud_slurm.slurm.records import SlurmJobId
from ucloud_slurm.users import own_pyslurm

BY_SBATCH = SlurmJobId(900)


@dataclass
class Ada:
    """A user whose jobs the service has submitted by her own program, which finds the stand-in for pyslurm."""

    site: Site
    bench: Bench

    def submit(self, within: float = 20.0, **more: Any) -> SlurmJobId:
        start = self.site.client("ada").start
        return self.bench.slurm.start(submission(**{"user": "ada"} | more), start).send(within)

    def copies(self) -> list[int]:
        """The copies of her program that are there."""
        found = []
        for pid in hostile.pids(self.site.folder, "ada"):
            children = Path(f"/proc/{pid}/task/{pid}/children")
            found += [int(child) for child in children.read_text().split()] if children.exists() else []
        return found

    def warm(self) -> int:
        """Submits until pyslurm does; returns the copy. What the two have had until then is forgotten."""

        def is_there() -> bool:
            self.submit()
            return bool(self.bench.landed())

        wait_until("pyslurm submits", is_there, seconds=PATIENCE)
        (self.bench.folder / "landed").write_text("")
        (self.bench.folder / "commands.log").unlink(missing_ok=True)
        (copy,) = self.copies()
        return copy


@pytest.fixture
def ada(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ada]:
    monkeypatch.syspath_prepend(FAKE)
    folder = tmp_path / "slurm"
    folder.mkdir()
    bench = Bench(folder)
    assert bench.slurm.ready(PATIENCE), bench.slurm.reason
    yield Ada(site, bench)
    bench.slurm.close()


def kill(pid: int) -> None:
    """Kills a process, and waits until it holds nothing any more; its parent has not noticed."""
    process = find(pid)
    assert process is not None
    process.signal(signal.SIGKILL)
    wait_until("it has ended", lambda: not process.alive(), seconds=PATIENCE)


def test_the_first_jobs_of_a_user_wait_for_no_module_and_later_ones_start_no_sbatch(ada: Ada) -> None:
    assert [ada.submit() for _ in range(own_pyslurm.FIRST - 1)] == [BY_SBATCH] * (own_pyslurm.FIRST - 1)
    assert ada.copies() == []
    ada.warm()
    assert [ada.submit(name=name) for name in ("a", "b")] == [SlurmJobId(1), SlurmJobId(2)]
    first, second = ada.bench.landed()
    assert (first["name"], second["name"]) == ("a", "b")
    assert first["user_id"] == os.getuid()
    assert first["script"] == submission().script
    assert first["environment"]["SLURM_CONF"] == str(ada.bench.conf)
    assert ada.bench.asked() == []
    assert ada.bench.slurm.counts["pyslurm submit as user"] >= 3


def test_what_only_sbatch_can_is_sbatchs(ada: Ada) -> None:
    ada.warm()
    assert ada.submit(more=("--nice=5",)) == BY_SBATCH
    assert ada.bench.landed() == []


def test_a_submission_that_is_given_up_reaches_nobody(ada: Ada) -> None:
    ada.warm()
    started = ada.bench.slurm.start(submission(user="ada"), ada.site.client("ada").start)
    started.abandon()
    assert ada.submit() == SlurmJobId(1)
    assert len(ada.bench.landed()) == 1


def test_a_refusal_is_explained_by_sbatch(ada: Ada) -> None:
    ada.warm()
    ada.bench.order(submit=[2014, "Requested node configuration is not available"])
    assert ada.submit() == BY_SBATCH
    assert [line.split()[0] for line in ada.bench.asked()] == ["sbatch"]


@pytest.mark.parametrize("what", ["exit", "die", "wrong", [5004, "Socket timed out on send/recv operation"]])
def test_a_submission_without_an_answer_is_never_made_again(ada: Ada, what: object) -> None:
    ada.warm()
    ada.bench.order(submit=what)
    with pytest.raises(OutcomeUnknownError):
        ada.submit()
    assert ada.bench.asked() == []
    ada.bench.order()
    if isinstance(what, str):
        assert ada.submit() == BY_SBATCH, "it is not started again at once"


def test_a_module_that_hangs_is_killed_in_time(ada: Ada) -> None:
    copy = ada.warm()
    ada.bench.order(submit="hang")
    with pytest.raises(OutcomeUnknownError):
        ada.submit(1.0)
    wait_until("it has ended", lambda: find(copy) is None, seconds=PATIENCE)
    assert ada.submit() == BY_SBATCH
    assert len(ada.bench.landed()) == 1, "what may have landed is submitted once"


def test_a_copy_that_ended_while_it_was_idle_costs_nothing(ada: Ada) -> None:
    kill(ada.warm())
    assert ada.submit() == BY_SBATCH


def test_a_copy_that_ends_between_start_and_send_leaves_the_job_to_sbatch(ada: Ada) -> None:
    copy = ada.warm()
    started = ada.bench.slurm.start(submission(user="ada"), ada.site.client("ada").preparation("/nonexistent", {}, 20.0).start)
    kill(copy)
    started.abandon()
    preparation = ada.site.client("ada").preparation(str(ada.site.folder / "jobs" / "7"), {}, 20.0)
    started = ada.bench.slurm.start(submission(user="ada"), preparation.start)
    preparation.ready()
    assert started.send(20.0) == BY_SBATCH
    assert ada.bench.landed() == []


def test_a_copy_that_is_stopped_submits_nothing_later(ada: Ada) -> None:
    copy = ada.warm()
    os.kill(copy, signal.SIGSTOP)
    with pytest.raises(OutcomeUnknownError):
        ada.submit(1.0)
    wait_until("it has ended", lambda: find(copy) is None, seconds=PATIENCE)
    assert ada.bench.landed() == []


@pytest.mark.parametrize("seconds", [0.0, 0.3], ids=["about when the job is sent", "when the copy has it"])
def test_a_program_and_its_copy_that_are_both_stopped_submit_nothing_later(ada: Ada, seconds: float) -> None:
    copy = find(ada.warm())
    program = find(hostile.pids(ada.site.folder, "ada")[0])
    assert copy
    assert program
    preparation = ada.site.client("ada").preparation(str(ada.site.folder / "jobs" / "7"), {}, 1.0)
    started = ada.bench.slurm.start(submission(user="ada"), preparation.start)
    preparation.ready()
    outcomes: list[str] = []

    def send() -> None:
        try:
            started.send(1.0)
        except (OutcomeUnknownError, SchedulerUnavailableError) as error:
            outcomes.append(type(error).__name__)

    copy.signal(signal.SIGSTOP)
    sending = threading.Thread(target=send)
    sending.start()
    sending.join(seconds)
    program.signal(signal.SIGSTOP)
    sending.join(PATIENCE)
    kill(program.pid)  # which would kill the copy
    copy.signal(signal.SIGCONT)  # it reads the job first, and then the end of its channel
    wait_until("both have ended", lambda: not copy.alive(), seconds=PATIENCE)
    assert len(outcomes) == 1
    assert ada.bench.landed() == []


def test_a_copy_ends_with_its_program_and_holds_nothing_of_it(ada: Ada) -> None:
    copy = ada.warm()
    held = {str(path.readlink()) for path in Path(f"/proc/{copy}/fd").iterdir()}
    sockets = {name for name in held if name.startswith("socket:")}
    assert len(sockets) == 1
    assert held - sockets == {"/dev/null"} | {name for name in held if name.startswith("pipe:")}
    (program,) = hostile.pids(ada.site.folder, "ada")
    os.kill(program, signal.SIGKILL)
    wait_until("it has ended", lambda: find(copy) is None, seconds=PATIENCE)


def test_a_module_that_cannot_be_used_leaves_everything_to_sbatch(ada: Ada) -> None:
    (ada.bench.folder / "release").write_text("26.05.1")
    assert {ada.submit() for _ in range(6)} == {BY_SBATCH}
    wait_until("the copy has said so", lambda: ada.submit() == BY_SBATCH and ada.copies() == [], seconds=PATIENCE)
    assert ada.bench.landed() == []


def test_a_job_is_described_by_what_pyslurm_is_asked_for_and_nothing_else() -> None:
    known = {one.name for one in translation.DESCRIPTION} - {"script", "user_id", "group_id", "priority"}
    assert known == own_pyslurm.DESCRIBED
    assert own_pyslurm.description({"description": {"name": "x"}}) == {"name": "x"}
    wrongs: tuple[object, ...] = (None, [], {"user_id": 0}, {"script": "x"}, {"container": "x"})
    for wrong in wrongs:
        with pytest.raises(InvalidRequestError):
            own_pyslurm.description({"description": wrong})
