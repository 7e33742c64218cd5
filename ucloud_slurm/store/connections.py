"""What UCloud knows of who is connected, and what it must be told.

UCloud may end when it is told of a user whom it does not know, or twice of the same (today's Core). So nobody is
named to it who was not named by it, and what an unanswered call has done is taken back before it is made again.
"""

from dataclasses import dataclass
from typing import Self

from ucloud_slurm.store.sqlite import Row, Store

ASKING = 120.0  # seconds that telling UCloud of somebody takes at most


@dataclass(frozen=True, slots=True)
class Connection:
    """One user.

    :ivar wanted: whether they are connected, here
    :ivar known: whether UCloud has been told so; None while that is not known
    :ivar named: whether UCloud has named this user to us
    :ivar refusal: what it said against the connection
    """

    username: str
    wanted: bool
    known: bool | None
    named: bool
    refusal: str | None

    @classmethod
    def read(cls, row: Row) -> Self:
        """The row of the table as a fact."""
        known = None if row["known"] is None else bool(row["known"])
        return cls(row["username"], bool(row["wanted"]), known, row["named_at"] is not None, row["refusal"])

    def __str__(self) -> str:
        """How it stands, for administrators."""
        if self.refusal is not None:
            return f"refused: {self.refusal}"
        if self.known is True:
            return "connected"
        return "is told soon" if self.named else "has not been seen yet"


class Connections:
    """The table connections: everybody who was connected at any time, or wanted to be."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def of(self, username: str) -> Connection | None:
        """How a user stands."""
        row = self._store.row("select * from connections where username = ?", [username])
        return Connection.read(row) if row else None

    def pending(self) -> list[str]:
        """Those of whom UCloud must be told something, longest first."""
        found = self._store.rows(
            "select username from connections where named_at is not null and known is not wanted and refusal is null "
            "order by named_at, username"
        )
        return [str(row["username"]) for row in found]

    def want(self, username: str, wanted: bool) -> None:
        """A user is connected here, or is not any more."""
        self._store.change(
            "insert into connections (username, wanted, known) values (?1, ?2, 0) "
            "on conflict (username) do update set wanted = ?2, refusal = null",
            [username, int(wanted)],
        )

    def unconnected(self, username: str, now: float) -> None:
        """UCloud has said that a user is not connected there, whatever it was told before."""
        self._store.change(
            "insert into connections (username, wanted, known, named_at) values (?1, 0, 0, ?2) "
            "on conflict (username) do update set known = 0, named_at = ?2, refusal = null, asked_at = null",
            [username, now],
        )

    def named(self, username: str, now: float) -> None:
        """UCloud has named a user."""
        # Looked at first: it is for every create, and changes something once.
        if self._store.row("select 1 from connections where username = ? and named_at is null", [username]):
            self._store.change(
                "update connections set named_at = ? where username = ? and named_at is null", [now, username]
            )

    def ask(self, username: str, now: float) -> Connection | None:
        """Takes it over to tell UCloud of somebody.

        :returns: how they stood; None when there is nothing to tell, or somebody else is at it
        """
        with self._store.writing():
            found = self.of(username)
            changed = self._store.change(
                "update connections set asked_at = ?, known = null where username = ? and named_at is not null "
                "and known is not wanted and refusal is null and (asked_at is null or asked_at <= ?)",
                [now, username, now - ASKING],
            )
        return found if changed else None

    def asked(self, username: str, known: bool | None, refusal: str | None = None) -> None:
        """UCloud has been told, or could not be.

        :param known: what it knows now; None when it may have heard it
        """
        self._store.change(
            "update connections set asked_at = null, known = ?, refusal = ? where username = ?",
            [known, refusal, username],
        )
