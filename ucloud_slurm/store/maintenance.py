"""Maintenance windows: while one is open, no job of its machines is accepted or submitted."""

from collections.abc import Collection, Iterable
from typing import NamedTuple

from ucloud_slurm.store.sqlite import Store

ALL = ("", "")  # instead of a category and a product: all products
_COLUMNS = "category, product, message, until, begun_at, begun_by"
# In a statement about jobs; the parameter ?1 is the time.
CLOSED = (
    "exists (select 1 from maintenance indexed by maintenance_open where ended_at is null and (until is null or until > ?1) "
    "and (maintenance.category = '' or (maintenance.category = jobs.category and maintenance.product = jobs.product)))"
)


class MaintenanceWindow(NamedTuple):
    """Machines that accept no new jobs. Times are seconds since the epoch.

    :ivar category: of the product; empty, as ``product``: all products
    :ivar message: for researchers
    :ivar until: it is over by itself then; None: when somebody ends it
    :ivar begun_by: the Unix user
    """

    category: str
    product: str
    message: str
    until: float | None
    begun_at: float
    begun_by: str

    @property
    def key(self) -> tuple[str, str]:
        """Category and product, or :data:`ALL`."""
        return self.category, self.product

    def is_over(self, now: float) -> bool:
        """Whether its time has passed."""
        return self.until is not None and self.until <= now


class Maintenance:
    """The table maintenance. What is over or was ended stays in it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def listed(self) -> list[MaintenanceWindow]:
        """All windows that nobody has ended, also those that are over by themselves: the one of all products first."""
        sql = f"select {_COLUMNS} from maintenance where ended_at is null order by category, product"
        return [MaintenanceWindow(*row) for row in self._store.tuples(sql)]

    def on(self, now: float) -> list[MaintenanceWindow]:
        """The windows in whose time ``now`` is."""
        return [window for window in self.listed() if not window.is_over(now)]

    def begin(self, windows: Iterable[MaintenanceWindow]) -> None:
        """Opens windows, each in place of the one that its products have: all of them or none."""
        with self._store.writing():
            for window in windows:
                self.end([window.key], window.begun_at, window.begun_by)
                self._store.change(
                    f"insert into maintenance ({_COLUMNS}) "
                    "values (:category, :product, :message, :until, :begun_at, :begun_by)",
                    window._asdict(),
                )

    def end(self, keys: Collection[tuple[str, str]], now: float, by: str) -> None:
        """Ends the windows of these products, where there are such.

        :param by: the Unix user
        """
        with self._store.writing():
            for key in keys:
                self._store.change(
                    "update maintenance set ended_at = ?, ended_by = ? where category = ? and product = ? and ended_at is null",
                    [now, by, *key],
                )


def covering(windows: Iterable[MaintenanceWindow], category: str, product: str) -> MaintenanceWindow | None:
    """The window in which a product is; its own before the one of all products."""
    by_key = {window.key: window for window in windows}
    return by_key.get((category, product)) or by_key.get(ALL)
