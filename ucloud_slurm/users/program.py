"""One running ``ucloud-slurm-as-user``, as the runner sees it: it acts as a user, who can have it do and say anything."""

import logging
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ucloud_slurm.system import ipc
from ucloud_slurm.system.child import Child
from ucloud_slurm.system.ipc import ConnectionLostError, Message
from ucloud_slurm.system.lean import boot_clock

log = logging.getLogger(__name__)

KEPT_SECONDS = 300.0  # that an idle program is kept while there is room; it ends by itself a little later
CALLER_SECONDS = 5.0  # for a caller of the runner to send its request, and to take the answer
LONGEST_SECONDS = 1000.0  # that a request may take
START_SECONDS = 10.0  # until a program must say who it is
HELLO_BYTES = 1024
ANSWER_BYTES = 1024 * 1024  # of an answer: its user could have it say anything
ERRORS_BYTES = 2000

SUDO_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}


class ProgramStartError(Exception):
    """The program may not run as that user; the text is for the journal."""


class Program(Child):
    """One running program."""

    def __init__(self, user: str, sudo: Path, program: Path) -> None:
        """Starts it.

        :raises ProgramStartError: it cannot be started
        :raises ConnectionLostError: not at the moment
        """
        self.user = user
        self._closing: threading.Thread | None = None
        self.idle_since = time.monotonic()
        try:
            # -n: never ask for a password. The program takes no arguments, and the rule allows none.
            super().__init__([str(sudo), "-n", "-u", user, "--", str(program)], SUDO_ENVIRONMENT, own_session=False)
        except (FileNotFoundError, PermissionError) as error:
            raise ProgramStartError(f"{sudo} cannot be run ({error.strerror})") from None
        except OSError as error:  # such as EAGAIN
            raise ConnectionLostError(f"{sudo} cannot be run at the moment ({error.strerror})") from None

    def greet(self, within: float) -> None:
        """Waits until it says who it is.

        :raises ProgramStartError: sudo or the program said why not, or it runs as another user
        :raises ConnectionLostError: it says nothing
        """
        try:
            hello, _ = ipc.receive(self.channel, HELLO_BYTES, within=min(within, START_SECONDS))
        except ConnectionLostError:
            if printed := self.errors(ERRORS_BYTES).strip():
                raise ProgramStartError(printed) from None
            raise
        if hello.get("user") != self.user:
            raise ProgramStartError("it runs as another user")

    def ask(self, message: Message, given: Sequence[int], within: float) -> Message:
        """Sends a request, with the socket that came with it, and returns the answer, which has no descriptor.

        :raises ConnectionLostError: it is unknown what was done
        """
        until = time.monotonic() + within
        ipc.send(self.channel, message, given, within=within)
        return ipc.receive(self.channel, ANSWER_BYTES, within=until - time.monotonic())[0]

    def close(self) -> None:
        """See :class:`Child`. It never waits: what the user has sent may make the close wait (:func:`ipc.take`)."""
        self._closing = threading.Thread(target=super().close, name="close", daemon=True)
        with suppress(RuntimeError):  # no thread: it is closed when nobody refers to it any more
            self._closing.start()

    def has_ended(self) -> bool:
        """Whether it has ended, and its channel is closed; never waits.

        sudo stops itself when its command is stopped, and sees its end only when it is continued.
        """
        self.resume()
        return super().has_ended() and not (self._closing and self._closing.is_alive())

    def is_usable(self, kept: float = KEPT_SECONDS) -> bool:
        """Whether it still waits for requests, as far as can be seen.

        A stopped sudo keeps the channel open although its command may have been killed.

        :param kept: seconds for which it may have been idle
        """
        return not self.is_readable() and not self.is_stopped() and time.monotonic() - self.idle_since < kept


def second_part(connection: socket.socket, answer: Message, first: Message) -> tuple[Message, float]:
    """Has the caller decide about a submission that has been started; one who has gone has given it up.

    :param answer: to the first part
    :returns: the second part, and the seconds that it may take
    """
    ends = first.get("ends")
    latest = ends if isinstance(ends, (int, float)) and ends <= boot_clock() + LONGEST_SECONDS else 0.0
    try:
        ipc.send(connection, answer, within=CALLER_SECONDS)
        second, _ = ipc.receive(connection, ipc.LARGEST_BYTES, within=latest - boot_clock())
        if second.get("verb") == "go":
            return second, latest - boot_clock()
    except ConnectionLostError as error:
        log.debug("a submission was given up: %s", error)
    return {"form": ipc.FORM, "verb": "drop", "deadline": boot_clock() + CALLER_SECONDS}, CALLER_SECONDS
