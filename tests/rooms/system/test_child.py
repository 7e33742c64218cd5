"""What a process starts does not stay when it has ended, even stopped."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.sandbox.processes import Process, find, wait_until

PATIENCE = 30.0
LEADER = """
import subprocess, sys
from ucloud_slurm.system.child import continue_group_at_end
shell = continue_group_at_end()
waits = [subprocess.Popen(["/bin/sleep", "600"]) for _ in range(2)]
print(shell.pid, *(each.pid for each in waits), flush=True)
sys.stdin.read()
"""


@contextmanager
def led() -> Iterator[tuple[subprocess.Popen[bytes], Process, Process, Process]]:
    """The leader of a group, the shell that looks after it, and two more of the group."""
    with subprocess.Popen(
        [sys.executable, "-c", LEADER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as leader:
        assert leader.stdout is not None
        found = [process for pid in leader.stdout.readline().split() if (process := find(int(pid)))]
        try:
            yield leader, found[0], found[1], found[2]
        finally:
            leader.kill()
            for process in found[1:]:
                process.signal(signal.SIGKILL)
    wait_until("the shell ends with the last of the group", lambda: not found[0].alive(), seconds=PATIENCE)


def stop(process: Process) -> None:
    """Stops it, also where it is continued all the time."""

    def stopped() -> bool:
        process.signal(signal.SIGSTOP)
        return process.stopped()

    wait_until("it has stopped", stopped, seconds=PATIENCE)


def test_nothing_of_a_group_stays_stopped_when_its_leader_was_killed() -> None:
    with led() as (leader, shell, before, later):
        stop(before)
        leader.kill()
        leader.wait()
        wait_until("it is continued", lambda: not before.stopped(), seconds=PATIENCE)
        stop(later)
        wait_until("it is continued", lambda: not later.stopped(), seconds=PATIENCE)
        assert before.alive()
        assert later.alive()
        assert shell.alive()


def test_no_signal_for_a_group_ends_the_shell_that_looks_after_it() -> None:
    with led() as (leader, shell, first, second):
        for process in (first, second):
            assert os.getpgid(process.pid) == leader.pid
        assert os.getsid(shell.pid) == leader.pid
        assert os.getpgid(shell.pid) == shell.pid
        os.killpg(leader.pid, signal.SIGTERM)
        leader.wait()


def test_ctrl_c_ends_the_leader_also_where_a_script_has_started_it() -> None:
    master, terminal = os.openpty()
    script = '"$@"; :'  # the shell waits, and leads the group of both
    command = ["setsid", "--ctty", "/bin/sh", "-c", script, "sh", sys.executable, "-c", LEADER]
    with os.fdopen(master, "wb", 0) as keyboard, os.fdopen(terminal, "rb", 0) as tty:
        with subprocess.Popen(command, stdin=tty, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as outer:
            assert outer.stdout is not None
            pids = [int(pid) for pid in outer.stdout.readline().split()]
            shell, *waits = [process for pid in pids if (process := find(pid))]
            leader = find(parent(pids[1]))
            assert leader is not None
            try:
                keyboard.write(b"\x03")
                wait_until("the leader ends", lambda: not leader.alive(), seconds=PATIENCE)
            finally:
                for process in (leader, *waits):
                    process.signal(signal.SIGKILL)
                outer.kill()
        wait_until("the shell ends with the last of the group", lambda: not shell.alive(), seconds=PATIENCE)


def parent(pid: int) -> int:
    """The process that has started another."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
