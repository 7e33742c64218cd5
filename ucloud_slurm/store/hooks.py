"""Events for programs of the site (hooks). Triggers write them (:mod:`ucloud_slurm.store.migrations_hooks`).

An event waits until its program has taken it, and later events about the same subject wait behind it.
"""

import json
from collections.abc import Collection
from enum import StrEnum
from typing import NamedTuple

from ucloud_slurm.errors import NotFound
from ucloud_slurm.store.sqlite import Store

FIRST_PAUSE_SECONDS = 10.0  # after the first failure; twice as long after each further one
LONGEST_PAUSE_SECONDS = 3600.0
MOST_ATTEMPTS = 80  # which take about three days; then later events about the subject go on
UNDECIDED = "job-accepted"  # its row says how often, and why, the program gave no decision
# The events of which the present state can be written again, and where it is.
REPLAYED = {"person-connected": "hook_people", "project-changed": "hook_projects", "wallet-changed": "hook_wallets"}

_NONE = "There is no event {} that waits or has failed; `ucloud-slurm hooks list` shows them."


class EventOutcome(StrEnum):
    """What became of an event."""

    DELIVERED = "delivered"
    FAILED = "failed"  # the program has failed too often; `hooks retry` delivers it again
    DROPPED = "dropped"  # by the administrator, or its event has no program any more


class HookEvent(NamedTuple):
    """An event. Times are seconds since the epoch.

    :ivar key: its id for programs, the same in each delivery
    :ivar subject: the person, project, wallet or job that it is about
    :ivar body: JSON
    :ivar attempts: how often its program was started
    :ivar next_at: it is not delivered before
    :ivar outcome: None while it waits
    :ivar failure: of the last attempt
    """

    id: int
    key: str
    event: str
    subject: str
    body: str
    created_at: float
    attempts: int
    next_at: float
    done_at: float | None
    outcome: str | None
    failure: str | None

    def document(self, provider: str) -> str:
        """The JSON object that the program gets.

        :param provider: our id
        """
        at = round(self.created_at, 3)
        return json.dumps({"id": self.key, "event": self.event, "at": at, "provider": provider, **json.loads(self.body)})


def pause(attempts: int) -> float:
    """Seconds until the next attempt, after so many that failed."""
    return float(min(FIRST_PAUSE_SECONDS * 2 ** (attempts - 1), LONGEST_PAUSE_SECONDS))


class HookEvents:
    """The tables hooked and hook_events."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def configure(self, events: Collection[str]) -> None:
        """Only these events are written from now on. Writes nothing where it is so already."""
        if {event for (event,) in self._store.tuples("select event from hooked")} != {*events}:
            with self._store.writing():
                self._store.change("delete from hooked")
                self._store.change("insert into hooked select value from json_each(?)", [json.dumps(sorted(events))])

    def heads(self, now: float, most: int) -> list[HookEvent]:
        """The oldest waiting event of each subject that may be delivered now, oldest first."""
        return self._events(
            "select * from hook_events indexed by hook_events_waiting where outcome is null and next_at <= ? and not exists "
            "(select 1 from hook_events as earlier where earlier.subject = hook_events.subject "
            "and earlier.outcome is null and earlier.id < hook_events.id) order by id limit ?",
            [now, most],
        )

    def delivered(self, event: HookEvent, now: float) -> None:
        """The program has taken it."""
        self._close(event.id, EventOutcome.DELIVERED, None, now)

    def unneeded(self, event: HookEvent, why: str, now: float) -> None:
        """Nobody gets it."""
        self._close(event.id, EventOutcome.DROPPED, why, now)

    def failed(self, event: HookEvent, why: str, now: float) -> bool:
        """The program has failed; returns whether it is tried again."""
        attempts = event.attempts + 1
        last = attempts >= MOST_ATTEMPTS
        self._store.change(
            "update hook_events set attempts = ?, failure = ?, next_at = ?, done_at = ?, outcome = ? "
            "where id = ? and outcome is null",
            [attempts, why, now + pause(attempts), now if last else None, EventOutcome.FAILED if last else None, event.id],
        )
        return not last

    def postponed(self, event: HookEvent, why: str, now: float) -> None:
        """The program could not be started, which says nothing about the event: it is not an attempt."""
        self._store.change(
            "update hook_events set failure = ?, next_at = ? where id = ? and outcome is null",
            [why, now + FIRST_PAUSE_SECONDS, event.id],
        )

    def undecided(self, why: str, now: float) -> None:
        """The program of job-accepted gave no decision. One row counts all of these, and has the last reason."""
        with self._store.writing(durable=False):
            if not self._store.change(
                "update hook_events set attempts = attempts + 1, failure = ?, done_at = ? where id = "
                "(select id from hook_events where outcome = 'failed' and event = ?)",
                [why, now, UNDECIDED],
            ):
                self._store.change(
                    "insert into hook_events (key, event, subject, body, created_at, attempts, done_at, outcome, failure) "
                    "values (lower(hex(randomblob(16))), ?1, 'new jobs', '{}', ?2, 1, ?2, 'failed', ?3)",
                    [UNDECIDED, now, why],
                )

    def listed(self, most: int) -> list[HookEvent]:
        """Events that wait or have failed, oldest first."""
        return self._events(
            "select * from hook_events where outcome is null union all select * from hook_events where outcome = 'failed' "
            "order by id limit ?",
            [most],
        )

    def count(self) -> tuple[int, int]:
        """How many events wait, and how many have failed."""
        waiting = self._store.rows("select count(*) as number from hook_events where outcome is null")
        failed = self._store.rows("select count(*) as number from hook_events where outcome = 'failed'")
        return waiting[0]["number"], failed[0]["number"]

    def oldest_waiting(self) -> float | None:
        """When the event that waits longest was written, in seconds since the epoch; None while none waits."""
        row = self._store.row("select created_at from hook_events where outcome is null order by id limit 1")
        return float(row["created_at"]) if row else None

    def newest(self, most: int) -> list[HookEvent]:
        """All events, newest first."""
        return self._events("select * from hook_events order by id desc limit ?", [most])

    def retry(self, now: float) -> int:
        """All that wait or have failed are delivered as soon as possible; returns how many."""
        return self._store.change(
            "update hook_events set outcome = null, done_at = null, attempts = 0, next_at = ?1 where id in "
            "(select id from hook_events where outcome is null and next_at > ?1 union all "
            "select id from hook_events where outcome = 'failed' and event <> ?2)",
            [now, UNDECIDED],
        )

    def open(self, number: int) -> HookEvent:
        """An event that waits or has failed.

        :raises NotFound: there is none of this number
        """
        sql = "select * from hook_events where id = ? and (outcome is null or outcome = 'failed')"
        found = self._events(sql, [number])
        if not found:
            raise NotFound(_NONE.format(number))
        return found[0]

    def drop(self, number: int, now: float) -> None:
        """An event is not delivered any more.

        :raises NotFound: there is no such event that waits or has failed
        """
        if not self._store.change(
            "update hook_events set outcome = 'dropped', done_at = ? where id = ? and (outcome is null or outcome = 'failed')",
            [now, number],
        ):
            raise NotFound(_NONE.format(number))

    def replay(self, now: float) -> int:
        """Writes the present people, projects and wallets as events, where these have programs; returns how many."""
        number = 0
        with self._store.writing():
            for event, view in REPLAYED.items():
                number += self._store.change(
                    "insert into hook_events (key, event, subject, body, created_at) "
                    f"select lower(hex(randomblob(16))), ?1, subject, body, ?2 from {view} "
                    "where exists (select 1 from hooked where event = ?1)",
                    [event, now],
                )
        return number

    def _close(self, number: int, outcome: EventOutcome, why: str | None, now: float) -> None:
        self._store.change(
            "update hook_events set outcome = ?, failure = ?, done_at = ?, attempts = attempts + 1 "
            "where id = ? and outcome is null",
            [outcome, why, now, number],
        )

    def _events(self, sql: str, parameters: list[object]) -> list[HookEvent]:
        return [HookEvent(**row) for row in self._store.rows(sql, parameters)]
