"""Drives: which there are, and UCloud's ids of them."""

from dataclasses import dataclass
from typing import Self

from ucloud_slurm.store.sqlite import Row, Store


@dataclass(frozen=True, slots=True)
class Drive:
    """A drive. Times are seconds since the epoch.

    :ivar provider_id: this provider's id of it
    :ivar name: of the table ``[[drives]]`` that it is of
    :ivar owner: the user of UCloud whose it is; None for a project's
    :ivar project: of UCloud; None for a user's
    :ivar drive_id: UCloud's id; None until it is known
    """

    provider_id: str
    name: str
    owner: str | None
    project: str | None
    drive_id: str | None
    wanted_at: float
    registered_at: float | None = None

    @classmethod
    def read(cls, row: Row) -> Self:
        """The row of the table as a fact."""
        return cls(**dict(row))


class Drives:
    """The drives of all owners."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def of_id(self, drive_id: str) -> Drive | None:
        """The drive of that id of UCloud's."""
        row = self._store.row("select * from drives where drive_id = ?", [drive_id])
        return Drive.read(row) if row else None
