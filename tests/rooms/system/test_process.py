"""A command has its input, a time limit for its whole session, and nothing of the process that starts it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.sandbox.processes import wait_until
from ucloud_slurm.system import process
from ucloud_slurm.system.process import Command, CommandMissingError, CommandTimeoutError, Finished, run

PATH = {"PATH": "/usr/bin:/bin"}
PATIENCE = 30.0


def shell(script: str, within: float = PATIENCE, stdin: str = "") -> Finished:
    return run(["sh", "-c", script], PATH, within, stdin)


def test_a_command_has_its_input_and_its_outputs_and_status_come_back() -> None:
    assert shell("cat; echo wrong >&2; exit 3", stdin="in\n") == Finished(3, "in\n", "wrong\n")
    assert shell("kill -TERM $$").status == -signal.SIGTERM


def test_what_is_longer_than_a_pipe_passes_whole() -> None:
    text = "0123456789abcde\n" * 100_000
    assert shell("tee /dev/stderr", stdin=text) == Finished(0, text, text)


def test_a_command_that_does_not_read_its_input_comes_to_its_end() -> None:
    assert shell("exec <&-; echo done", stdin="x" * 1_000_000).output == "done\n"


def test_what_is_no_utf8_is_replaced() -> None:
    assert shell(r"printf 'a\377b\r\n'").output == "a�b\r\n"
    assert shell("cat", stdin="a\udc80b").output == "a?b"


def test_a_command_that_is_not_there_says_why() -> None:
    for name, reason in (("/nowhere", "No such file or directory"), ("nowhere", "No such file"), ("/tmp", "Permission denied")):
        with pytest.raises(CommandMissingError, match=f"{name} cannot be run .{reason}"):
            Command([name], PATH)


def test_a_program_is_looked_for_where_the_environment_of_the_command_says(tmp_path: Path) -> None:
    program = tmp_path / "hello"
    program.write_text("#!/bin/sh\necho hello\n")
    program.chmod(0o755)
    assert run(["hello"], {"PATH": f"/nowhere:{tmp_path}"}, PATIENCE).output == "hello\n"


@pytest.mark.parametrize("script", ["sleep 300 & echo $! >&2; sleep 300", "exec >&-; echo $$ >&2; exec 2>&-; exec sleep 300"])
def test_at_its_limit_all_of_a_command_is_killed(tmp_path: Path, script: str) -> None:
    begun, noted = time.monotonic(), tmp_path / "pid"
    with pytest.raises(CommandTimeoutError, match=r"sh gave no answer in 0\.[0-9] s"):
        shell(f"exec 2>{noted}; {script}", within=0.5)
    assert time.monotonic() - begun < PATIENCE
    wait_until("the end of the sleep", lambda: not is_alive(int(noted.read_text())), seconds=PATIENCE)


def is_alive(pid: int) -> bool:
    try:
        return "sleep" in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


def test_a_command_that_is_given_up_is_killed_and_its_status_taken() -> None:
    command = Command(["sleep", "300"], PATH)
    pid = command._pid
    command.kill()
    command.kill()
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def test_the_status_of_one_that_cannot_be_killed_at_once_is_taken_later(monkeypatch: pytest.MonkeyPatch) -> None:
    command = Command(["sleep", "300"], PATH)
    pid = command._pid
    with monkeypatch.context() as patch:  # as one in an uninterruptible sleep
        patch.setattr(os, "killpg", lambda *_: None)
        command.kill()
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    shell("true")
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    assert process._left == []


def test_a_command_has_no_other_descriptor_and_the_signals_of_a_new_process() -> None:
    """Nor one that this process was started with, as gunicorn's listeners are: who has one keeps its port."""
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[3])!r})
from ucloud_slurm.system.process import run
print(*run(["ls", "/proc/self/fd"], {PATH!r}, 30).output.split())
print(run(["grep", "SigIgn", "/proc/self/status"], {PATH!r}, 30).output)
"""
    ran = subprocess.run([sys.executable, "-c", script], pass_fds=[writing], capture_output=True, text=True, check=True)
    os.close(reading)
    os.close(writing)
    descriptors, ignored = ran.stdout.strip().split("\n")
    assert descriptors == "0 1 2 3", "ls opens the last itself"
    own = 0x180000000  # of the C library, which has them ignored (signal(7): the first two real-time signals)
    assert int(ignored.split()[1], 16) & ~own == 0


def test_a_process_without_standard_streams_can_run_a_command(tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = f"""
import os, sys
os.closerange(0, 3)
sys.path.insert(0, {str(Path(__file__).parents[3])!r})
from ucloud_slurm.system.process import run
open({str(out)!r}, "w").write(repr(tuple(run(["sh", "-c", "cat; echo e >&2"], {PATH!r}, 30, "in"))))
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    assert out.read_text() == "(0, 'in', 'e\\n', None)"


def test_without_pidfd_the_end_of_a_command_is_seen_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    assert shell("exec >&- 2>&-; sleep 0.1; exit 4") == Finished(4, "", "")
