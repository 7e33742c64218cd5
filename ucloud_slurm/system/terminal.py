"""Terminals: a command on a pseudo-terminal (pty(7)) of this process, or on one of another user's process behind a socket.

The socket is of packets (unix(7): SOCK_SEQPACKET). To the terminal a packet is INPUT and bytes that are typed, or SIZE
with rows and columns; from it a packet is what the command prints. The end of the connection is the end of both.
"""

import fcntl
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Protocol

from ucloud_slurm.errors import NotNow
from ucloud_slurm.system import ipc, limits

EXIT_SECONDS = 3.0  # that a command has to end after its terminal was hung up, and after each signal
LARGEST_SIZE = 1000  # rows and columns
CHUNK_BYTES = 64 * 1024  # that are read at once
PACKET_BYTES = 4096  # of a packet in either direction
PACKETS = 16  # that are read at once; a user may send any number
INPUT, SIZE = b"i", b"s"
_SIZE = struct.Struct("!HH")


class TerminalError(NotNow):
    """The system gives no pseudo-terminal, or the command cannot be started."""


class Terminal(Protocol):
    """A command on a terminal. No call but :meth:`close` ever waits.

    :ivar descriptor: readable when there is something to read, writable when there is space for input
    """

    descriptor: int

    def read(self) -> bytes:
        """What the command has printed; empty once it has ended.

        :raises BlockingIOError: nothing at the moment
        """

    def write(self, data: "bytes | memoryview") -> int:
        """Types; returns how many bytes were taken.

        :raises BlockingIOError: none at the moment
        :raises OSError: the command has ended
        """

    def resize(self, cols: int, rows: int) -> None:
        """Sets the size of the terminal, between 1 and LARGEST_SIZE.

        :raises BlockingIOError: too many sizes wait for a terminal that takes none
        """

    def close(self) -> None:
        """Ends the command: hangs up, terminates it, then kills it."""


class PtyTerminal:
    """A command that this process has started on a pseudo-terminal. See :class:`Terminal`."""

    def __init__(self, descriptor: int, process: "subprocess.Popen[bytes]") -> None:
        """Takes ownership of the controlling end."""
        self.descriptor = descriptor
        self._process = process
        os.set_blocking(descriptor, False)

    def read(self) -> bytes:
        try:
            return os.read(self.descriptor, CHUNK_BYTES)
        except BlockingIOError:
            raise
        except OSError:  # EIO: the other end of the terminal is closed
            return b""

    def write(self, data: "bytes | memoryview") -> int:
        return os.write(self.descriptor, data[:CHUNK_BYTES])

    def resize(self, cols: int, rows: int) -> None:
        _resize(self.descriptor, cols, rows)

    def close(self) -> None:
        with suppress(OSError):
            os.close(self.descriptor)
        for number in (None, signal.SIGTERM, signal.SIGKILL):
            if number is not None:
                self._signal(number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(EXIT_SECONDS)
                return

    def _signal(self, number: signal.Signals) -> None:
        """Sends a signal to the command and what runs in its process group."""
        with suppress(PermissionError):
            try:
                os.killpg(self._process.pid, number)
            except ProcessLookupError:  # setsid(1) has not made the group yet
                self._process.send_signal(number)


class RemoteTerminal:
    """A command that another user's process has started; it is not trusted, and need not read or write anything.

    See :class:`Terminal`.
    """

    def __init__(self, channel: socket.socket) -> None:
        """Takes ownership of the socket, whose other end the process has."""
        self.descriptor = channel.fileno()
        self._channel = channel
        self._writable = select.poll()
        self._writable.register(channel, select.POLLOUT)

    def read(self) -> bytes:
        data = b""
        for _ in range(PACKETS):
            try:
                piece = ipc.take(self._channel, PACKET_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                if data:
                    break
                raise
            except ipc.MessageError:
                break  # nothing behind it is read
            except ConnectionResetError:
                continue  # the other end was closed with input in it (unix(7)); what was printed before can be read
            if not piece:
                break
            data += piece
        return data

    def write(self, data: "bytes | memoryview") -> int:
        # poll(2) reports space while a quarter of the buffer is used: the rest of it is left to sizes.
        if not self._writable.poll(0):
            raise BlockingIOError
        self._channel.send(INPUT + data[: PACKET_BYTES - 1], socket.MSG_DONTWAIT)
        return min(len(data), PACKET_BYTES - 1)

    def resize(self, cols: int, rows: int) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # the command has ended
            self._channel.send(SIZE + _SIZE.pack(_possible(rows), _possible(cols)), socket.MSG_DONTWAIT)

    def close(self) -> None:
        """See :class:`Terminal`. The process ends the command when it sees the end of the connection.

        It may wait for what the process has sent: see :func:`ucloud_slurm.system.ipc.take`.
        """
        self._channel.close()


def start(argv: Sequence[str], env: Mapping[str, str], cols: int, rows: int, folder: int | None = None) -> PtyTerminal:
    """Starts a command on a terminal of its own.

    :param folder: a descriptor of the folder that it begins in; None: the root of all
    :raises TerminalError: it cannot be started
    """
    try:
        ours, theirs = pty.openpty()
    except OSError as error:
        raise TerminalError(f"the system gives no pseudo-terminal ({error.strerror})") from None
    try:
        _resize(ours, cols, rows)
        # setsid(1): the command gets the signals of its terminal, SIGWINCH and SIGHUP.
        process = subprocess.Popen(
            limits.restoring(["/usr/bin/setsid", "--ctty", *argv]),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=dict(env),
            # The descriptor is still open in the new process when it goes there (proc(5)).
            cwd="/" if folder is None else f"/proc/self/fd/{folder}",
            close_fds=True,
        )
    except OSError as error:
        os.close(ours)
        raise TerminalError(f"the shell cannot be started ({error.strerror})") from None
    finally:
        os.close(theirs)
    return PtyTerminal(ours, process)


def handle_packet(terminal: Terminal, packet: bytes) -> bytes:
    """Does what a packet of a :class:`RemoteTerminal` asks for, on the terminal itself; returns the input in it."""
    if packet[:1] == SIZE and len(packet) == 1 + _SIZE.size:
        rows, cols = _SIZE.unpack(packet[1:])
        terminal.resize(cols, rows)
    return packet[1:] if packet[:1] == INPUT else b""


def _resize(descriptor: int, cols: int, rows: int) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", _possible(rows), _possible(cols), 0, 0))


def _possible(size: int) -> int:
    return min(max(size, 1), LARGEST_SIZE)
