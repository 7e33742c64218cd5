"""Codes that link a user of UCloud with a Unix user: the page of the UCloud user shows one, the Unix user types it.

The page has a secret of its own, from which its codes are made; neither is stored, only their hashes. Who types the
code claims it. The link is made when the page, which names the account that has claimed it, is answered with yes.
"""

import hmac
import math
import re
import secrets
from enum import StrEnum
from hashlib import sha256
from typing import NamedTuple

from ucloud_slurm.errors import NotFound
from ucloud_slurm.store.people import People, UserLink
from ucloud_slurm.store.sqlite import Store

VALID_SECONDS = 600.0
OUTCOME_SECONDS = 60.0  # longer than the code is valid, its outcome can be asked for
KEEP_SECONDS = 86400.0  # for which the hash of an old code stays
SECRET_BYTES = 24
LENGTH = 12
ALPHABET = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"  # no characters that look alike
GROUP_LENGTH = 4  # between two dashes

assert LENGTH * math.log2(len(ALPHABET)) > 58  # noqa: S101  bits: it cannot be guessed


class Outcome(StrEnum):
    """What has become of a code."""

    CONNECTED = "connected"
    REJECTED = "rejected"  # the page was answered with no
    CONTESTED = "contested"  # a second account has typed it


class Claim(NamedTuple):
    """An account in which somebody has typed a code.

    :ivar host: the login node
    """

    account: str
    uid: int
    host: str


class Code(NamedTuple):
    """A code of a page. Times are seconds since the epoch.

    :ivar username: the user of UCloud
    :ivar round: number of the code on its page
    :ivar other: the account that has typed it after another one
    """

    hash: str
    username: str
    created_at: float
    round: int
    account: str | None
    uid: int | None
    host: str | None
    outcome: str | None
    other: str | None

    @property
    def claim(self) -> Claim | None:
        """Who has claimed it."""
        return None if self.account is None or self.uid is None else Claim(self.account, self.uid, self.host or "")

    @property
    def shown(self) -> str:
        """What an answer to the page is about: this code, and this account."""
        return f"{self.round}-{self.uid}"

    def left(self, now: float) -> float:
        """Seconds for which it is still valid."""
        return self.created_at + VALID_SECONDS - now


_COLUMNS = ", ".join(Code._fields)


class Codes:
    """The table codes. A code may be typed with dashes and blanks or without, in upper or lower case."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def new(self, username: str, now: float) -> str:
        """Makes a page with a code. Earlier codes of the user become invalid.

        :returns: the secret of the page
        """
        secret = secrets.token_urlsafe(SECRET_BYTES)
        with self._store.writing():
            self._store.change(
                "delete from codes where (username = ? and used_at is null) or created_at < ?", [username, now - KEEP_SECONDS]
            )
            self._insert(secret, username, 1, now)
        return secret

    def page(self, secret: str, now: float) -> Code | None:
        """The newest code of a page; None when there is no such page, or not any more, or the user has another one."""
        sql = (
            f"select {_COLUMNS} from codes where page = ?1 and not exists (select 1 from codes newer where newer.username = "
            "codes.username and newer.page <> ?1 and newer.rowid > codes.rowid) order by round desc limit 1"
        )
        row = self._store.row(sql, [_hash(secret)])
        return Code(**row) if row and row["created_at"] > now - VALID_SECONDS else None

    def of(self, text: str, now: float) -> Code | None:
        """The code that was typed; None when it is not valid."""
        sql = f"select {_COLUMNS} from codes where hash = ? and used_at is null and created_at > ?"
        row = self._store.row(sql, [_hash(_plain(text)), now - VALID_SECONDS])
        return Code(**row) if row else None

    def claimed(self, text: str, uid: int, now: float) -> Code | None:
        """The code that an account has claimed, whatever became of it; None when it has not."""
        sql = f"select {_COLUMNS} from codes where hash = ? and uid = ? and created_at > ?"
        row = self._store.row(sql, [_hash(_plain(text)), uid, now - VALID_SECONDS - OUTCOME_SECONDS])
        return Code(**row) if row else None

    def claim(self, code: Code, claim: Claim, now: float) -> bool:
        """Claims a code for an account. Idempotent. A second account makes the code invalid for both.

        :returns: False when another account has claimed it
        :raises NotFound: the code has been used
        """
        with self._store.writing():
            if self._store.change(
                "update codes set account = ?, uid = ?, host = ?, claimed_at = ? "
                "where hash = ? and used_at is null and (uid is null or uid = ?)",
                [claim.account, claim.uid, claim.host, now, code.hash, claim.uid],
            ):
                return True
            if not self._store.change(
                "update codes set outcome = 'contested', other = ?, used_at = ? where hash = ? and used_at is null",
                [claim.account, now, code.hash],
            ):
                raise NotFound("This code has been used.")
        return False

    def release(self, code: Code) -> bool:
        """Takes a claim back; False where it has been answered."""
        return bool(
            self._store.change(
                "update codes set account = null, uid = null, host = null, claimed_at = null "
                "where hash = ? and uid = ? and used_at is null",
                [code.hash, code.uid],
            )
        )

    def connect(self, secret: str, shown: str, people: People, now: float, per_account: int) -> UserLink:
        """Links the user of a page with the account that the page has shown.

        :raises NotFound: the claim is not the one that was shown
        :raises Conflict: see :meth:`People.add`
        """
        with self._store.writing():
            code, claim = self._answered(secret, shown, Outcome.CONNECTED, now)
            link = UserLink(code.username, claim.account, claim.uid, now, claim.account)
            people.add([link], per_account=per_account)
        return link

    def reject(self, secret: str, shown: str, people: People, now: float) -> Code:
        """Makes a code invalid whose claim is somebody else's; the page has a new one.

        :returns: the code that was rejected
        :raises NotFound: the claim is not the one that was shown
        """
        with self._store.writing():
            code, claim = self._answered(secret, shown, Outcome.REJECTED, now)
            self._insert(secret, code.username, code.round + 1, now)
            people.note(now, code.username, f"refused to be connected with {claim.account} on {claim.host}")
        return code

    def renew(self, secret: str, now: float) -> None:
        """Gives a page a new code in place of one that two accounts have typed."""
        with self._store.writing():
            code = self.page(secret, now)
            if code is not None and code.outcome == Outcome.CONTESTED:
                self._insert(secret, code.username, code.round + 1, now)

    def _answered(self, secret: str, shown: str, outcome: Outcome, now: float) -> tuple[Code, Claim]:
        code = self.page(secret, now)
        if code is None or code.claim is None or code.outcome is not None or code.shown != shown:
            raise NotFound("This has changed meanwhile. Please look again.")
        self._store.change("update codes set used_at = ?, outcome = ? where hash = ?", [now, outcome, code.hash])
        return code, code.claim

    def _insert(self, secret: str, username: str, number: int, now: float) -> None:
        row = {"hash": _hash(_code(secret, number)), "username": username, "created_at": now}
        with self._store.writing() as db:
            db.table("codes").insert(row | {"page": _hash(secret), "round": number})


def code_text(secret: str, number: int) -> str:
    """A code of the page with that secret, with dashes.

    :param number: :attr:`Code.round`
    """
    plain = _code(secret, number)
    return "-".join(plain[start : start + GROUP_LENGTH] for start in range(0, LENGTH, GROUP_LENGTH))


def _code(secret: str, number: int) -> str:
    digest = int.from_bytes(hmac.digest(secret.encode(), b"code %d" % number, "sha256"))
    return "".join(ALPHABET[digest // len(ALPHABET) ** place % len(ALPHABET)] for place in range(LENGTH))


def _plain(text: str) -> str:
    return re.sub(r"[\s-]", "", text).upper()


def _hash(plain: str) -> str:
    return sha256(plain.encode("utf-8", "surrogatepass")).hexdigest()
