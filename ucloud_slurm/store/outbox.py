"""The outbox: messages to UCloud, in order, each kept until UCloud has it or refuses it for good."""

import json
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from ucloud_slurm.store.caches import COMPARED, forget
from ucloud_slurm.store.sqlite import Store
from ucloud_slurm.ucloud.reports import JobUpdate

ANSWER_SECONDS = 1.0  # in which the answer to an acknowledged create has been sent
# UCloud writes reports of usage every 30 seconds, and forgets the others when it stops.
FORGETS_SECONDS = 60.0
_IS_LAST = (
    "not exists (select 1 from outbox as later where later.job_id = outbox.job_id and later.kind = 'usage' "
    "and later.id > outbox.id)"
)


class MessageOutcome(StrEnum):
    """What became of a message."""

    DELIVERED = "delivered"
    NO_FUNDS = "no-funds"  # a charge that the wallet could not pay
    DOUBTFUL = "doubtful"  # a repeated charge: UCloud's answer does not say whether it was booked before or not paid
    DROPPED = "dropped"  # about a job that UCloud does not have, or UCloud has had it before a restore
    PARKED = "parked"  # UCloud refused it for good; the administrator must look at it


class OutboxMessage(NamedTuple):
    """A message. Times are seconds since the epoch.

    :ivar kind: update, charge or usage
    :ivar body: JSON
    :ivar sends: how often it was sent without an answer that decided its outcome
    :ivar settled_at: when its outcome was written
    :ivar outcome: None while it waits
    :ivar answer: what UCloud said to it
    :ivar repeat_at: it is sent once more, not before that time; None: it is not
    """

    id: int
    job_id: str
    kind: str
    body: str
    created_at: float
    sends: int
    settled_at: float | None = None
    outcome: str | None = None
    answer: str | None = None
    repeat_at: float | None = None

    @property
    def content(self) -> dict[str, Any]:
        """The body, decoded."""
        content: dict[str, Any] = json.loads(self.body)
        return content


class Outbox:
    """Messages in the order of their writing, job by job."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def enqueue(self, job_id: str, kind: str, body: dict[str, object], now: float, sends: int = 0) -> None:
        """Writes a message. Called inside the transaction of its cause, so that neither is without the other.

        :param sends: 1 where it may have been sent before, from a database that is lost
        """
        with self._store.writing() as db:
            row = {"job_id": job_id, "kind": kind, "body": json.dumps(body), "created_at": now, "sends": sends}
            db.table("outbox").insert(row)

    def enqueue_update(self, job_id: str, update: JobUpdate, now: float) -> None:
        """Writes an update, and the state in it as the job's state for UCloud."""
        with self._store.writing():
            if update.state is not None:
                self._store.change("update jobs set state = ?, reason = ? where id = ?", [update.state, update.status, job_id])
            self.enqueue(job_id, "update", update.body(job_id), now)

    def repeat_update(self, job_id: str, update: JobUpdate, now: float) -> None:
        """Writes an update that UCloud should have already, unless the last message that waits is the same."""
        with self._store.writing():
            body = update.body(job_id)
            waiting = self._store.row(
                "select body from outbox where job_id = ? and outcome is null order by id desc limit 1", [job_id]
            )
            if waiting is None or json.loads(waiting["body"]) != body:
                self.enqueue(job_id, "update", body, now)

    def enqueue_once(self, job_id: str, update: JobUpdate, now: float) -> None:
        """Writes an update without a state, unless there is one with the same text that was not dropped."""
        with self._store.writing():
            if not self._store.tuples(
                "select 1 from outbox where job_id = ? and kind = 'update' and outcome is not 'dropped' "
                "and json_extract(body, '$.update.status') = ? limit 1",
                [job_id, update.status],
            ):
                self.enqueue_update(job_id, update, now)

    def heads(self, now: float, unanswered: float, most: int = 1000, *, confirmed: bool = False) -> list[OutboxMessage]:
        """The oldest waiting message of each job, oldest first.

        UCloud must not hear of a job before it has the answer to its create. That is sent as soon as create is
        acknowledged, so that messages wait :data:`ANSWER_SECONDS` from then; without it they wait from acceptance.

        :param unanswered: seconds that they wait then
        :param confirmed: only those of jobs of which UCloud has said that it has them
        """
        # SQLite reads those that wait in their order until there are enough: never all of them for each bulk.
        return self._messages(
            "select outbox.id, outbox.job_id, kind, outbox.body, created_at, sends "
            "from outbox cross join jobs on jobs.id = outbox.job_id where outcome is null "
            "and not exists (select 1 from outbox as before where before.job_id = outbox.job_id "
            "and before.outcome is null and before.id < outbox.id) "
            "and (promised_at <= ? or accepted_at < ?) and (confirmed_at is not null or not ?) "
            "order by outbox.id limit ?",
            [now - ANSWER_SECONDS, now - unanswered, confirmed, most],
        )

    def _messages(self, sql: str, parameters: Sequence[Any]) -> list[OutboxMessage]:
        return [OutboxMessage(**row) for row in self._store.rows(sql, parameters)]

    def sending(self, messages: Iterable[OutboxMessage]) -> None:
        """Counts a send before it is done, so that after a crash it is known that UCloud may have the message."""
        with self._store.writing() as db:
            db.conn.executemany("update outbox set sends = sends + 1 where id = ?", [(message.id,) for message in messages])

    def mark_done(self, messages: Sequence[OutboxMessage], outcome: MessageOutcome, answer: str, now: float) -> None:
        """Writes the outcome of messages, and of the charges that they carry."""
        with self._store.writing() as db:
            done = [(now, outcome, answer, message.id) for message in messages]
            db.conn.executemany("update outbox set settled_at = ?, outcome = ?, answer = ? where id = ?", done)
            db.conn.executemany(
                "update charges set outcome = ? where job_id = ? and outcome is null",
                [(outcome, message.job_id) for message in messages if message.kind == "usage"],
            )
            db.conn.executemany(
                "update charges set outcome = ? where charge_id = ?",
                [(outcome, message.content["chargeId"]) for message in messages if message.kind == "charge"],
            )

    def retry(self) -> int:
        """Makes parked messages wait again; returns how many.

        Not a report of usage that a later one has replaced: the usage that UCloud has would fall.
        """
        return self._store.change(
            f"update outbox set outcome = null, settled_at = null where outcome = 'parked' and (kind <> 'usage' or {_IS_LAST})"
        )

    def plan_repetition(self, messages: Iterable[OutboxMessage], now: float) -> None:
        """Of these reports of usage, which UCloud has, those of ended jobs are sent once more, when it must have written them.

        The last report of a job that runs is planned by its end.
        """
        with self._store.writing() as db:
            db.conn.executemany(
                "update outbox set repeat_at = ? where id = ? and outcome = 'delivered' "
                "and exists (select 1 from jobs where id = outbox.job_id and phase = 'ended')",
                [(now + FORGETS_SECONDS, message.id) for message in messages],
            )

    def repeat_last(self, job_id: str, now: float) -> None:
        """A job has ended: its last report is sent once more. Called in the transaction that records the end."""
        self._store.change(
            "update outbox set repeat_at = ? where id = (select max(id) from outbox where job_id = ? and kind = 'usage') "
            "and outcome = 'delivered'",
            [now + FORGETS_SECONDS, job_id],
        )

    def repeat_forgotten(self, away_at: float, now: float) -> int:
        """UCloud was away: what it may have forgotten is sent once more.

        :param away_at: when that was noticed; it may have stopped at any time since it received the last report
        :returns: how many reports that are
        """
        return self._store.change(
            "update outbox set repeat_at = ?1 where kind = 'usage' and outcome = 'delivered' and settled_at >= ("
            "select max(settled_at) from outbox where kind = 'usage' and outcome = 'delivered' and settled_at <= ?2) - ?3 "
            f"and settled_at <= ?2 and {_IS_LAST}",
            [now, away_at, FORGETS_SECONDS],
        )

    def repetitions(self, now: float, most: int = 1000) -> list[OutboxMessage]:
        """Reports of usage that must be sent once more."""
        return self._messages(
            "select id, job_id, kind, body, created_at, sends from outbox where repeat_at <= ? order by repeat_at, id limit ?",
            [now, most],
        )

    def repeated(self, messages: Iterable[OutboxMessage], now: float | None) -> None:
        """These were sent once more.

        :param now: UCloud has them since then; None where it has refused them
        """
        with self._store.writing() as db:
            db.conn.executemany(
                "update outbox set repeat_at = null, settled_at = coalesce(?, settled_at) where id = ?",
                [(now, message.id) for message in messages],
            )

    def of_waiting(self) -> set[str]:
        """The jobs about which messages wait."""
        return {job for (job,) in self._store.tuples("select distinct job_id from outbox where outcome is null")}

    def drop_updates(self, job_id: str, why: str, now: float) -> None:
        """Drops the updates of a job that wait, but for new time limits: what they say is written anew."""
        self._store.change(
            "update outbox set outcome = 'dropped', answer = ?, settled_at = ? "
            "where job_id = ? and outcome is null and kind = 'update' and (json_extract(body, '$.update.state') is not null "
            "or json_extract(body, '$.update.newTimeAllocation') is null)",
            [why, now, job_id],
        )

    def drop(self, job_id: str, why: str, now: float) -> None:
        """Drops all messages about a job that wait: UCloud has had them, or later ones."""
        self.mark_done([each for each in self.of(job_id) if each.outcome is None], MessageOutcome.DROPPED, why, now)

    def assume_sent(self) -> None:
        """UCloud may have every charge that waits, and has later reports than those that were to be sent once more.

        Called after an older database was restored.
        """
        with self._store.writing():
            self._store.change("update outbox set sends = max(sends, 1) where outcome is null and kind = 'charge'")
            self._store.change("update outbox set repeat_at = null where repeat_at is not null")

    def waiting(self) -> int:
        """How many messages wait."""
        row = self._store.row("select count(*) as number from outbox where outcome is null")
        return int(row["number"]) if row else 0

    def parked(self) -> int:
        """How many messages UCloud has refused for good."""
        row = self._store.row("select count(*) as number from outbox where outcome = 'parked'")
        return int(row["number"]) if row else 0

    def oldest_waiting(self) -> float | None:
        """When the message that waits longest was written, in seconds since the epoch; None while none waits."""
        row = self._store.row("select created_at from outbox where outcome is null order by id limit 1")
        return float(row["created_at"]) if row else None

    def listed(self, most: int) -> list[OutboxMessage]:
        """Messages that wait or were parked, oldest first."""
        return self._messages(
            "select * from outbox where outcome is null union all select * from outbox where outcome = 'parked' "
            "order by id limit ?",
            [most],
        )

    def newest(self, most: int) -> list[OutboxMessage]:
        """All messages, newest first."""
        return self._messages("select * from outbox order by id desc limit ?", [most])

    def of(self, job_id: str) -> list[OutboxMessage]:
        """All messages about a job, in order."""
        return self._messages("select * from outbox where job_id = ? order by id", [job_id])


def ucloud_was_away(store: Store, away_at: float, now: float) -> None:
    """UCloud is back. What it may have forgotten of usage is sent once more, and the jobs of both sides are compared.

    :param away_at: when it was noticed that UCloud was away
    """
    with store.writing():
        Outbox(store).repeat_forgotten(away_at, now)
        forget(store, COMPARED, now - FORGETS_SECONDS)
