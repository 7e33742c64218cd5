"""A submission has a deadline: whoever is stopped before it and continued after it submits nothing, and nothing in part."""

import signal
from pathlib import Path

import pytest

from tests.sandbox.processes import find, wait_until
from tests.support import hostile
from tests.support.runner_site import PATIENCE, Site, sbatch, submit
from ucloud_slurm.errors import NotNow
from ucloud_slurm.system.lean import boot_clock, end_at
from ucloud_slurm.system.process import CommandTimeoutError
from ucloud_slurm.system.waiting_command import CommandNotStartedError, WaitingCommand

SCRIPT = "#!/bin/sh\n" + "# a long script\n" * 30_000


def continued(pids: list[int]) -> None:
    """Continues processes, and waits for the end of the stopped ones."""
    found = [process for pid in pids if (process := find(pid)) is not None]
    for process in found:
        process.signal(signal.SIGCONT)
    wait_until("they have ended", lambda: not any(process.alive() for process in found), seconds=PATIENCE)


@pytest.mark.parametrize("size", [1, 65_537, 3_000_000])
def test_a_submission_arrives_whole(site: Site, size: int) -> None:
    """Also where it is larger than a pipe is, and than any pipe can be."""
    script = "#!/bin/sh\n" + "#" * size
    assert submit(site, script, 20.0) == "1\n"
    assert (site.folder / "submitted").read_text() == script


def test_a_program_that_is_stopped_before_its_request_does_nothing_when_it_is_continued(site: Site) -> None:
    site.behave("ada", "stops_before_request")
    with pytest.raises(NotNow):
        submit(site, SCRIPT, 2.0)
    continued(hostile.pids(site.folder, "ada"))
    assert not (site.folder / "submitted").exists()
    assert not (site.folder / "sbatch.pids").exists()


@pytest.mark.parametrize("stopped", ["kill -STOP $PPID; sleep 1.5; kill -STOP $$", "kill -STOP $PPID; kill -STOP $$"])
def test_a_program_that_is_stopped_with_its_sbatch_submits_nothing_when_both_are_continued(site: Site, stopped: str) -> None:
    with pytest.raises(CommandTimeoutError):
        submit(site, SCRIPT, 0.9, after=stopped)
    continued([*hostile.pids(site.folder, "ada"), *(int(pid) for pid in (site.folder / "sbatch.pids").read_text().split())])
    assert not (site.folder / "submitted").exists()


def test_no_part_of_a_script_is_submitted_when_the_program_is_killed(site: Site) -> None:
    with pytest.raises(CommandTimeoutError):
        submit(site, SCRIPT, 20.0, reads="sleep 0.1; kill -KILL $PPID")
    file = site.folder / "submitted"
    wait_until("it has been submitted", lambda: file.exists() and len(file.read_text()) == len(SCRIPT), seconds=PATIENCE)


def test_what_is_past_its_deadline_does_not_begin(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError):
        end_at(boot_clock() - 0.1)
    # Where the deadline passes between the call and the new process, that process never becomes the command.
    with pytest.raises(CommandNotStartedError, match="was not run"):
        WaitingCommand(["/usr/bin/touch", str(tmp_path / "run")], {}, boot_clock() - 0.1)
    assert not (tmp_path / "run").exists()


def test_a_command_that_reads_nothing_of_its_input_says_why(tmp_path: Path) -> None:
    argv = sbatch(tmp_path, reads="echo no >&2; exit 3")
    command = WaitingCommand(argv, {}, boot_clock() + 20)
    wait_until("it has ended", (tmp_path / "sbatch.pids").exists, seconds=PATIENCE)
    assert command.finish(b"#!/bin/sh\n" * 5, boot_clock() + 20) == (3, "", "no\n")
