"""What is kept from UCloud and Slurm, so that a restart asks nothing again."""

from ucloud_slurm.store.sqlite import Store

FOR_EVER = float("inf")


class Cache:
    """One kind of thing, kept as text by a key."""

    def __init__(self, store: Store, kind: str, keep: float = FOR_EVER) -> None:
        self._store = store
        self._kind = kind
        self._keep = keep

    def get(self, key: str, now: float, *, stale: bool = False) -> str | None:
        """What was kept under the key, unless it is older than it may be.

        :param stale: take it however old it is
        """
        row = self._store.row("select value, stored_at from caches where kind = ? and key = ?", [self._kind, key])
        if row is None or (not stale and not 0 <= now - row["stored_at"] < self._keep):
            return None
        return str(row["value"])

    def put(self, key: str, value: str, now: float) -> None:
        """Keeps it."""
        self._store.change(
            "insert into caches (kind, key, value, stored_at) values (?1, ?2, ?3, ?4) "
            "on conflict (kind, key) do update set value = ?3, stored_at = ?4",
            [self._kind, key, value, now],
        )


class TokenInStore:
    """The access token, kept between passes in the database file, which only our own account can read."""

    def __init__(self, store: Store) -> None:
        self._cache = Cache(store, "access-token")

    def load(self) -> str | None:
        """The token that was kept last."""
        return self._cache.get("", 0.0, stale=True)

    def keep(self, token: str) -> None:
        """Keeps this one instead."""
        self._cache.put("", token, 0.0)
