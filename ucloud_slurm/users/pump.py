"""Processes in a user's own account that copy between a socket of the service and a terminal, or changes of a folder.

The service never reads what a user could make block: not the user's terminal, not the user's inotify instance. Each such
process holds one of these and one end of a socket of packets, and ends when the service closes the other end. It belongs
to nobody who waits for it, so that it outlives the program that made it, and the runner.
"""

import os
import select
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from ucloud_slurm.system import terminal
from ucloud_slurm.system.terminal import CHUNK_BYTES, PACKET_BYTES, Terminal, TerminalError

GROWS, ENTRIES = b"g", b"n"  # a known file has changed; there are new ones, or the folder itself has changed
REASON_BYTES = 200

# inotify(7)
_IN_MODIFY, _IN_MOVED_TO, _IN_CREATE, _IN_IGNORED, _IN_ISDIR = 0x2, 0x80, 0x100, 0x8000, 0x40000000
_IN_ONLYDIR, _IN_DONT_FOLLOW = 0x01000000, 0x02000000
_EVENT = struct.Struct("iIII")

Begin = Callable[[socket.socket], Callable[[], None]]


class NotStartedError(Exception):
    """The process could not begin its work; the text says why."""


def run_terminal(descriptor: int, argv: Sequence[str], env: Mapping[str, str], cols: int, rows: int) -> None:
    """Starts a command on a terminal whose other side is a socket of packets (:mod:`ucloud_slurm.system.terminal`).

    :raises NotStartedError: it cannot be started
    """

    def begin(channel: socket.socket) -> Callable[[], None]:
        command = terminal.start(argv, env, cols, rows)
        return lambda: serve_terminal(channel, command)

    detach(descriptor, begin)


def serve_terminal(channel: socket.socket, command: Terminal) -> None:
    """Does :func:`copy_terminal`, and then closes both."""
    try:
        copy_terminal(channel, command)
    finally:
        channel.close()
        command.close()


def run_watch(descriptor: int, folder: str) -> None:
    """Sends GROWS or ENTRIES over a socket of packets when something changes in a folder.

    :raises NotStartedError: the folder cannot be watched
    """

    def begin(channel: socket.socket) -> Callable[[], None]:
        changes = _inotify(folder)
        return lambda: copy_changes(channel, changes)

    detach(descriptor, begin)


def copy_terminal(channel: socket.socket, command: Terminal) -> None:
    """Copies until the command has ended and all that it printed is sent, or the other end of the socket is closed.

    It holds one packet of input and one read of output, and reads no more before these are gone.
    """
    channel.setblocking(False)
    printed = typed = memoryview(b"")
    poll = select.poll()
    while True:
        poll.register(channel, (0 if typed else select.POLLIN) | (select.POLLOUT if printed else 0))
        wanted = (0 if printed else select.POLLIN) | (select.POLLOUT if typed else 0)
        poll.register(command.descriptor, wanted)
        if not wanted:
            poll.unregister(command.descriptor)  # it would report its end again and again
        ready = dict(poll.poll())
        here, there = ready.get(channel.fileno(), 0), ready.get(command.descriptor, 0)
        if here & (select.POLLHUP | select.POLLERR):
            return
        with suppress(BlockingIOError):
            if here & select.POLLIN:
                packet = channel.recv(PACKET_BYTES)
                if not packet:
                    return
                typed = memoryview(terminal.handle_packet(command, packet))
            if typed and there & select.POLLOUT:
                typed = typed[command.write(typed) :]
        if typed and there & (select.POLLHUP | select.POLLERR):
            typed = memoryview(b"")  # nobody reads it any more
        with suppress(BlockingIOError):
            if not printed and there:
                printed = memoryview(command.read())
                if not printed:
                    return
            if printed:
                printed = printed[channel.send(printed[:PACKET_BYTES]) :]


def copy_changes(channel: socket.socket, changes: int) -> None:
    """Sends what is read from an inotify instance until the folder is gone or the other end of the socket is closed."""
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the least: a reader that is behind needs no more of them
    poll = select.poll()
    poll.register(channel, 0)
    poll.register(changes, select.POLLIN)
    while channel.fileno() not in dict(poll.poll()):
        mask, data = 0, os.read(changes, CHUNK_BYTES)
        while data:
            _, what, _, length = _EVENT.unpack_from(data)
            mask, data = mask | what, data[_EVENT.size + length :]
        channel.send(ENTRIES if mask & ~(_IN_MODIFY | _IN_ISDIR) else GROWS)
        if mask & _IN_IGNORED:
            return


def _inotify(folder: str) -> int:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    changes: int = libc.inotify_init1(os.O_CLOEXEC)
    what = _IN_MODIFY | _IN_MOVED_TO | _IN_CREATE | _IN_ONLYDIR | _IN_DONT_FOLLOW
    if changes < 0 or libc.inotify_add_watch(changes, os.fsencode(folder), what) < 0:
        raise NotStartedError(os.strerror(ctypes.get_errno()))
    return changes


def detach(descriptor: int, begin: Begin) -> None:
    """Runs work in a process that has no parent, session or descriptor in common with this one but the socket.

    :param begin: starts the work and returns the rest of it
    :raises NotStartedError: it did not start
    """
    reading, writing = os.pipe()
    try:
        child = os.fork()
    except OSError as error:
        os.close(reading)
        os.close(writing)
        raise NotStartedError(f"no process can be started ({error.strerror})") from None
    if child == 0:
        try:
            _work(descriptor, writing, begin)
        finally:
            os._exit(1)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as reasons:
        reason = reasons.read(REASON_BYTES).decode(errors="replace")
    if reason:
        raise NotStartedError(reason)


def _work(descriptor: int, writing: int, begin: Begin) -> None:
    os.dup2(writing, 1)
    try:
        os.setsid()
        os.dup2(descriptor, 0)
        with os.scandir("/proc/self/fd") as entries:
            numbers = [int(entry.name) for entry in entries]
        for number in numbers:
            if number > 1:
                with suppress(OSError):  # the one that this list was read from
                    os.close(number)
        os.dup2(os.open(os.devnull, os.O_RDWR), 2)
        if os.fork() > 0:
            return
        rest = begin(socket.socket(fileno=0))
    except (OSError, ValueError, TerminalError, NotStartedError) as error:
        os.write(1, str(error)[:REASON_BYTES].encode())
        return
    os.dup2(2, 1)
    with suppress(OSError):
        rest()
