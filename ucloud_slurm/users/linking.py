"""Linking by proof: whoever types the code of a user of UCloud in an account of this host has shown to be both.

The daemon believes the kernel, not the message: who calls is the uid at the other end of the socket. A message is one
line of JSON, its answer another.
"""

import json
import logging
import pwd
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from ucloud_slurm.config import UsersSection
from ucloud_slurm.errors import Conflict, Forbidden, Problem, Refused, TooMany, one_line
from ucloud_slurm.store.codes import Code, Codes
from ucloud_slurm.store.people import People, UserLink
from ucloud_slurm.system.accounts import Account
from ucloud_slurm.users.mapping import IneligibleUserError, account_of, is_member
from ucloud_slurm.users.runner import peer

log = logging.getLogger(__name__)

MOST = 32  # connections at a time
MOST_PER_USER = 4
LARGEST = 1024  # bytes of a message
WITHIN = 5.0  # seconds for a message to come, and for its answer to go
LOOK_UP = 5.0  # seconds after which a listener that was closed is seen
WRONG = 10  # codes that are not valid, from one account in a minute
MINUTE = 60.0  # seconds

Tell = Callable[[str], bool]


class Linking:
    """What the daemon decides."""

    def __init__(self, users: UsersSection, people: People, codes: Codes, tell: Tell, now: Callable[[], float]) -> None:
        """Takes what it needs.

        :param tell: tells UCloud whether a user is connected; False when that has to wait
        """
        self._users = users
        self._people = people
        self._codes = codes
        self._tell = tell
        self._now = now
        self._wrong: dict[int, deque[float]] = {}
        self._lock = threading.Lock()

    def answer(self, uid: int, message: dict[str, Any]) -> dict[str, Any]:
        """Does what the account with that uid asks for.

        :raises Problem: it is refused, in words for whoever asks
        """
        if uid == 0:
            raise Forbidden("root cannot be connected with a user of UCloud. Type this in your own account.")
        match message.get("verb"):
            case "whose":
                account = self._account(uid)
                return {"username": self._code(uid, message).username, "account": account.name}
            case "link":
                return self._link(uid, self._account(uid), message)
            case "unlink":
                return self._unlink(uid)
        raise Refused("There is no such request.")

    def _link(self, uid: int, account: Account, message: dict[str, Any]) -> dict[str, Any]:
        code = self._code(uid, message)
        known = self._people.of(code.username)
        if known is not None and (known.local_user, known.uid) != (account.name, account.uid):
            raise Conflict(
                f"{code.username} is connected with another account of this cluster. Type ucloud-slurm "
                "unlink there first, or ask the provider's support."
            )
        link = UserLink(code.username, account.name, account.uid, self._now(), account.name)
        try:
            self._codes.spend(code, self._people, link)
        except Conflict:
            raise Conflict(
                "Your account is connected with another user of UCloud. Type ucloud-slurm unlink first."
            ) from None
        log.info("%s is connected with %s", one_line(code.username, 60), account.name)
        # What is written is true; UCloud hears of it now or at the next pass of the worker.
        return {"username": code.username, "account": account.name, "told": self._tell(code.username)}

    def _unlink(self, uid: int) -> dict[str, Any]:
        entry = _entry(uid)
        gone = self._people.with_account(entry.pw_name, uid)
        if not gone:
            raise Refused("Your account is not connected with a user of UCloud.")
        for link in gone:
            self._people.remove(link.username, entry.pw_name, self._now())
            log.info("%s is not connected with %s any more", one_line(link.username, 60), entry.pw_name)
            self._tell(link.username)
        return {"usernames": [link.username for link in gone], "account": entry.pw_name}

    def _account(self, uid: int) -> Account:
        name = _entry(uid).pw_name
        try:
            account = account_of(name, self._users, uid)
            if not is_member(account, self._users.group):
                raise IneligibleUserError(f"{name} is not in the group {self._users.group}")
        except IneligibleUserError as error:
            log.warning("%s cannot be connected: %s", one_line(name, 40), error.reason)
            raise
        return account

    def _code(self, uid: int, message: dict[str, Any]) -> Code:
        """The code of a message. One that is not valid counts against whoever asks, not against its user."""
        text, now = message.get("code"), self._now()
        with self._lock:
            wrong = self._wrong.setdefault(uid, deque())
            while wrong and wrong[0] <= now - MINUTE:
                wrong.popleft()
            if len(wrong) >= WRONG:
                raise TooMany("Too many wrong codes. Please try again in a minute.")
            found = self._codes.of(text, now) if isinstance(text, str) else None
            if found is None:
                wrong.append(now)
                raise Refused(
                    "This code is not valid, or not any more: each works once, for ten minutes. Please "
                    "connect again at UCloud."
                )
            if not wrong:
                del self._wrong[uid]
        return found


class Server:
    """Serves a listening socket."""

    def __init__(self, linking: Linking) -> None:
        self._linking = linking
        self._free = threading.Semaphore(MOST)
        self._count: dict[int, int] = {}
        self._lock = threading.Lock()

    def serve(self, listener: socket.socket) -> None:
        """Answers until the listener is closed."""
        listener.settimeout(LOOK_UP)
        with ThreadPoolExecutor(MOST, "linking") as callers:
            while True:
                self._free.acquire()  # the others wait with the kernel
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    self._free.release()
                    continue
                except OSError:
                    break
                callers.submit(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                uid = peer(connection)
                with self._lock:
                    count = self._count[uid] = self._count.get(uid, 0) + 1
                try:
                    answer = self._answer(uid, connection) if count <= MOST_PER_USER else _refusal("One at a time.")
                    if answer is not None:
                        connection.settimeout(WITHIN)
                        connection.sendall(json.dumps(answer).encode() + b"\n")
                finally:
                    with self._lock:
                        self._count[uid] -= 1
                        if not self._count[uid]:
                            del self._count[uid]
        except OSError as error:
            log.debug("somebody who wanted to be connected is gone: %s", error)
        finally:
            self._free.release()

    def _answer(self, uid: int, connection: socket.socket) -> dict[str, Any] | None:
        try:
            line = _line(connection)
            return self._linking.answer(uid, _message(line)) if line else None
        except Problem as error:
            if error.status >= 500:
                log.error("the account with the number %d: %s", uid, one_line(error.why))
            return _refusal(error.why)
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001  one request must not end the others
            log.error("unexpected %s in linking: %s", type(error).__name__, one_line(str(error), 200))
            return _refusal("The provider cannot do this at the moment. Please try again later.")


def _refusal(why: str) -> dict[str, Any]:
    return {"refused": why}


def _line(connection: socket.socket) -> bytes:
    """What comes before the end of the line, or of the time; empty when nobody wants anything."""
    until, some = time.monotonic() + WITHIN, b""
    while b"\n" not in some:
        if len(some) >= LARGEST:
            raise Refused("The request is too long.")
        left = until - time.monotonic()
        if left <= 0:
            raise Refused("The request took too long.")
        connection.settimeout(left)
        with suppress(TimeoutError):
            more = connection.recv(LARGEST - len(some))
            if not more:
                return b""
            some += more
    return some.partition(b"\n")[0]


def _message(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise Refused("The request cannot be read.")
    return message


def _entry(uid: int) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        raise Forbidden(f"There is no account with the number {uid} on this host.") from None
