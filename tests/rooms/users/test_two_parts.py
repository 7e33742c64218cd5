"""A submission in two parts: whatever happens between them, there is one Slurm job or none, and no folder without a job."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.sandbox.processes import find, wait_until
from tests.support import hostile
from tests.support.runner_site import PATIENCE, Site, sbatch
from ucloud_slurm.errors import NotNow, StorageFullError
from ucloud_slurm.system import deadline, ipc
from ucloud_slurm.system.ipc import Message
from ucloud_slurm.system.lean import boot_clock
from ucloud_slurm.system.process import CommandTimeoutError, Preparation, Started
from ucloud_slurm.system.waiting_command import CommandNotStartedError, WaitingCommand
from ucloud_slurm.users import impersonation, runner
from ucloud_slurm.users.impersonation import ImpersonationUnavailableError, RunnerClient, RunnerUnavailableError

ENVIRONMENT = {"SLURM_CONF": "/etc/passwd"}
SCRIPT = "#!/bin/sh\n"


def begin(site: Site, within: float = 20.0, script: str = SCRIPT, *, after: str = "") -> tuple[Preparation, Started]:
    """The first part, of job 7 of ada's; the command waits."""
    preparation = site.client("ada").preparation(str(jobs(site) / "7"), {"job.sh": script}, within)
    command = preparation.start(sbatch(site.folder, after=after), ENVIRONMENT)
    preparation.ready()
    return preparation, command


def jobs(site: Site) -> Path:
    return site.folder / "jobs"


def made(site: Site) -> list[str]:
    """What is where folders of jobs are made."""
    return sorted(path.name for path in jobs(site).iterdir()) if jobs(site).exists() else []


def program(site: Site) -> int:
    (pid,) = hostile.pids(site.folder, "ada")
    return pid


def nothing_is_left(site: Site) -> None:
    file = site.folder / "sbatch.pids"
    pids = [int(pid) for pid in file.read_text().split()] if file.exists() else []
    wait_until("sbatch has ended", lambda: not any(alive(pid) for pid in pids), seconds=PATIENCE)
    wait_until("no folder is left", lambda: made(site) == [], seconds=PATIENCE)
    assert not (site.folder / "submitted").exists()


def test_a_job_is_sent_in_one_connection_and_its_folder_is_there_before_it(site: Site) -> None:
    _, command = begin(site, after=f"cat {jobs(site)}/7/job.sh > {site.folder}/seen")
    assert made(site) != ["7"], "it has a name of its own until the job is sent"
    assert command.finish(SCRIPT, 20.0).output == "1\n"
    assert made(site) == ["7"]
    assert (site.folder / "seen").read_text() == (site.folder / "submitted").read_text() == SCRIPT
    assert (jobs(site) / "7").stat().st_mode & 0o777 == 0o700
    assert (jobs(site) / "7" / "job.sh").stat().st_mode & 0o777 == 0o600


def test_a_runner_that_takes_nothing_keeps_a_call_for_no_longer_than_it_has(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as runner_socket:
        runner_socket.bind(str(tmp_path / "runner.sock"))
        runner_socket.listen(1)
        client = RunnerClient(tmp_path / "runner.sock", "ada")
        large, begun = {"job.sh": "#" * 2**22}, time.monotonic()
        with deadline.ending(begun + 0.2), pytest.raises(RunnerUnavailableError, match="did not take the request"):
            client.preparation("/jobs/7", large, 20.0).start(["/usr/bin/sbatch"], ENVIRONMENT)
        assert time.monotonic() - begun < impersonation.QUICK_SECONDS - 1


def test_who_gives_up_leaves_nothing_and_the_program_serves_the_next(site: Site) -> None:
    _, command = begin(site)
    command.kill()
    nothing_is_left(site)
    assert begin(site)[1].finish(SCRIPT, 20.0).output == "1\n"
    assert hostile.pids(site.folder, "ada") == [program(site)]


CALLER = """
import os, signal, sys
from pathlib import Path
from ucloud_slurm.users.impersonation import RunnerClient
preparation = RunnerClient(Path(sys.argv[1]), "ada").preparation(sys.argv[2], {"job.sh": "x"}, 20.0)
command = preparation.start([sys.argv[3], "--parsable"], {"SLURM_CONF": "/etc/passwd"})
preparation.ready()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_service_that_is_killed_before_it_sends_has_no_job(site: Site) -> None:
    argv = [sys.executable, "-c", CALLER, str(site.path), str(jobs(site) / "7"), sbatch(site.folder)[0]]
    assert subprocess.run(argv, check=False).returncode == -signal.SIGKILL
    nothing_is_left(site)


def test_a_program_that_is_killed_before_the_job_is_sent_has_submitted_nothing(site: Site) -> None:
    _, command = begin(site)
    os.kill(program(site), signal.SIGKILL)
    wait_until("sbatch has seen the end of its input", (site.folder / "empty").exists, seconds=PATIENCE)
    with pytest.raises(NotNow, match="did nothing"):
        command.finish(SCRIPT, 20.0)
    assert not (site.folder / "submitted").exists()


def test_a_program_that_is_stopped_before_the_job_is_sent_submits_nothing_later(site: Site) -> None:
    _, command = begin(site, 1.0)
    process = find(program(site))
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)
    with pytest.raises(CommandTimeoutError):
        command.finish(SCRIPT, 20.0)
    process.signal(signal.SIGCONT)
    wait_until("it has ended", lambda: not process.alive(), seconds=PATIENCE)
    wait_until("sbatch has ended", lambda: not alive(sbatch_pid(site)), seconds=PATIENCE)
    assert not (site.folder / "submitted").exists()


def sbatch_pid(site: Site) -> int:
    return int((site.folder / "sbatch.pids").read_text())


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def alive(pid: int) -> bool:
    process = find(pid)
    return process is not None and process.alive()


@pytest.mark.parametrize("behaviour", ["waits_and_has_ended", "waits_twice"])
def test_a_program_that_does_not_wait_is_not_sent_the_job(site: Site, behaviour: str) -> None:
    site.behave("ada", behaviour)
    _, command = begin(site)
    if behaviour == "waits_and_has_ended":
        wait_until("it has ended", lambda: not alive(program(site)), seconds=PATIENCE)
    with pytest.raises(NotNow, match="did nothing"):
        command.finish(SCRIPT, 20.0)


@pytest.mark.parametrize("behaviour", ["waits_and_dies", "waits_always"])
def test_what_a_program_did_that_had_the_job_and_gives_no_answer_is_unknown(site: Site, behaviour: str) -> None:
    site.behave("ada", behaviour)
    _, command = begin(site)
    with pytest.raises(CommandTimeoutError):
        command.finish(SCRIPT, 20.0)


def test_the_callers_own_time_is_no_silence_of_the_program(site: Site) -> None:
    begun = time.monotonic()
    _, command = begin(site)
    os.kill(program(site), signal.SIGKILL)
    wait_until("the caller has taken its time", lambda: time.monotonic() > begun + 2 * runner.SILENCE_SECONDS, seconds=PATIENCE)
    with pytest.raises(NotNow):
        command.finish(SCRIPT, 20.0)
    wait_until("it is over", lambda: not site.runner._requests, seconds=PATIENCE)
    assert site.runner._silent == {}


@contextmanager
def asked(site: Site) -> Iterator[Callable[[Message], Message]]:
    """Ada's program without the runner."""
    ours, theirs = socket.socketpair()
    with ours, theirs, subprocess.Popen([str(site.folder / "sudo"), "-n", "-u", "ada"], stdin=theirs.fileno()):
        theirs.close()
        ipc.receive(ours, 1024, within=PATIENCE)

        def ask(message: Message) -> Message:
            ipc.send(ours, {"form": ipc.FORM, "deadline": boot_clock() + 20} | message, within=PATIENCE)
            return ipc.receive(ours, 1 << 20, within=PATIENCE)[0]

        yield ask
        ours.close()


def test_nothing_else_is_served_while_a_job_waits(site: Site) -> None:
    argv = sbatch(site.folder)
    first = {"verb": "start", "command": argv[0], "arguments": [], "conf": "/etc/passwd", "ends": boot_clock() + 20}
    with asked(site) as ask:
        assert ask(first | {"folder": str(jobs(site) / "7"), "files": {"job.sh": "x"}}) == {"waits": True}
        assert "refused" in ask({"verb": "trial", "folder": str(site.folder / "x")})
        nothing_is_left(site)
        for second in ("go", "drop"):
            assert "refused" in ask({"verb": second, "stdin": SCRIPT}), "nothing waits"


def test_a_submission_that_is_given_up_removes_nothing_of_another_of_the_same_job(site: Site) -> None:
    _, dropped = begin(site)
    _, sent = begin(site)
    assert sent.finish(SCRIPT, 20.0).output == "1\n"
    (jobs(site) / "7" / "stdout-0.log").write_text("of the job")
    dropped.kill()
    wait_until("it has been dropped", lambda: made(site) == ["7"], seconds=PATIENCE)
    assert sorted(path.name for path in (jobs(site) / "7").iterdir()) == ["job.sh", "stdout-0.log"]


def test_a_folder_that_is_there_keeps_what_is_in_it(site: Site) -> None:
    (jobs(site) / "7").mkdir(parents=True)
    (jobs(site) / "7" / "own").write_text("stays")
    assert begin(site)[1].finish(SCRIPT, 20.0).output == "1\n"
    assert made(site) == ["7"]
    assert sorted(path.name for path in (jobs(site) / "7").iterdir()) == ["job.sh", "own"]


def test_a_folder_that_cannot_be_put_into_its_place_sends_nothing(site: Site) -> None:
    _, command = begin(site)
    (jobs(site) / "7").write_text("a file")
    with pytest.raises(StorageFullError, match="rename what is in its place"):
        command.finish(SCRIPT, 20.0)
    (jobs(site) / "7").unlink()
    nothing_is_left(site)


def test_a_folder_that_cannot_be_made_starts_nothing(site: Site) -> None:
    jobs(site).write_text("a file")
    with pytest.raises(StorageFullError, match="jobs/7 cannot be made"):
        begin(site)
    wait_until("it is over", lambda: not site.runner._requests, seconds=PATIENCE)
    jobs(site).unlink()
    assert made(site) == []
    assert not (site.folder / "submitted").exists()


def test_a_command_that_is_not_there_leaves_nothing(site: Site) -> None:
    preparation = site.client("ada").preparation(str(jobs(site) / "7"), {}, 20.0)
    preparation.start([str(site.folder / "none" / "sbatch")], ENVIRONMENT)
    with pytest.raises(ImpersonationUnavailableError, match=r"none/sbatch cannot be run \(No such file"):
        preparation.ready()
    assert made(site) == []


def test_a_user_who_may_open_no_more_files_is_answered_so_and_nothing_is_left(site: Site) -> None:
    site.client("ada").self_test(str(jobs(site) / "7"))  # its program is there, and idle
    _, most = resource.prlimit(program(site), resource.RLIMIT_NOFILE)
    resource.prlimit(program(site), resource.RLIMIT_NOFILE, (8, most))
    with pytest.raises(ImpersonationUnavailableError, match=r"the program that acts as ada failed: .* Too many open files"):
        begin(site)
    nothing_is_left(site)
    resource.prlimit(program(site), resource.RLIMIT_NOFILE, (most, most))
    assert begin(site)[1].finish(SCRIPT, 20.0).output == "1\n"


@contextmanager
def no_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def fork() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fork", fork)
        yield


def test_a_user_who_may_have_no_more_processes_submits_nothing_and_loses_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = descriptors()
    with no_process(monkeypatch), pytest.raises(CommandNotStartedError, match="temporarily unavailable"):
        WaitingCommand(sbatch(tmp_path), {}, boot_clock() + 20)
    assert descriptors() == before


def test_a_program_that_does_not_start_starts_no_submission(site: Site) -> None:
    site.behave("ada", "dies_before_hello")
    with pytest.raises(NotNow):
        begin(site)
    assert made(site) == []


def test_messages_are_json(site: Site) -> None:
    from ucloud_slurm.system import lean

    samples = [{"a": [1, -2.5, None, True, 'é\ud800\0"\\\n']}, {}, {"": {}}, {"n": 10**30}]
    for sample in samples:
        assert json.loads(lean.to_json(sample)) == lean.from_json(lean.to_json(sample)) == sample
        assert lean.to_json(sample) == json.dumps(sample)
    for text in ("", "{", "{} {}", "{}x", " {}", '{"a":}', "[1,]", '"\n"', "nul", "\ufeff{}"):
        with pytest.raises(ValueError, match=r"."):
            lean.from_json(text)
    with pytest.raises(TypeError):
        lean.to_json({"a": object()})
    assert ipc.FORM == 5
