"""Users of UCloud and Unix users of this host, projects and Slurm accounts; every change with its time and author.

The table connections says what UCloud knows of each link. Today's UCloud ends when it hears of a user whom it does not
know, or twice of the same: only users whom it has named itself are reported to it, every report undoes first what an
earlier one may have done, and none begins while an earlier one, or UCloud itself, may still be at work on the user.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple, Self

from ucloud_slurm.errors import Conflict, NotFound
from ucloud_slurm.store.acts import USERS, Acts
from ucloud_slurm.store.sqlite import Row, Store
from ucloud_slurm.ucloud.gate import NamedUser

IN_WORK_SECONDS = 120.0  # that UCloud may work on a report that has no answer: it repeats what fails for 20 seconds
UNLINK_SECONDS = 30.0  # in which UCloud may make a connection again that it has ended: its call 5, its repetitions 20


class UserLink(NamedTuple):
    """A user of UCloud and the Unix user that their jobs run as.

    :ivar uid: the uid when they were linked; a user created anew under an old name has another
    :ivar added_at: seconds since the epoch
    """

    username: str
    local_user: str
    uid: int
    added_at: float
    added_by: str


class PastLink(NamedTuple):
    """A link that has ended, in seconds since the epoch."""

    username: str
    local_user: str
    ended_at: float

    def __str__(self) -> str:
        """A sentence for those who connect anew."""
        date = time.strftime("%Y-%m-%d", time.gmtime(self.ended_at))
        return f"{self.username} was connected with {self.local_user} until {date}."


class ProjectAccount(NamedTuple):
    """A project of UCloud and its Slurm account."""

    project: str
    account: str
    added_at: float
    added_by: str


class LinkChange(NamedTuple):
    """An entry of the history."""

    at: float
    who: str
    what: str


class LinkState(NamedTuple):
    """What UCloud knows of a user's link.

    :ivar wanted: whether they are linked here
    :ivar known: what was reported to UCloud; None while it is not known whether UCloud has it
    :ivar named: whether UCloud has named this user to us
    :ivar refusal: what it said against the link
    """

    username: str
    wanted: bool
    known: bool | None
    named: bool
    refusal: str | None

    @property
    def user(self) -> NamedUser | None:
        """The user, as one of whom UCloud may hear."""
        return NamedUser(self.username) if self.named else None

    @classmethod
    def read(cls, row: Row) -> Self:
        """The row of the table as a fact."""
        known = None if row["known"] is None else bool(row["known"])
        return cls(row["username"], bool(row["wanted"]), known, row["named_at"] is not None, row["refusal"])

    def __str__(self) -> str:
        """The state in words, for administrators."""
        if self.refusal is not None:
            return f"refused: {self.refusal}"
        if self.known is True:
            return "connected"
        return "not reported yet" if self.named else "not named by UCloud yet"


class LinkStates:
    """The table connections: everybody who was linked at any time, or wanted to be."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def of(self, username: str) -> LinkState | None:
        """What UCloud knows of a user."""
        row = self._store.row("select * from connections where username = ?", [username])
        return LinkState.read(row) if row else None

    def pending(self) -> list[str]:
        """Users whose link must be reported to UCloud, the longest named first."""
        found = self._store.rows(
            "select username from connections where named_at is not null and known is not wanted and refusal is null "
            "order by named_at, username"
        )
        return [str(row["username"]) for row in found]

    def want(self, username: str, wanted: bool) -> None:
        """A user is linked here, or is not any more."""
        self._store.change(
            "insert into connections (username, wanted, known) values (?1, ?2, 0) "
            "on conflict (username) do update set wanted = ?2, refusal = null",
            [username, int(wanted)],
        )

    def disconnected(self, username: str, now: float, quiet: float = 0.0) -> None:
        """UCloud has said that a user is not connected there, whatever was reported before.

        :param quiet: seconds in which no report may begin; one that is claimed already counts as lost
        """
        self._store.change(
            "insert into connections (username, wanted, known, named_at, asked_at) values (?1, 0, 0, ?2, ?3) "
            "on conflict (username) do update set known = 0, named_at = ?2, refusal = null, "
            "asked_at = coalesce(max(asked_at, ?3), asked_at, ?3)",
            [username, now, now - IN_WORK_SECONDS + quiet if quiet else None],
        )

    def named(self, username: str, now: float) -> None:
        """UCloud has named a user."""
        # Read first: every create names a user, and only the first time changes something.
        if self._store.row("select 1 from connections where username = ? and named_at is null", [username]):
            self._store.change("update connections set named_at = ? where username = ? and named_at is null", [now, username])

    def claim(self, username: str, now: float) -> LinkState | None:
        """Claims the right to report a user's link to UCloud, for :data:`IN_WORK_SECONDS`.

        :returns: the state before; None when there is nothing to report, or another process has claimed it
        """
        with self._store.writing():
            found = self.of(username)
            changed = self._store.change(
                "update connections set asked_at = ?, known = null where username = ? and named_at is not null "
                "and known is not wanted and refusal is null and (asked_at is null or asked_at <= ?)",
                [now, username, now - IN_WORK_SECONDS],
            )
        return found if changed else None

    def is_claimed(self, username: str, at: float) -> bool:
        """Whether the claim of that time still stands: UCloud has not said anything about the user since."""
        sql = "select 1 from connections where username = ? and asked_at = ? and known is null"
        return self._store.row(sql, [username, at]) is not None

    def record_report(self, username: str, known: bool | None, refusal: str | None = None, *, in_work: bool = False) -> None:
        """The link has been reported to UCloud, or could not be. The claim ends, unless UCloud has said something meanwhile.

        :param known: what UCloud knows now; None when it may have received the report
        :param in_work: UCloud may still be at work on it: the next report does not begin for :data:`IN_WORK_SECONDS`
        """
        self._store.change(
            "update connections set asked_at = case when ? or known is not null then asked_at end, known = ?, refusal = ? "
            "where username = ?",
            [in_work, known, refusal, username],
        )


class People:
    """The tables people, past_links and projects; every change of them is an act. Names of UCloud are compared exactly."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._states = LinkStates(store)
        self._acts = Acts(store)

    def of(self, username: str) -> UserLink | None:
        """The link of a user of UCloud."""
        row = self._store.row("select * from people where username = ?", [username])
        return UserLink(**row) if row else None

    def listed(self) -> list[UserLink]:
        """All links, by name."""
        return [UserLink(**row) for row in self._store.rows("select * from people order by username")]

    def count(self) -> int:
        """How many users of UCloud are linked."""
        return int(self._store.tuples("select count(*) from people")[0][0])

    def with_account(self, local_user: str, uid: int) -> list[UserLink]:
        """The links of a Unix user."""
        found = self._store.rows("select * from people where local_user = ? and uid = ? order by username", [local_user, uid])
        return [UserLink(**row) for row in found]

    def former(self, username: str, local_user: str) -> list[PastLink]:
        """The last links of either with somebody else."""
        found = self._store.rows(
            "select * from past_links where (username = ?1 or local_user = ?2) and not (username = ?1 and local_user = ?2) "
            "order by ended_at desc limit 3",
            [username, local_user],
        )
        return [PastLink(**row) for row in found]

    def users_of(self, local_user: str) -> list[str]:
        """The users of UCloud that are linked with a Unix user, whatever its uid was."""
        found = self._store.tuples("select username from people where local_user = ? order by username", [local_user])
        return [username for (username,) in found]

    def add(self, links: Sequence[UserLink], *, per_account: int | None = 1) -> int:
        """Writes links; all or none. One that exists is passed over.

        :param per_account: how many users of UCloud may be linked with one Unix user; None: any number
        :returns: how many are new
        :raises Conflict: one is linked with another Unix user, or the Unix user with as many users of UCloud
        """
        new = 0
        with self._store.writing() as db:
            for link in links:
                known = self.of(link.username)
                if known is not None and (known.local_user, known.uid) == (link.local_user, link.uid):
                    continue
                if known is not None:
                    raise Conflict(f"{link.username} is connected with {known.local_user}; remove that first.")
                others = self.users_of(link.local_user)
                if per_account is not None and len(others) >= per_account:
                    raise Conflict(f"{link.local_user} is connected with {', '.join(others)} already.")
                db.table("people").insert(link._asdict())
                self._states.want(link.username, True)
                before = " ".join(str(each) for each in self.former(link.username, link.local_user))
                what = f"connected {link.username} with {link.local_user}"
                self.note(link.added_at, link.added_by, f"{what}; {before}" if before else what)
                new += 1
        return new

    def remove(self, username: str, who: str, now: float) -> None:
        """Removes a link. Running jobs are not changed.

        :raises NotFound: this user has none
        """
        with self._store.writing():
            link = self.of(username)
            if link is None:
                raise NotFound(f"{username} is not connected with an account.")
            self._store.change("delete from people where username = ?", [username])
            self._store.change("insert or replace into past_links values (?, ?, ?)", [username, link.local_user, now])
            self._states.want(username, False)
            self.note(now, who, f"disconnected {username} from {link.local_user}")

    def account(self, project: str) -> str | None:
        """The Slurm account of a project."""
        row = self._store.row("select account from projects where project = ?", [project])
        return str(row["account"]) if row else None

    def projects(self) -> list[ProjectAccount]:
        """All projects that have a Slurm account."""
        return [ProjectAccount(**row) for row in self._store.rows("select * from projects order by project")]

    def add_project(self, project: str, account: str, who: str, now: float) -> None:
        """Gives a project its Slurm account, in place of an earlier one."""
        with self._store.writing() as db:
            db.table("projects").upsert(ProjectAccount(project, account, now, who)._asdict(), pk="project")
            self.note(now, who, f"gave the project {project} the Slurm account {account}")

    def remove_project(self, project: str, who: str, now: float) -> None:
        """Deletes the Slurm account of a project.

        :raises NotFound: it has none
        """
        with self._store.writing():
            if not self._store.change("delete from projects where project = ?", [project]):
                raise NotFound(f"The project {project} has no Slurm account here.")
            self.note(now, who, f"took the Slurm account of the project {project} away")

    def history(self) -> list[LinkChange]:
        """Every change, oldest first."""
        rows = self._store.rows("select at, who, what from acts where kind = ? order by id", [USERS])
        return [LinkChange(**row) for row in rows]

    def note(self, now: float, who: str, what: str) -> None:
        """Writes into the history."""
        self._acts.record(USERS, what, now, who=who)
