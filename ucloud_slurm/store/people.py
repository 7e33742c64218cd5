"""Users of UCloud and accounts of this host, projects and Slurm accounts; every change with its time and author."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from ucloud_slurm.errors import Conflict, NotFound
from ucloud_slurm.store.connections import Connections
from ucloud_slurm.store.sqlite import Row, Store


@dataclass(frozen=True, slots=True)
class Link:
    """A user of UCloud and their account here.

    :ivar uid: what it was when they were connected; an account made anew under an old name is another
    :ivar added_at: seconds since the epoch
    """

    username: str
    local_user: str
    uid: int
    added_at: float
    added_by: str

    @classmethod
    def read(cls, row: Row) -> Self:
        """The row of the table as a fact."""
        return cls(*(row[name] for name in ("username", "local_user", "uid", "added_at", "added_by")))


class People:
    """The tables people, projects and people_history. Names of UCloud are compared letter by letter."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._connections = Connections(store)

    def of(self, username: str) -> Link | None:
        """The account of a user of UCloud."""
        row = self._store.row("select * from people where username = ?", [username])
        return Link.read(row) if row else None

    def listed(self) -> list[Link]:
        """Everybody, by name."""
        return [Link.read(row) for row in self._store.rows("select * from people order by username")]

    def with_account(self, local_user: str, uid: int) -> list[Link]:
        """The users of UCloud who are connected with an account."""
        found = self._store.rows(
            "select * from people where local_user = ? and uid = ? order by username", [local_user, uid]
        )
        return [Link.read(row) for row in found]

    def add(self, links: Sequence[Link], *, shared: bool = False) -> int:
        """Connects users; all or none. One that is connected so already is passed over.

        :param shared: allow several users of UCloud with one account
        :returns: how many are new
        :raises Conflict: one is connected with another account, or the account with another user
        """
        new = 0
        with self._store.writing() as db:
            for link in links:
                known = self.of(link.username)
                if known is not None and (known.local_user, known.uid) == (link.local_user, link.uid):
                    continue
                if known is not None:
                    raise Conflict(f"{link.username} is connected with {known.local_user}; remove that first.")
                other = self._store.row("select username from people where local_user = ?", [link.local_user])
                if other is not None and not shared:
                    raise Conflict(f"{link.local_user} is connected with {other['username']} already.")
                db.table("people").insert(
                    {
                        "username": link.username,
                        "local_user": link.local_user,
                        "uid": link.uid,
                        "added_at": link.added_at,
                        "added_by": link.added_by,
                    }
                )
                self._connections.want(link.username, True)
                self.note(link.added_at, link.added_by, f"connected {link.username} with {link.local_user}")
                new += 1
        return new

    def remove(self, username: str, who: str, now: float) -> None:
        """Disconnects a user. Jobs that run go on as they are.

        :raises NotFound: nobody of that name is connected
        """
        with self._store.writing():
            link = self.of(username)
            if link is None:
                raise NotFound(f"{username} is not connected with an account.")
            self._store.change("delete from people where username = ?", [username])
            self._connections.want(username, False)
            self.note(now, who, f"disconnected {username} from {link.local_user}")

    def account(self, project: str) -> str | None:
        """The Slurm account of a project."""
        row = self._store.row("select account from projects where project = ?", [project])
        return str(row["account"]) if row else None

    def projects(self) -> list[Row]:
        """All projects."""
        return self._store.rows("select * from projects order by project")

    def add_project(self, project: str, account: str, who: str, now: float) -> None:
        """Gives a project its Slurm account, in place of what it had."""
        with self._store.writing() as db:
            db.table("projects").upsert(
                {"project": project, "account": account, "added_at": now, "added_by": who}, pk="project"
            )
            self.note(now, who, f"gave the project {project} the Slurm account {account}")

    def remove_project(self, project: str, who: str, now: float) -> None:
        """Forgets the Slurm account of a project.

        :raises NotFound: it has none
        """
        with self._store.writing():
            if not self._store.change("delete from projects where project = ?", [project]):
                raise NotFound(f"The project {project} has no Slurm account here.")
            self.note(now, who, f"took the Slurm account of the project {project} away")

    def history(self) -> list[Row]:
        """Every change, oldest first."""
        return self._store.rows("select at, who, what from people_history order by id")

    def note(self, now: float, who: str, what: str) -> None:
        """Writes into the history."""
        with self._store.writing() as db:
            db.table("people_history").insert({"at": now, "who": who, "what": what})
