"""Codes that connect a user of UCloud with the account in which they are typed. Only their hashes are kept."""

import math
import re
import secrets
from dataclasses import dataclass
from hashlib import sha256
from typing import Self

from ucloud_slurm.errors import NotFound
from ucloud_slurm.store.people import Link, People
from ucloud_slurm.store.sqlite import Row, Store

VALID = 600.0  # seconds
KEPT = 86400.0  # seconds that the hash of an old code stays
LENGTH = 12
ALPHABET = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"  # nothing that is read as something else
GROUP = 4  # characters between two dashes

assert LENGTH * math.log2(len(ALPHABET)) > 58  # noqa: S101  nobody guesses one


@dataclass(frozen=True, slots=True)
class Code:
    """A code that is valid, and who asked for it. Times are seconds since the epoch."""

    hash: str
    username: str
    created_at: float

    @classmethod
    def read(cls, row: Row) -> Self:
        """The row of the table as a fact."""
        return cls(row["hash"], row["username"], row["created_at"])


class Codes:
    """The table codes. A code is taken as people type it: with dashes and blanks or without, in any case."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def new(self, username: str, now: float) -> str:
        """Makes a code, in groups as it is read. Those that the user had before are not valid any more."""
        plain = "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
        with self._store.writing() as db:
            self._store.change(
                "delete from codes where (username = ? and used_at is null) or created_at < ?", [username, now - KEPT]
            )
            db.table("codes").insert({"hash": _hash(plain), "username": username, "created_at": now})
        return "-".join(plain[start : start + GROUP] for start in range(0, LENGTH, GROUP))

    def of(self, text: str, now: float) -> Code | None:
        """The code that somebody typed; None when it is not valid, or not any more."""
        plain = re.sub(r"[\s-]", "", text).upper()
        if len(plain) != LENGTH or not set(plain) <= set(ALPHABET):
            return None
        row = self._store.row(
            "select * from codes where hash = ? and used_at is null and created_at > ?", [_hash(plain), now - VALID]
        )
        return Code.read(row) if row else None

    def spend(self, code: Code, people: People, link: Link) -> None:
        """Uses a code up and connects its user; both or neither.

        :raises NotFound: somebody has used it
        :raises Conflict: see :meth:`People.add`
        """
        with self._store.writing():
            if not self._store.change(
                "update codes set used_at = ? where hash = ? and used_at is null", [link.added_at, code.hash]
            ):
                raise NotFound("This code has been used.")
            people.add([link])


def _hash(plain: str) -> str:
    return sha256(plain.encode()).hexdigest()
