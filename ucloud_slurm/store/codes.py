"""Codes that link a user of UCloud with the Unix user who types them. Only their hashes are stored."""

import math
import re
import secrets
from dataclasses import dataclass
from hashlib import sha256

from ucloud_slurm.errors import NotFound
from ucloud_slurm.store.people import People, UserLink
from ucloud_slurm.store.sqlite import Store

VALID_SECONDS = 600.0
KEEP_SECONDS = 86400.0  # for which the hash of an old code stays
LENGTH = 12
ALPHABET = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"  # no characters that look alike
GROUP_LENGTH = 4  # between two dashes

assert LENGTH * math.log2(len(ALPHABET)) > 58  # noqa: S101  bits: it cannot be guessed


@dataclass(frozen=True, slots=True)
class Code:
    """A code that is valid, and who asked for it. Times are seconds since the epoch."""

    hash: str
    username: str
    created_at: float


class Codes:
    """The table codes. A code may be typed with dashes and blanks or without, in upper or lower case."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def new(self, username: str, now: float) -> str:
        """Makes a code, with dashes. Earlier codes of the user become invalid."""
        plain = "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
        with self._store.writing() as db:
            self._store.change(
                "delete from codes where (username = ? and used_at is null) or created_at < ?", [username, now - KEEP_SECONDS]
            )
            db.table("codes").insert({"hash": _hash(plain), "username": username, "created_at": now})
        return "-".join(plain[start : start + GROUP_LENGTH] for start in range(0, LENGTH, GROUP_LENGTH))

    def of(self, text: str, now: float) -> Code | None:
        """The code that was typed; None when it is not valid."""
        plain = re.sub(r"[\s-]", "", text).upper()
        if len(plain) != LENGTH or not set(plain) <= set(ALPHABET):
            return None
        row = self._store.row(
            "select hash, username, created_at from codes where hash = ? and used_at is null and created_at > ?",
            [_hash(plain), now - VALID_SECONDS],
        )
        return Code(**row) if row else None

    def spend(self, code: Code, people: People, link: UserLink) -> None:
        """Marks a code as used and links its user; both or neither.

        :raises NotFound: the code has been used
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
