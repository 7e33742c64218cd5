"""Codes with which people prove who they are on this cluster, and what UCloud was told of it."""

import secrets
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256

from ucloud_slurm.store.database import Store

# No letter or digit that looks like another; 12 of these 30 are 58 bits.
ALPHABET = "23456789ABCDEFGHJKMNPQRSTVWXYZ"
LENGTH = 12
GROUP = 4
VALID = 600.0  # seconds that a code may be used in, once
KEPT = 86400.0  # seconds after which nothing is left of a code


class Codes:
    """The table codes. What is kept is the hash of a code; the newest of a user counts."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def make(self, username: str, now: float) -> str:
        """A new code for a user of UCloud, as they type it. Those that they had before count no more."""
        letters = "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
        with self._store.writing() as db:
            self._store.change("delete from codes where username = ? or created_at < ?", [username, now - KEPT])
            db.table("codes").insert({"code": _hashed(letters), "username": username, "created_at": now})
        return "-".join(letters[start : start + GROUP] for start in range(0, LENGTH, GROUP))

    def owner(self, code: str, now: float) -> str | None:
        """The user of UCloud whose code it is, while it may be used."""
        row = self._store.row(
            "select username from codes where code = ? and used_at is null and created_at > ? and created_at <= ?",
            [_hashed(code), now - VALID, now],
        )
        return str(row["username"]) if row else None

    def use(self, code: str, now: float) -> str | None:
        """Uses a code up; returns whose it was, or None when it may not be used (any more)."""
        with self._store.writing():
            username = self.owner(code, now)
            if username is not None:
                self._store.change("update codes set used_at = ? where code = ?", [now, _hashed(code)])
        return username

    def forget(self, username: str) -> None:
        """No code of this user counts any more."""
        self._store.change("delete from codes where username = ?", [username])


class Told(StrEnum):
    """What UCloud believes of a user's connection, as far as we know."""

    CONNECTED = "connected"
    NONE = "none"
    UNKNOWN = "unknown"  # it was told something, and nobody knows whether it heard


@dataclass(frozen=True, slots=True)
class Owed:
    """Something that UCloud must be told.

    :ivar told: what it believes already
    :ivar connected: what it must be told
    """

    username: str
    told: Told
    connected: bool


class Connections:
    """The table connections: the users of whose connection UCloud knows, or is to know.

    What it is to know is whether they are in the table people. So nothing has to be written down when somebody is
    removed there. Those whom an administrator has added are not told: UCloud has not said that there is such a user.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def ask(self, username: str, now: float) -> None:
        """UCloud waits for the connection of this user, whatever it was told before."""
        self._store.change(
            "insert into connections (username, told, changed_at) values (?, 'none', ?) on conflict (username) "
            "do update set told = iif(told = 'none', 'none', 'unknown'), changed_at = ? "
            "where claimed_until is null or claimed_until <= ?",  # else it is being told, and what is missing follows
            [username, now, now, now],
        )

    def cleared(self, username: str) -> None:
        """UCloud itself has given the connection up."""
        self._store.change("delete from connections where username = ?", [username])

    def owed(self, now: float, username: str | None = None) -> list[Owed]:
        """What is to be told, oldest first, but for what somebody is telling.

        :param username: of this user only
        """
        rows = self._store.rows(
            "select username, told, connected from (select connections.*, exists (select 1 from people where "
            "people.username = connections.username) as connected from connections) where told <> iif(connected, "
            "'connected', 'none') and (claimed_until is null or claimed_until <= :now) and "
            "(:username is null or username = :username) order by changed_at, username",
            {"now": now, "username": username},
        )
        return [Owed(row["username"], Told(row["told"]), bool(row["connected"])) for row in rows]

    def claim(self, owed: Owed, now: float, until: float) -> bool:
        """Begins to tell it, unless somebody else has or it has changed. From now on what UCloud believes is unknown.

        :param until: how long it may take
        """
        changed = self._store.change(
            "update connections set told = 'unknown', claimed_until = ? where username = ? and told = ? and "
            "(claimed_until is null or claimed_until <= ?)",
            [until, owed.username, owed.told, now],
        )
        return bool(changed)

    def settle(self, owed: Owed, until: float) -> None:
        """It has been told, unless what is to be told was asked for anew in the meantime.

        :param until: the claim
        """
        told = Told.CONNECTED if owed.connected else Told.NONE
        with self._store.writing():
            self._store.change(
                "update connections set told = ?, claimed_until = null where username = ? and claimed_until = ?",
                [told, owed.username, until],
            )
            self._store.change(
                "delete from connections where username = ? and told = 'none' and not exists "
                "(select 1 from people where people.username = connections.username)",
                [owed.username],
            )

    def postpone(self, owed: Owed, until: float, again: float) -> None:
        """It could not be told; nobody tries before ``again``."""
        self._store.change(
            "update connections set claimed_until = ? where username = ? and claimed_until = ?",
            [again, owed.username, until],
        )


def _hashed(code: str) -> str:
    """How a code is kept: without what people add between its letters, and in capitals."""
    letters = "".join(character for character in code.upper() if character not in " -")
    return sha256(letters.encode("utf-8", "replace")).hexdigest()
