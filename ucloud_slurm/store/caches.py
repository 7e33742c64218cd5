"""Caches in the database: answers of UCloud and Slurm that survive a restart."""

import math

from ucloud_slurm.store.sqlite import Store

COMPARED = "compared"  # the kind that says when the jobs were compared with those of UCloud
UNDECIDED = "undecided"  # the kind that says when a database that is behind was compared, and left to the administrator
AUDIT = "audit"  # the kind in which the counts of the worker's last audit are


class Cache:
    """A cache of one kind of text, by key."""

    def __init__(self, store: Store, kind: str, keep_seconds: float = math.inf) -> None:
        self._store = store
        self._kind = kind
        self._keep_seconds = keep_seconds

    def get(self, key: str, now: float, *, stale: bool = False) -> str | None:
        """The text, unless it is too old; None when there is none.

        :param stale: return it however old it is
        """
        row = self._store.row("select value, stored_at from caches where kind = ? and key = ?", [self._kind, key])
        if row is None or (not stale and not 0 <= now - row["stored_at"] < self._keep_seconds):
            return None
        return str(row["value"])

    def put(self, key: str, value: str, now: float) -> None:
        """Stores a text."""
        self._store.change(
            "insert into caches (kind, key, value, stored_at) values (?1, ?2, ?3, ?4) "
            "on conflict (kind, key) do update set value = ?3, stored_at = ?4",
            [self._kind, key, value, now],
        )


def forget(store: Store, kind: str, before: float) -> None:
    """Deletes texts of a kind that were stored before that time."""
    store.change("delete from caches where kind = ? and stored_at < ?", [kind, before])


class MemoryInStore:
    """What the clients of UCloud know: the access token and the pauses. Only our own account can read the database file."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def load(self, key: str) -> str | None:
        """The text that was stored last."""
        return Cache(self._store, key).get("", 0.0, stale=True)

    def keep(self, key: str, text: str) -> None:
        """Replaces the text."""
        Cache(self._store, key).put("", text, 0.0)
