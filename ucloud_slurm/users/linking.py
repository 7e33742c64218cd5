"""Linking by proof: who types the code of a UCloud user in an account of this host claims it for that account.

The browser of the UCloud user is asked then, and the link is made there (:mod:`ucloud_slurm.web.linking`); the command
asks for the outcome again and again, each time with a connection of its own, so that nobody who waits holds a thread.

The caller is the uid at the other end of the socket, as the kernel knows it, whatever the message says. Messages are
those of :mod:`ucloud_slurm.system.ipc`.
"""

import logging
import os
import pwd
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable

from ucloud_slurm.config import UsersSection
from ucloud_slurm.errors import Conflict, Forbidden, Problem, Refused, TooMany, one_line
from ucloud_slurm.store.codes import Claim, Code, Codes, Outcome
from ucloud_slurm.store.people import People
from ucloud_slurm.system import ipc
from ucloud_slurm.system.acceptor import accept
from ucloud_slurm.system.accounts import Account
from ucloud_slurm.system.ipc import ConnectionLostError, Message, MessageError
from ucloud_slurm.users.mapping import IneligibleUserError, account_of, is_member

log = logging.getLogger(__name__)

CONNECTIONS = 32  # at a time
CONNECTIONS_PER_USER = 4
MESSAGE_BYTES = 1024
MESSAGE_SECONDS = 5.0  # for a message to come, and for its answer to go
INVALID_CODES = 10  # from one account within INVALID_CODES_SECONDS
INVALID_CODES_SECONDS = 60.0
ONE_AT_A_TIME = "One at a time."
CONTESTED = (
    "Somebody has typed this code in another account as well, so it does not work any more. Take the new code that the "
    "page of UCloud shows you, and show it to nobody."
)


class Linking:
    """What ``linkd`` does for the account that calls."""

    def __init__(
        self, users: UsersSection, people: People, codes: Codes, report: Callable[[str], bool], now: Callable[[], float]
    ) -> None:
        """Opens nothing.

        :param report: reports to UCloud whether a user is connected; False when that has to wait
        """
        self._users = users
        self._people = people
        self._codes = codes
        self._report = report
        self._now = now
        self._invalid: dict[int, deque[float]] = {}
        self._lock = threading.Lock()

    def answer(self, uid: int, message: Message) -> Message:
        """Serves a request of the account with that uid.

        :raises Problem: it is refused; the text is for the person who types
        """
        if uid == 0:
            raise Forbidden("root cannot be connected with a user of UCloud. Type this in your own account.")
        match message.get("verb"):
            case "whose":
                account = self._account(uid)
                return self._names(self._code(uid, message, self._codes.of), account)
            case "claim":
                return self._claim(uid, self._account(uid), message)
            case "outcome":
                return self._outcome(uid, message)
            case "release":
                released = self._codes.release(self._claimed(uid, message))
                return {"outcome": "released"} if released else self._outcome(uid, message)
            case "unlink":
                return self._unlink(uid)
        raise Refused("There is no such request.")

    def _names(self, code: Code, account: Account) -> Message:
        before = [str(each) for each in self._people.former(code.username, account.name)]
        return {"username": code.username, "account": account.name, "before": before}

    def _claim(self, uid: int, account: Account, message: Message) -> Message:
        code, now = self._code(uid, message, self._codes.of), self._now()
        known = self._people.of(code.username)
        if known is not None and (known.local_user, known.uid) != (account.name, account.uid):
            raise Conflict(
                f"{code.username} is connected with another account of this cluster. Type ucloud-slurm "
                "unlink there first, or ask the provider's support."
            )
        if known is None and len(self._people.users_of(account.name)) >= self._users.connections_per_account:
            raise Conflict("Your account is connected with another user of UCloud. Type ucloud-slurm unlink first.")
        if not self._codes.claim(code, Claim(account.name, account.uid, os.uname().nodename), now):
            log.warning("%s has typed the code of %s that another account had", account.name, one_line(code.username, 60))
            raise Conflict(CONTESTED)
        return {**self._names(code, account), "seconds": code.left(now)}

    def _outcome(self, uid: int, message: Message) -> Message:
        code = self._claimed(uid, message)
        match code.outcome:
            case Outcome.CONNECTED:
                # The link counts now; UCloud is informed now or at the next pass of the worker.
                return {"outcome": code.outcome, "reported": self._report(code.username)}
            case Outcome.CONTESTED:
                raise Conflict(CONTESTED)
            case Outcome.REJECTED:
                raise Conflict(f"The browser of {code.username} has said that this is not their account. Nothing was changed.")
        return {"outcome": "waiting"}

    def _claimed(self, uid: int, message: Message) -> Code:
        return self._code(uid, message, lambda text, now: self._codes.claimed(text, uid, now))

    def _unlink(self, uid: int) -> Message:
        entry = _entry(uid)
        links = self._people.with_account(entry.pw_name, uid)
        if not links:
            raise Refused("Your account is not connected with a user of UCloud.")
        for link in links:
            self._people.remove(link.username, entry.pw_name, self._now())
            log.info("%s is no longer connected with %s", one_line(link.username, 60), entry.pw_name)
            self._report(link.username)
        return {"usernames": [link.username for link in links], "account": entry.pw_name}

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

    def _code(self, uid: int, message: Message, find: Callable[[str, float], Code | None]) -> Code:
        """The code of a message. An invalid one counts against the account that sends it, not against a user."""
        text, now = message.get("code"), self._now()
        with self._lock:
            invalid = self._invalid.setdefault(uid, deque())
            while invalid and invalid[0] <= now - INVALID_CODES_SECONDS:
                invalid.popleft()
            if len(invalid) >= INVALID_CODES:
                raise TooMany("Too many wrong codes. Please try again in a minute.")
            found = find(text, now) if isinstance(text, str) else None
            if found is None:
                invalid.append(now)
                raise Refused(
                    "This code is not valid, or not any more: each works once, for ten minutes. Please connect again at UCloud."
                )
            if not invalid:
                del self._invalid[uid]
        return found


class LinkServer:
    """Serves a listening socket to all accounts of the host."""

    def __init__(self, linking: Linking) -> None:
        self._linking = linking
        self._count: Counter[int] = Counter()
        self._lock = threading.Lock()

    def serve(self, listener: socket.socket) -> None:
        """Answers until the listener is closed."""
        accept(listener, self._serve, CONNECTIONS, "linking")

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                uid = ipc.peer(connection)
                with self._lock:
                    self._count[uid] += 1
                    count = self._count[uid]
                try:
                    answer = (
                        self._answer(uid, connection) if count <= CONNECTIONS_PER_USER else _refusal(ONE_AT_A_TIME, busy=True)
                    )
                    ipc.send(connection, answer, within=MESSAGE_SECONDS)
                finally:
                    with self._lock:
                        self._count[uid] -= 1
                        if not self._count[uid]:
                            del self._count[uid]
        except (OSError, ConnectionLostError) as error:
            log.debug("a request to linkd was not answered: %s", error)

    def _answer(self, uid: int, connection: socket.socket) -> Message:
        try:
            message, _ = ipc.receive(connection, MESSAGE_BYTES, within=MESSAGE_SECONDS)
            return self._linking.answer(uid, message)
        except MessageError as error:
            return _refusal(f"The request was not understood: {error}.")
        except ConnectionLostError:
            raise
        except Problem as error:
            if error.status >= 500:
                log.error("linkd: a request of the account with uid %d failed: %s", uid, one_line(error.why))
            return _refusal(error.why, busy=error.status >= 500 or error.status == TooMany.status)
        except Exception as error:  # noqa: BLE001  one request must not end the others
            log.error("unexpected %s in linkd: %s", type(error).__name__, one_line(str(error), 200))
            return _refusal("The provider cannot do this at the moment. Please try again later.", busy=True)


def _refusal(why: str, *, busy: bool = False) -> Message:
    """An answer; ``busy``: the same request can be sent again."""
    return {"refused": why, "busy": True} if busy else {"refused": why}


def _entry(uid: int) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        raise Forbidden(f"There is no account with the uid {uid} on this host.") from None
