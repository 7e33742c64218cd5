"""Linking by proof: somebody on this host says which user of UCloud they are, with a code that UCloud's page showed.

Who they are here the kernel says (see :mod:`ucloud_slurm.users.linkd`); nothing of what they send is believed but
the code. A code may have been sent by somebody else to trick them: whose it is is asked first.
"""

import logging
import pwd
from collections import deque
from collections.abc import Callable
from typing import Any

from ucloud_slurm.config import UsersSection
from ucloud_slurm.errors import Conflict, Forbidden, Problem, Refused, TooMany, one_line
from ucloud_slurm.store.database import Store
from ucloud_slurm.store.linking import Codes, Connections
from ucloud_slurm.store.people import Link, People
from ucloud_slurm.users.mapping import Unfit, account_of, is_member
from ucloud_slurm.users.rules import Account

log = logging.getLogger(__name__)

WRONG = 10  # codes that one account may get wrong in WINDOW
WINDOW = 60.0  # seconds
LONGEST_CODE = 100  # characters, with everything that people put between the letters
LATER = " UCloud does not answer at the moment; it is told as soon as it does."

Message = dict[str, Any]
Tell = Callable[[str], bool]


class Linking:
    """Answers what people on this host ask. Safe for several threads."""

    def __init__(self, users: UsersSection, store: Store, now: Callable[[], float], tell: Tell) -> None:
        """Keeps the parts.

        :param now: seconds since the epoch
        :param tell: tells UCloud what it is to know about a user; False when that was not possible
        """
        self._users = users
        self._store = store
        self._people = People(store)
        self._codes = Codes(store)
        self._connections = Connections(store)
        self._now = now
        self._tell = tell
        self._wrong: dict[int, deque[float]] = {}

    def answer(self, uid: int, request: Message) -> Message:
        """Answers one request; what is refused has the key ``refused``.

        :param uid: who asks, as the kernel says
        """
        try:
            account = self._account(uid)
            match request.get("do"):
                case "look":
                    return {"account": account.name, "ucloud_user": self._owner(uid, request)}
                case "link":
                    return {"account": account.name, "done": self._link(account, request)}
                case "mine":
                    links = self._people.with_account(account.name)
                    return {"account": account.name, "ucloud_users": [link.username for link in links]}
                case "unlink":
                    return {"account": account.name, "done": self._unlink(account)}
                case _:
                    raise Refused("This is no request that is understood here; is the command of another release?")
        except Problem as problem:
            log.info("uid %d: %s", uid, one_line(problem.why, 200))
            return {"refused": problem.why}

    def _account(self, uid: int) -> Account:
        if uid == 0:
            raise Forbidden("Type this as yourself, not as root: it is the account that is connected.")
        try:
            name = pwd.getpwuid(uid).pw_name
        except KeyError:
            raise Forbidden(f"There is no account with your number {uid} on this host.") from None
        try:
            return account_of(name, self._users, uid)
        except Unfit as error:
            raise Forbidden(f"No job may run as your account: {error.reason}.") from None

    def _owner(self, uid: int, request: Message) -> str:
        code = self._code(uid, request)
        username = self._codes.owner(code, self._now())
        if username is None:
            raise self._miss(uid)
        return username

    def _code(self, uid: int, request: Message) -> str:
        missed = self._wrong.get(uid)
        while missed and missed[0] <= self._now() - WINDOW:
            missed.popleft()
        if missed and len(missed) >= WRONG:
            raise TooMany("You have typed too many wrong codes. Wait a minute.")
        code = request.get("code")
        if not isinstance(code, str) or not 0 < len(code) <= LONGEST_CODE:
            raise self._miss(uid)
        return code

    def _miss(self, uid: int) -> Refused:
        missed = self._wrong.get(uid)
        if missed is None:
            missed = self._wrong.setdefault(uid, deque(maxlen=WRONG))
        missed.append(self._now())
        return Refused("This code is not known, or it is too old, or it was used. Codes work once and for ten minutes; "
                       "get another at UCloud.")  # fmt: skip

    def _link(self, account: Account, request: Message) -> str:
        self._check_group(account)
        code = self._code(account.uid, request)
        now = self._now()
        with self._store.writing():
            username = self._codes.owner(code, now)
            if username is None:
                raise self._miss(account.uid)
            before = self._people.of(username)
            same = before is not None and (before.local_user, before.uid) == (account.name, account.uid)
            if before is not None and not same:
                self._replace(before, account, now)
            if not same:
                self._add(Link(username, account.name, account.uid, now, account.name))
            self._codes.use(code, now)
            self._connections.ask(username, now)
        log.info("%s is connected with %s (uid %d)", one_line(username, 80), account.name, account.uid)
        sentence = f"{username} is {'already ' if same else ''}connected with {account.name}."
        return sentence + ("" if self._tell(username) else LATER)

    def _check_group(self, account: Account) -> None:
        group = self._users.group
        if not is_member(account, group):
            raise Forbidden(f"Your account is not in the group {group}, whose members jobs may run as. Ask the "
                            f"administrator to type: gpasswd --add {account.name} {group}")  # fmt: skip

    def _replace(self, before: Link, account: Account, now: float) -> None:
        """An account that was made anew under its old name takes the place of the old one; no other does."""
        if before.local_user != account.name:
            raise Conflict(f"{before.username} is connected with another account, {before.local_user}. Type "
                           "`ucloud-slurm unlink` as that account first, or ask the administrator.")  # fmt: skip
        self._people.remove(before.username, account.name, now)

    def _add(self, link: Link) -> None:
        others = self._people.with_account(link.local_user)
        if others:
            raise Conflict(f"Your account is connected with {others[0].username} already. Type `ucloud-slurm unlink` "
                           "first, or ask the administrator.")  # fmt: skip
        self._people.add([link])

    def _unlink(self, account: Account) -> str:
        links = self._people.with_account(account.name)
        if not links:
            raise Refused(f"No user of UCloud is connected with {account.name}.")
        with self._store.writing():
            for link in links:
                self._people.remove(link.username, account.name, self._now())
                self._codes.forget(link.username)
        log.info("%s gave %d connections up", account.name, len(links))
        told = [self._tell(link.username) for link in links]
        names = " and ".join(link.username for link in links)
        return f"{names} cannot start jobs as {account.name} any more." + ("" if all(told) else LATER)
