"""The outbox: what UCloud must be told, in order, until it has been told."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ucloud_slurm.store.sqlite import Row, Store

ANSWERING = 1.0  # seconds in which an answer that was promised has been sent


class Outcome(StrEnum):
    """What became of a message."""

    DELIVERED = "delivered"
    NO_FUNDS = "no-funds"  # a charge that the wallet could not pay
    DOUBTFUL = "doubtful"  # a repeated charge: booked before or not paid, UCloud's answer does not tell
    DROPPED = "dropped"  # about a job that UCloud does not have
    PARKED = "parked"  # UCloud refused it for good; for the administrator to see


@dataclass(frozen=True, slots=True)
class Message:
    """A message that waits. ``sends`` counts how often it has been sent without an answer that settled it."""

    id: int
    job_id: str
    kind: str
    body: dict[str, Any]
    created_at: float
    sends: int


class Outbox:
    """Messages in the order of their writing, job by job."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def heads(self, now: float, unanswered: float, most: int = 1000, *, confirmed: bool = False) -> list[Message]:
        """The oldest waiting message of each job, oldest first.

        UCloud must not hear of a job before it has the answer to its create. That is sent as soon as it is promised,
        so that messages wait :data:`ANSWERING` seconds from then; where nothing was promised they wait ``unanswered``
        seconds from its acceptance.

        :param confirmed: only those of jobs of which UCloud has said that it has them
        """
        # The waiting ones are gone through in their order until there are enough: never all of them for each bulk.
        rows = self.store.rows(
            "select outbox.id, outbox.job_id, kind, outbox.body, created_at, sends "
            "from outbox cross join jobs on jobs.id = outbox.job_id where outcome is null "
            "and not exists (select 1 from outbox as before where before.job_id = outbox.job_id "
            "and before.outcome is null and before.id < outbox.id) "
            "and (promised_at <= ? or accepted_at < ?) and (confirmed_at is not null or not ?) "
            "order by outbox.id limit ?",
            [now - ANSWERING, now - unanswered, confirmed, most],
        )
        return [_message(row) for row in rows]

    def sending(self, messages: Iterable[Message]) -> None:
        """Counts a send, before it is done: a message that was sent before is known by it after a crash."""
        with self.store.writing() as db:
            db.conn.executemany(
                "update outbox set sends = sends + 1 where id = ?", [(message.id,) for message in messages]
            )

    def mark_done(self, messages: Sequence[Message], outcome: Outcome, answer: str, now: float) -> None:
        """Writes what became of messages."""
        with self.store.writing() as db:
            settled = [(now, outcome, answer, message.id) for message in messages]
            db.conn.executemany("update outbox set settled_at = ?, outcome = ?, answer = ? where id = ?", settled)
            db.conn.executemany(
                "update charges set outcome = ? where job_id = ? and outcome is null",
                [(outcome, message.job_id) for message in messages if message.kind == "usage"],
            )
            db.conn.executemany(
                "update charges set outcome = ? where charge_id = ?",
                [(outcome, message.body["chargeId"]) for message in messages if message.kind == "charge"],
            )

    def retry(self) -> int:
        """Puts what was parked back into its place; returns how many messages that were.

        Not a number of use that was replaced by a later one: it would fall.
        """
        return self.store.change(
            "update outbox set outcome = null, settled_at = null where outcome = 'parked' and not (kind = 'usage' "
            "and exists (select 1 from outbox as later where later.job_id = outbox.job_id and later.kind = 'usage' "
            "and later.id > outbox.id))"
        )

    def waiting(self) -> int:
        """How many messages wait."""
        row = self.store.row("select count(*) as number from outbox where outcome is null")
        return int(row["number"]) if row else 0

    def oldest_waiting(self) -> float | None:
        """When the message that waits longest was written, in seconds since the epoch; None while none waits."""
        row = self.store.row("select created_at from outbox where outcome is null order by id limit 1")
        return float(row["created_at"]) if row else None

    def listed(self, most: int) -> list[Row]:
        """Messages for people to look at: those that wait or were parked, oldest first."""
        return self.store.rows(
            "select * from outbox where outcome is null union all select * from outbox where outcome = 'parked' "
            "order by id limit ?",
            [most],
        )

    def newest(self, most: int) -> list[Row]:
        """All messages, newest first."""
        return self.store.rows("select * from outbox order by id desc limit ?", [most])

    def of(self, job_id: str) -> list[Row]:
        """All messages about a job, in order."""
        return self.store.rows("select * from outbox where job_id = ? order by id", [job_id])


def _message(row: Row) -> Message:
    return Message(
        id=row["id"],
        job_id=row["job_id"],
        kind=row["kind"],
        body=json.loads(row["body"]),
        created_at=row["created_at"],
        sends=row["sends"],
    )
