"""Terminals and notifications through a process of the user's: nothing that the user does there makes the service wait."""

import fcntl
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.sandbox.processes import find, wait_until
from tests.support.lingering import CLOSE_SECONDS, send_lingering
from ucloud_slurm.system.terminal import INPUT, PACKET_BYTES, SIZE, RemoteTerminal
from ucloud_slurm.users.pump import ENTRIES, GROWS, NotStartedError, run_terminal, run_watch

PATIENCE = 30.0
ENV = {"PATH": "/usr/bin:/bin", "PS1": "$ "}
STUBBORN = "trap '' HUP TERM INT; echo pid $$; while :; do sleep 60; done"
Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """The service's end and the user's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


def opened(pair: Pair, script: str) -> RemoteTerminal:
    """A terminal on which a script runs; only the process of the user has the other end."""
    run_terminal(pair[1].fileno(), ["/bin/sh", "-c", script], ENV, 80, 24)
    pair[1].close()
    return RemoteTerminal(pair[0])


def read_until(terminal: RemoteTerminal, wanted: bytes | None) -> bytes:
    """What is printed until something has been, or, for None, until the end."""
    data, until = b"", time.monotonic() + PATIENCE
    while wanted is None or wanted not in data:
        assert time.monotonic() < until, data
        select.select([terminal.descriptor], [], [], 1)
        with suppress(BlockingIOError):
            piece = terminal.read()
            if not piece:
                assert wanted is None, data
                break
            data += piece
    return data


def holders(marker: str) -> list[int]:
    """The processes with something in their environment or arguments, but this one."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if marker.encode() in (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return [pid for pid in found if pid != os.getpid()]


def children() -> set[str]:
    """This process's children, also those that nobody has waited for."""
    return {pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


def test_a_terminal_is_typed_on_resized_and_ends_with_its_command(pair: Pair) -> None:
    before = children()
    terminal = opened(pair, "stty -echo; stty size; read word; echo got $word; stty size; printf last")
    assert b"24 80" in read_until(terminal, b"\n")
    terminal.resize(132, 43)
    terminal.write(b"hello\n")
    assert read_until(terminal, None).replace(b"\r", b"").splitlines()[-3:] == [b"got hello", b"43 132", b"last"]
    assert terminal.read() == b""
    assert children() <= before, "no zombie"


def test_what_was_printed_last_arrives_though_input_was_left(pair: Pair) -> None:
    terminal = opened(pair, "stty raw -echo; printf ready; read x; head -c 200000 /dev/zero | tr '\\0' x; printf end")
    read_until(terminal, b"ready")
    terminal.write(b"\n")
    with suppress(OSError):
        while True:
            terminal.write(b"y" * PACKET_BYTES)
    assert read_until(terminal, None).endswith(b"x" * 1000 + b"end")


@pytest.mark.parametrize(
    "script", [STUBBORN, f'setsid sh -c "{STUBBORN}" & {STUBBORN}', "yes", "exec 0<&- 1>&- 2>&-; sleep 600"]
)
def test_a_shell_that_will_not_end_is_ended_with_the_service_s_end(
    pair: Pair, script: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("ucloud_slurm.system.terminal.EXIT_SECONDS", 0.3)
    marker = f"MARK={tmp_path}"
    monkeypatch.setitem(ENV, "MARK", str(tmp_path))
    terminal = opened(pair, script)
    poll = select.poll()
    poll.register(terminal.descriptor, select.POLLIN)
    wait_until("it runs, or has ended", lambda: bool(holders(marker) or poll.poll(0)), seconds=PATIENCE)
    terminal.close()
    wait_until("it is gone", lambda: not [pid for pid in holders(marker) if "setsid" not in script], seconds=PATIENCE)
    for pid in holders(marker):  # what left its terminal belongs to the user
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("script", ["yes", "cat /dev/zero"])
def test_output_that_is_not_read_and_input_that_is_not_taken_heap_up_nowhere(pair: Pair, script: str) -> None:
    terminal = opened(pair, f"stty raw -echo; {script}")
    select.select([terminal.descriptor], [], [], PATIENCE)
    taken = 0
    with suppress(BlockingIOError):
        while taken < 16 << 20:
            taken += terminal.write(b"x" * 65536)
    assert taken < 1 << 20
    for number in range(20):
        terminal.resize(100 + number, 30)  # there is space for sizes yet
    read = 0
    with suppress(BlockingIOError):
        for _ in range(1000):
            read += len(terminal.read())
    assert read < 8 << 20


def test_a_user_with_small_limits_has_a_terminal_and_notifications(tmp_path: Path) -> None:
    """In a process of its own, which cannot raise them again."""
    code = f"""
import resource, socket, sys
sys.path[:] = {sys.path!r}
from ucloud_slurm.users.pump import run_terminal, run_watch
for limit, least in ((resource.RLIMIT_NOFILE, 16), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_MEMLOCK, 0),
                     (resource.RLIMIT_STACK, 1 << 20), (resource.RLIMIT_MSGQUEUE, 0), (resource.RLIMIT_SIGPENDING, 1)):
    resource.setrlimit(limit, (least, least))
run_watch(int(sys.argv[1]), sys.argv[3])
run_terminal(int(sys.argv[2]), ["/bin/sh", "-c", "ulimit -n; read x; echo got $x"], {{"PATH": "/bin:/usr/bin"}}, 80, 24)
"""
    watch, their_watch = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with watch, their_watch, ours, theirs:
        os.set_inheritable(their_watch.fileno(), True)
        os.set_inheritable(theirs.fileno(), True)
        argv = [sys.executable, "-c", code, str(their_watch.fileno()), str(theirs.fileno()), str(tmp_path)]
        child = os.posix_spawn(sys.executable, argv, os.environ)
        assert os.waitpid(child, 0)[1] == 0
        theirs.close()
        their_watch.close()
        terminal = RemoteTerminal(ours)
        read_until(terminal, b"16")
        terminal.write(b"it\n")
        assert b"got it" in read_until(terminal, None)
        (tmp_path / "new").touch()
        watch.settimeout(PATIENCE)
        assert watch.recv(1) == ENTRIES


def test_where_no_process_can_be_started_it_says_so(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    before = len(list(Path("/proc/self/fd").iterdir()))
    monkeypatch.setattr(os, "fork", refused)
    with pytest.raises(NotStartedError, match="temporarily unavailable"):
        run_watch(pair[1].fileno(), "/")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_what_cannot_be_begun_is_named(pair: Pair) -> None:
    with pytest.raises(NotStartedError, match="null byte"):
        run_terminal(pair[1].fileno(), ["\0"], ENV, 80, 24)
    with pytest.raises(NotStartedError, match="No such file"):
        run_watch(pair[1].fileno(), "/nowhere")
    with pytest.raises(NotStartedError, match="Not a directory"):
        run_watch(pair[1].fileno(), "/etc/passwd")


def test_changes_of_a_folder_arrive_and_its_end_ends_them(pair: Pair, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    run_watch(pair[1].fileno(), str(folder))
    pair[1].close()
    pair[0].settimeout(PATIENCE)
    with (folder / "log").open("w") as log:
        assert pair[0].recv(1) == ENTRIES
        for _ in range(3):
            log.write("text")
            log.flush()
            assert pair[0].recv(1) == GROWS
    (folder / "log").unlink()
    folder.rmdir()
    assert [pair[0].recv(1), pair[0].recv(1)] == [ENTRIES, b""]


def test_a_watch_ends_with_the_service_s_end_and_survives_who_started_it(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    os.set_inheritable(theirs.fileno(), True)
    code = f"import sys; sys.path[:] = {sys.path!r}; from ucloud_slurm.users.pump import run_watch; "
    code += f"run_watch({theirs.fileno()}, sys.argv[1])"
    child = os.posix_spawn(sys.executable, [sys.executable, "-c", code, str(tmp_path)], os.environ)
    assert os.waitpid(child, 0)[1] == 0
    theirs.close()
    (pid,) = holders(str(tmp_path))
    assert os.getpgid(pid) != os.getpgrp()
    held = {os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir()}  # noqa: PTH115
    assert len(held) <= 3, held
    (tmp_path / "new").touch()
    ours.settimeout(PATIENCE)
    assert ours.recv(1) == ENTRIES
    process = find(pid)
    assert process is not None
    ours.close()
    wait_until("it has ended", lambda: not process.alive(), seconds=PATIENCE)


# -- the user has the other end, and does anything with it ---------------------------------------------------------


def test_nothing_that_is_done_to_the_other_end_makes_a_read_wait(pair: Pair) -> None:
    terminal = RemoteTerminal(pair[0])
    for flags in (0, os.O_NONBLOCK, os.O_APPEND, os.O_ASYNC):
        fcntl.fcntl(pair[1], fcntl.F_SETFL, flags)
        with pytest.raises(BlockingIOError):
            terminal.read()
    pair[1].send(b"event")
    assert terminal.read() == b"event"
    with pytest.raises(BlockingIOError):
        terminal.read()  # somebody else has taken what was announced


def test_descriptors_and_packets_of_any_size_are_bytes_or_nothing(pair: Pair) -> None:
    terminal = RemoteTerminal(pair[0])
    pair[1].send(b"y" * 100_000)
    assert set(terminal.read()) == {ord("y")}
    for _ in range(200):
        pair[1].send(b"z")
    assert len(terminal.read()) < 200, "one terminal does not take all of the time"
    while len(terminal.read()) > 0 and select.select([pair[0]], [], [], 0)[0]:
        pass
    reading, writing = os.pipe()
    before = len(list(Path("/proc/self/fd").iterdir()))
    pair[1].send(b"last")
    for count in (1, 4, 253):
        socket.send_fds(pair[1], [b"x"], [writing] * count)
    os.close(writing)
    assert [terminal.read(), terminal.read(), terminal.read()] == [b"last", b"", b""], "it has ended"
    assert len(list(Path("/proc/self/fd").iterdir())) == before - 1
    terminal.close()
    assert os.read(reading, 1) == b""
    os.close(reading)


def test_a_packet_of_no_bytes_is_the_end(pair: Pair) -> None:
    pair[1].send(b"")
    assert RemoteTerminal(pair[0]).read() == b""


def test_a_descriptor_whose_close_takes_long_makes_no_read_wait(pair: Pair) -> None:
    terminal = RemoteTerminal(pair[0])
    with send_lingering(pair[1]):
        begun = time.monotonic()
        assert terminal.read() == b""
        assert time.monotonic() - begun < CLOSE_SECONDS / 2


def test_a_peer_that_reads_nothing_makes_no_write_and_no_resize_wait(pair: Pair) -> None:
    terminal = RemoteTerminal(pair[0])
    with suppress(BlockingIOError):
        while True:
            terminal.write(b"x" * 1000)
    terminal.resize(99, 33)
    with suppress(BlockingIOError):
        while True:
            terminal.resize(99, 33)
    packets = []
    with suppress(BlockingIOError):
        while True:
            packets.append(pair[1].recv(PACKET_BYTES, socket.MSG_DONTWAIT))
    assert packets[0] == INPUT + b"x" * 1000
    assert packets[-1] == SIZE + b"\0\x21\0\x63"
    pair[1].close()
    terminal.resize(1, 1)
    with pytest.raises(OSError, match="Broken pipe"):
        terminal.write(b"x")
    assert terminal.read() == b""
