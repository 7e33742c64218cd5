"""Sessions: who may open a shell or a web page of which job, or a shell in which folder, and whose access was removed.

A token opens a session once, within a short time; a web session then goes on by a cookie. Only the hashes of both are
stored.
"""

import json
import secrets
from collections.abc import Collection, Iterable
from enum import StrEnum
from hashlib import sha256
from typing import NamedTuple, Self

from ucloud_slurm.config import SessionsSection
from ucloud_slurm.errors import TooMany
from ucloud_slurm.store.sqlite import Row, Store

KEEP_SECONDS = 7 * 86400.0  # for which an ended session stays
USER_PARTS = 4  # one user may have a quarter of all sessions


class Kind(StrEnum):
    """What a session shows (contract: InteractiveSessionType)."""

    SHELL = "SHELL"
    WEB = "WEB"
    VNC = "VNC"


class Session(NamedTuple):
    """One session. Times are seconds since the epoch.

    :ivar token: hash of the token that opens it
    :ivar job_id: empty for a shell in a folder of a drive
    :ivar username: user of UCloud who asked for it; None when UCloud did not say
    :ivar label: its name in the link of a web session
    :ivar address: of the node that a web session leads to
    :ivar run: when the run of the job that it belongs to was submitted
    :ivar held_until: of a shell: the process that has it lives at least until then
    :ivar cookie: hash of the cookie of a web session that was opened
    :ivar drive_id: UCloud's, of a shell in a folder
    :ivar parts: the names of that folder below the drive's
    :ivar port: of a further web page of the job; None: the application announces it
    """

    token: str
    job_id: str
    rank: int
    kind: Kind
    username: str | None
    label: str
    address: str | None
    run: int | None
    created_at: float
    opened_at: float | None = None
    held_until: float | None = None
    cookie: str | None = None
    ended_at: float | None = None
    drive_id: str | None = None
    parts: tuple[str, ...] = ()
    port: int | None = None

    @classmethod
    def read(cls, row: Row) -> Self:
        """The row of the table as a fact."""
        known = {"kind": Kind(row["kind"]), "job_id": row["job_id"] or "", "parts": tuple(json.loads(row["parts"] or "[]"))}
        return cls(**(dict(row) | known))


class Access(NamedTuple):
    """What a session or stream of a job depends on.

    :ivar ended: the job has ended, and UCloud has its messages
    :ivar removals: entity -> when its access was removed
    """

    owner: str
    ended: bool
    removals: dict[str, float]

    def lost(self, username: str | None, since: float) -> bool:
        """Whether a user who came at ``since`` has lost access. The owner never does.

        Only UCloud knows the members of a group: when a group loses access, the sessions of all but the owner end,
        and UCloud lets those in again who may.
        """
        if username == self.owner:
            return False
        return any(at >= since for entity, at in self.removals.items() if entity == user(username) or not _is_user(entity))

    def refused(self, username: str | None) -> bool:
        """Whether a user who comes now had access by name, and it was removed."""
        return username is not None and username != self.owner and user(username) in self.removals


class Sessions:
    """The sessions of all processes."""

    def __init__(self, store: Store, limits: SessionsSection) -> None:
        self._store = store
        self._limits = limits

    def create(self, session: Session, token: str) -> None:
        """Writes a session.

        :param token: what opens it, once
        :raises TooMany: the job, the user, or the provider, has too many
        """
        now = session.created_at
        with self._store.writing() as db:
            self._end_old(now)
            self._store.change("delete from sessions where ended_at < ?", [now - KEEP_SECONDS])
            of_job = self._open("job_id = ?", [session.job_id])
            if of_job >= self._limits.most_per_job:
                raise TooMany(f"This job has {of_job} sessions already; close some of them and try again.")
            part = max(self._limits.most // USER_PARTS, self._limits.most_per_job)
            if session.username is not None and self._open("username = ?", [session.username]) >= part:
                raise TooMany(f"You have {part} sessions open already; close some of them and try again.")
            if self._open("true", []) >= self._limits.most:
                raise TooMany("The provider has as many sessions as it can hold; please try again later.")
            row = {"token": hashed(token), "job_id": session.job_id or None, "parts": json.dumps(session.parts)}
            db.table("sessions").insert(session._asdict() | row)

    def _open(self, where: str, parameters: list[str]) -> int:
        sql = f"select count(*) as number from sessions where ended_at is null and {where}"
        row = self._store.row(sql, parameters)
        return int(row["number"]) if row else 0

    def _end_old(self, now: float) -> None:
        self._store.change(
            "update sessions set ended_at = ? where ended_at is null and ((opened_at is null and created_at < ?) "
            "or (opened_at is not null and kind <> 'SHELL' and opened_at < ?) or held_until < ? "
            "or (kind = 'SHELL' and held_until is null and opened_at < ?))",
            [now, now - self._limits.valid, now - self._limits.life, now, now - self._limits.valid],
        )

    def find(self, token: str, kind: Kind, now: float) -> Session | None:
        """The session that a token would open now, without opening it."""
        found = self._one("opened_at is null and ended_at is null and token = ?", hashed(token))
        fits = found is not None and found.kind is kind and found.created_at >= now - self._limits.valid
        return found if fits else None

    def open(self, token: str, kind: Kind, now: float) -> Session | None:
        """Opens a session: once, and only within ``sessions.valid`` after it was made."""
        found = self.find(token, kind, now)
        if found is None:
            return None  # anybody may guess tokens: that must not take the write lock
        opened = self._store.change(
            "update sessions set opened_at = ? where token = ? and opened_at is null and ended_at is null", [now, found.token]
        )
        return found._replace(opened_at=now) if opened else None

    def heartbeat(self, tokens: Iterable[str], until: float) -> None:
        """A process still has these shells. The shells of a process that was killed end without it."""
        with self._store.writing():
            for token in tokens:
                self._store.change("update sessions set held_until = ? where token = ?", [until, token])

    def give_cookie(self, session: Session) -> str:
        """Makes the cookie that the browser sends from now on."""
        cookie = secrets.token_urlsafe(32)
        self._store.change("update sessions set cookie = ? where token = ?", [hashed(cookie), session.token])
        return cookie

    def by_cookie(self, cookie: str, now: float) -> Session | None:
        """The web session of a browser, while it lives."""
        found = self._one("ended_at is null and cookie = ?", hashed(cookie))
        lives = found is not None and found.opened_at is not None and now - found.opened_at < self._limits.life
        return found if lives else None

    def _one(self, where: str, parameter: str) -> Session | None:
        row = self._store.row(f"select * from sessions where {where}", [parameter])
        return Session.read(row) if row else None

    def end(self, session: Session, now: float) -> None:
        """The session has ended."""
        self._store.change("update sessions set ended_at = ? where token = ? and ended_at is null", [now, session.token])

    def remove_access(self, job_id: str, entities: Iterable[str], now: float) -> None:
        """These entities have lost access. The processes that have their sessions and streams end them."""
        with self._store.writing() as db:
            for entity in entities:
                db.table("removals").upsert({"job_id": job_id, "entity": entity, "removed_at": now}, pk=("job_id", "entity"))
                self._store.change("delete from grants where job_id = ? and entity = ?", [job_id, entity])

    def give_access(self, job_id: str, entities: Iterable[str]) -> None:
        """These entities have access, or have it again."""
        with self._store.writing() as db:
            for entity in entities:
                self._store.change("delete from removals where job_id = ? and entity = ?", [job_id, entity])
                db.table("grants").upsert({"job_id": job_id, "entity": entity}, pk=("job_id", "entity"))

    def given(self, job_id: str, entity: str) -> bool:
        """Whether access to the job was given to this entity by name."""
        sql = "select 1 from grants where job_id = ? and entity = ?"
        return self._store.row(sql, [job_id, entity]) is not None

    def given_to_a_group(self, job_id: str) -> bool:
        """Whether access to the job was given to any group."""
        sql = "select 1 from grants where job_id = ? and entity like 'group:%'"
        return self._store.row(sql, [job_id]) is not None

    def access(self, job_ids: Collection[str]) -> dict[str, Access]:
        """The access to each of these jobs; those that do not exist, or that UCloud does not have, are left out."""
        ids = ",".join("?" * len(job_ids))
        jobs = self._store.rows(
            "select id, owner, phase = 'ended' and not exists (select 1 from outbox where job_id = jobs.id "
            f"and outcome is null) as ended from jobs where phase <> 'refused' and id in ({ids})",
            list(job_ids),
        )
        removals: dict[str, dict[str, float]] = {}
        for row in self._store.rows(f"select job_id, entity, removed_at from removals where job_id in ({ids})", list(job_ids)):
            removals.setdefault(row["job_id"], {})[row["entity"]] = row["removed_at"]
        return {row["id"]: Access(row["owner"], bool(row["ended"]), removals.get(row["id"], {})) for row in jobs}


def hashed(secret: str) -> str:
    """The hash that is stored of a secret."""
    return sha256(secret.encode()).hexdigest()


def user(username: str | None) -> str:
    """A user of UCloud, as an entity."""
    return f"user:{username}"


def group(project: str, name: str) -> str:
    """A group of a project, as an entity."""
    return f"group:{project}/{name}"


def _is_user(entity: str) -> bool:
    return entity.startswith("user:")
