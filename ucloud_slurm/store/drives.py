"""Drives: which there are, and UCloud's ids of them. Lost, they are all found again: UCloud keeps the provider's ids."""

from collections.abc import Sequence
from typing import NamedTuple, Self

from ucloud_slurm.errors import one_line
from ucloud_slurm.store.sqlite import Row, Store

FIRST_PAUSE_SECONDS = 60.0
LONGEST_PAUSE_SECONDS = 900.0


class Drive(NamedTuple):
    """A drive. Times are seconds since the epoch.

    :ivar provider_id: this provider's id of it
    :ivar name: of the table ``[[drives]]`` that it is of
    :ivar owner: the user of UCloud whose it is; None for a project's
    :ivar project: of UCloud; None for a user's
    :ivar drive_id: UCloud's id; None until it is known
    :ivar try_at: when it is registered next, while UCloud's id is not known
    :ivar tries: how often that failed
    """

    provider_id: str
    name: str
    owner: str | None
    project: str | None
    drive_id: str | None
    wanted_at: float
    registered_at: float | None = None
    try_at: float = 0.0
    tries: int = 0

    @classmethod
    def read(cls, row: Row) -> Self:
        """The row of the table as a fact."""
        return cls(**dict(row))

    @property
    def whose(self) -> str:
        """Its owner, for the journal."""
        return one_line(f"project {self.project}" if self.owner is None else self.owner, 60)


class ProjectMembers(NamedTuple):
    """A project that UCloud has named, and the users of UCloud in it, JSON."""

    id: str
    members: str


class Drives:
    """The drives of all owners."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def of_id(self, drive_id: str) -> Drive | None:
        """The drive of that id of UCloud's."""
        row = self._store.row("select * from drives where drive_id = ?", [drive_id])
        return Drive.read(row) if row else None

    def of_owner(self, owner: str, project: str | None) -> list[Drive]:
        """The drives of a user and of a project that UCloud knows."""
        found = self._store.rows(
            "select * from drives where drive_id is not null and owner = ? "
            "union all select * from drives where drive_id is not null and project = ?",
            [owner, project],
        )
        return [Drive.read(row) for row in found]

    def listed(self, most: int) -> list[Drive]:
        """The first drives of all, by the provider's ids of them: by kind, table and owner."""
        found = self._store.rows("select * from drives order by provider_id limit ?", [most])
        return [Drive.read(row) for row in found]

    # -- which should be there ------------------------------------------------------------------------------

    def users_without(self, name: str) -> list[str]:
        """Users whom UCloud has named and who have no drive of that table yet."""
        found = self._store.rows(
            "select username from ucloud_users "
            "where not exists (select 1 from drives where drives.name = ? and drives.owner = ucloud_users.username)",
            [name],
        )
        return [str(row["username"]) for row in found]

    def connected_without(self, name: str) -> list[str]:
        """Users who are connected with an account, whom UCloud has named, and who have no drive of that table yet."""
        found = self._store.rows(
            "select people.username from people "
            "where (exists (select 1 from ucloud_users where ucloud_users.username = people.username) "
            "or exists (select 1 from connections where connections.username = people.username and named_at is not null)) "
            "and not exists (select 1 from drives where drives.name = ? and drives.owner = people.username)",
            [name],
        )
        return [str(row["username"]) for row in found]

    def projects_without(self, name: str) -> list[ProjectMembers]:
        """Projects that UCloud has named and that have no drive of that table yet."""
        found = self._store.rows(
            "select id, members from ucloud_projects "
            "where not exists (select 1 from drives where drives.name = ? and drives.project = ucloud_projects.id)",
            [name],
        )
        return [ProjectMembers(**row) for row in found]

    def project(self, project: str) -> ProjectMembers | None:
        """A project that UCloud has named."""
        row = self._store.row("select id, members from ucloud_projects where id = ?", [project])
        return ProjectMembers(**row) if row else None

    def want(self, drives: Sequence[Drive]) -> None:
        """Writes drives that are to be registered. Idempotent."""
        if not drives:
            return
        with self._store.writing():
            for drive in drives:
                self._store.change(
                    "insert into drives (provider_id, name, owner, project, wanted_at, try_at) values (?, ?, ?, ?, ?, ?) "
                    "on conflict do nothing",
                    [drive.provider_id, drive.name, drive.owner, drive.project, drive.wanted_at, drive.try_at],
                )

    # -- what UCloud has ------------------------------------------------------------------------------------

    def due(self, now: float, most: int) -> list[Drive]:
        """Drives that should be registered now, those that wait longest first."""
        sql = "select * from drives where drive_id is null and try_at <= ? order by try_at limit ?"
        return [Drive.read(row) for row in self._store.rows(sql, [now, most])]

    def registered(self, drive: Drive, drive_id: str, now: float) -> None:
        """UCloud has a drive, under this id. One that had another id has this one now."""
        with self._store.writing():
            self._store.change("update drives set drive_id = null where drive_id = ?", [drive_id])
            self._store.change(
                "insert into drives (provider_id, name, owner, project, wanted_at, try_at, drive_id, registered_at) "
                "values (?1, ?2, ?3, ?4, ?5, ?5, ?6, ?7) "
                "on conflict (provider_id) do update set drive_id = ?6, registered_at = ?7, tries = 0",
                [drive.provider_id, drive.name, drive.owner, drive.project, drive.wanted_at, drive_id, now],
            )

    def postpone(self, provider_id: str, now: float) -> None:
        """A drive could not be registered; each pause is twice the one before, up to fifteen minutes."""
        self._store.change(
            "update drives set try_at = ?1 + min(?2 * (1 << min(tries, 20)), ?3), tries = tries + 1 where provider_id = ?4",
            [now, FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, provider_id],
        )
