"""A submission has a deadline: whoever is stopped before it and continued after it submits nothing, and nothing in part."""

import signal
from pathlib import Path

import pytest

from tests.sandbox.processes import find, wait_until
from tests.support import hostile
from tests.support.runner_site import PATIENCE, Site
from ucloud_slurm.system.process import CommandTimeoutError, boot_clock, end_at, run_by

SCRIPT = "#!/bin/sh\n" + "# a long script\n" * 30_000


def sbatch(folder: Path, before: str) -> list[str]:
    """A stand-in that submits what it reads, after something else."""
    command = folder / "sbatch"
    command.write_text(f"#!/bin/sh\necho $$ >> {folder}/sbatch.pids\n{before}\ncat > {folder}/submitted\necho 1\n")
    command.chmod(0o755)
    return [str(command), "--parsable"]


def submit(site: Site, before: str, within: float) -> str:
    argv = sbatch(site.folder, before)
    return site.client("ada").start(argv, {"SLURM_CONF": "/etc/passwd"}).finish(SCRIPT, within).output


def continued(pids: list[int]) -> None:
    """Continues processes, and waits for the end of the stopped ones."""
    found = [process for pid in pids if (process := find(pid)) is not None]
    for process in found:
        process.signal(signal.SIGCONT)
    wait_until("they have ended", lambda: not any(process.alive() for process in found), seconds=PATIENCE)


def test_a_submission_arrives_whole(site: Site) -> None:
    assert submit(site, "", 20.0) == "1\n"
    assert (site.folder / "submitted").read_text() == SCRIPT


def test_a_program_that_is_stopped_before_its_request_does_nothing_when_it_is_continued(site: Site) -> None:
    site.behave("ada", "stops_before_request")
    with pytest.raises(CommandTimeoutError):
        submit(site, "", 2.0)
    continued(hostile.pids(site.folder, "ada"))
    assert not (site.folder / "submitted").exists()
    assert not (site.folder / "sbatch.pids").exists()


@pytest.mark.parametrize("stopped", ["kill -STOP $PPID; sleep 1.5; kill -STOP $$", "kill -STOP $PPID; kill -STOP $$"])
def test_a_program_that_is_stopped_with_its_sbatch_submits_nothing_when_both_are_continued(site: Site, stopped: str) -> None:
    with pytest.raises(CommandTimeoutError):
        submit(site, stopped, 0.7)
    continued([*hostile.pids(site.folder, "ada"), *(int(pid) for pid in (site.folder / "sbatch.pids").read_text().split())])
    assert not (site.folder / "submitted").exists()


def test_no_part_of_a_script_is_submitted_when_the_program_is_killed(site: Site) -> None:
    with pytest.raises(CommandTimeoutError):
        submit(site, "kill -KILL $PPID", 20.0)
    file = site.folder / "submitted"
    wait_until("it has been submitted", lambda: file.exists() and len(file.read_text()) == len(SCRIPT), seconds=PATIENCE)


def test_what_is_past_its_deadline_does_not_begin(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError):
        end_at(boot_clock() - 0.1)
    # Where the deadline passes between the call and the new process, that process never becomes the command.
    with pytest.raises(Exception, match="was not run"):
        run_by(boot_clock() - 0.1, ["/usr/bin/touch", str(tmp_path / "run")], {}, "")
    assert not (tmp_path / "run").exists()
