"""Transfers: links by which a browser fetches or sends files, and what became of them.

A token is all that a browser has. Only its hash is stored. The web service writes the rows, the file unit uses them.
"""

import json
from collections.abc import Sequence
from enum import StrEnum
from hashlib import sha256
from typing import NamedTuple, Self

from ucloud_slurm.config import TransfersSection
from ucloud_slurm.errors import TooMany
from ucloud_slurm.store.sqlite import Row, Store

OPEN_PER_USER = 2000  # links that have not ended: each upload is one until it is whole, or was given up
OPEN = 20_000
SILENT_SECONDS = 60.0  # browsers send nothing for an empty file
KEEP_SECONDS = 90 * 86400.0  # for which a transfer that has ended stays
LATEST_SECONDS = 7 * 86400.0  # after its end for which the part of an upload is tried to be deleted
PROGRESS_SECONDS = 30.0  # at least between two notes of the progress of a transfer


class TransferKind(StrEnum):
    """What a link is for."""

    DOWNLOAD = "download"
    UPLOAD = "upload"
    FOLDER = "folder"  # the files of one, through a WebSocket
    FILE = "file"  # one through a WebSocket
    PART = "part"  # of a file of a folder that comes; no link


class TransferOutcome(StrEnum):
    """How a transfer ended."""

    DONE = "done"
    EMPTY = "empty"  # an upload of which nothing came; what comes late is still taken
    FAILED = "failed"
    EXPIRED = "expired"


class Transfer(NamedTuple):
    """A transfer. Times are seconds since the epoch.

    :ivar token: hash of the token
    :ivar username: user of UCloud who asked for it
    :ivar local_user: as whom files are opened
    :ivar root: the local folder of the drive
    :ivar parts: the names below it
    :ivar part: of an upload: the name of the file that it is written to until it is whole
    :ivar policy: of an upload: what is done where the name exists
    :ivar size: bytes in all; of an upload None until its first chunk
    :ivar done: bytes
    :ivar modified_at: of a download: of the file, in nanoseconds
    """

    token: str
    kind: TransferKind
    username: str
    local_user: str
    drive_id: str
    root: str
    parts: tuple[str, ...]
    created_at: float
    expires_at: float
    part: str | None = None
    policy: str | None = None
    size: int | None = None
    done: int = 0
    modified_at: int | None = None
    used_at: float | None = None
    ended_at: float | None = None
    outcome: TransferOutcome | None = None

    @classmethod
    def read(cls, row: Row) -> Self:
        """The row of the table as a fact."""
        outcome = row["outcome"]
        return cls(
            **dict(row)
            | {
                "kind": TransferKind(row["kind"]),
                "parts": tuple(json.loads(row["parts"])),
                "done": row["done"] or 0,
                "outcome": outcome and TransferOutcome(outcome),
            }
        )


class Transfers:
    """The transfers of all processes."""

    def __init__(self, store: Store, limits: TransfersSection) -> None:
        self._store = store
        self._limits = limits

    def create(self, transfers: Sequence[Transfer]) -> None:
        """Writes transfers of one user, all or none.

        :raises TooMany: the user, or the provider, has too many that have not ended
        """
        if not transfers:
            return
        now, username = transfers[0].created_at, transfers[0].username
        with self._store.writing() as db:
            # Downloads that nobody has begun leave nothing behind.
            sql = "delete from transfers where ended_at is null and expires_at < ? and kind = 'download' and used_at is null"
            self._store.change(sql, [now])
            if self._open("username = ?", [username]) + len(transfers) > OPEN_PER_USER:
                raise TooMany(
                    "You have too many uploads and downloads that have not ended; those that were given up end by themselves "
                    f"after {self._limits.resume / 3600:.0f} hours."
                )
            if self._open("true", []) + len(transfers) > OPEN:
                raise TooMany("The provider has as many uploads and downloads as it can hold; please try again later.")
            db.table("transfers").insert_all(_values(transfer) for transfer in transfers)

    def abandon(self, transfers: Sequence[Transfer], now: float) -> None:
        """Writes uploads that were begun for a call that is refused: their parts are deleted later."""
        if transfers:
            with self._store.writing() as db:
                rows = (_values(transfer._replace(used_at=now, expires_at=now)) for transfer in transfers)
                db.table("transfers").insert_all(rows)

    def _open(self, where: str, parameters: list[str]) -> int:
        row = self._store.row(f"select count(*) as number from transfers where ended_at is null and {where}", parameters)
        return int(row["number"]) if row else 0

    def find(self, token: str) -> Transfer | None:
        """The transfer of a token, whatever became of it."""
        return self._of(hashed(token))

    def _of(self, token: str) -> Transfer | None:
        row = self._store.row("select * from transfers where token = ?", [token])
        return Transfer.read(row) if row else None

    def again(self, transfer: Transfer) -> Transfer | None:
        """The row as it is now."""
        return self._of(transfer.token)

    def use(self, transfer: Transfer, now: float, expires_at: float) -> bool:
        """The first use of a link, which lives on for a while from then. False where it was used before, or has ended."""
        sql = "update transfers set used_at = ?, expires_at = ? where token = ? and used_at is null and ended_at is null"
        return self._store.change(sql, [now, expires_at, transfer.token]) > 0

    def begin(self, transfer: Transfer, part: str, size: int | None, now: float) -> Transfer:
        """An upload is written to this part. One that had ended as an empty file is open again, and keeps that outcome."""
        sql = "update transfers set used_at = coalesce(used_at, ?), part = ?, size = ?, ended_at = null where token = ?"
        self._store.change(sql, [now, part, size, transfer.token])
        return transfer._replace(part=part, size=size, used_at=transfer.used_at or now, ended_at=None)

    def progress(self, transfer: Transfer, done: int, expires_at: float) -> None:
        """How many bytes have been transferred, and until when the transfer can be continued."""
        sql = "update transfers set done = ?, expires_at = ? where token = ? and ended_at is null"
        self._store.change(sql, [done, expires_at, transfer.token], durable=False)

    def end(self, transfer: Transfer, outcome: TransferOutcome, now: float, done: int, name: str | None = None) -> None:
        """A transfer has ended.

        :param name: of an upload: the name that the file has
        """
        parts = transfer.parts if name is None else (*transfer.parts[:-1], name)
        self._store.change(
            "update transfers set outcome = ?, ended_at = ?, done = ?, parts = ? where token = ? and ended_at is null",
            [outcome, now, done, json.dumps(parts), transfer.token],
        )

    # -- parts of files of a folder -------------------------------------------------------------------------

    def keep_part(self, part: Transfer) -> None:
        """A part that a folder's file is written to: it is deleted later even if this process dies."""
        with self._store.writing(durable=False) as db:
            db.table("transfers").insert(_values(part))

    def forget_part(self, part: Transfer) -> None:
        """The part is a file now, or is gone."""
        self._store.change("delete from transfers where token = ? and kind = 'part'", [part.token], durable=False)

    # -- what the file unit does by itself ------------------------------------------------------------------

    def silent(self, now: float, most: int) -> list[Transfer]:
        """Uploads of which nothing came for so long that the file is empty. Oldest first."""
        return self._several(
            "select * from transfers where ended_at is null and used_at is null and kind = 'upload' and created_at <= ? "
            "order by created_at limit ?",
            [now - SILENT_SECONDS, most],
        )

    def expired(self, now: float, most: int) -> list[Transfer]:
        """What has not ended and cannot be continued any more. Oldest first."""
        sql = "select * from transfers where ended_at is null and expires_at < ? order by expires_at limit ?"
        return self._several(sql, [now, most])

    def delete_old(self, now: float) -> None:
        """Deletes what ended long ago."""
        self._store.change("delete from transfers where ended_at < ?", [now - KEEP_SECONDS])

    def _several(self, sql: str, parameters: list[float]) -> list[Transfer]:
        return [Transfer.read(row) for row in self._store.rows(sql, parameters)]


def hashed(token: str) -> str:
    """The hash that is stored of a token."""
    return sha256(token.encode(errors="replace")).hexdigest()


def _values(transfer: Transfer) -> dict[str, object]:
    return transfer._asdict() | {"parts": json.dumps(transfer.parts)}
