"""The acts of administrators and users that changed something: who, when, what, and from where. They are only ever added."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from ucloud_slurm.store.sqlite import Store
from ucloud_slurm.system import origin

USERS = "users"  # the kind of acts about links of users, and about projects
PRODUCTS = "products"
OUTBOX = "outbox"
DATABASE = "database"
RECONCILE = "reconcile"
MAINTENANCE = "maintenance"
HOOKS = "hooks"
JOBS = "jobs"


class Act(NamedTuple):
    """An act. The other fields are those of :class:`ucloud_slurm.system.origin.Origin`, as far as they are known.

    :ivar at: seconds since the epoch
    :ivar who: the person, or UCloud
    :ivar kind: what it was about, such as ``users``
    :ivar what: in words
    """

    id: int
    at: float
    who: str
    kind: str
    what: str
    account: str | None
    login: str | None
    sudo_user: str | None
    host: str | None
    terminal: str | None
    client: str | None


class Acts:
    """The table acts. SQLite refuses to change and to delete its rows."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._here = origin.here()  # a transaction must not wait for the name service

    def record(self, kind: str, what: str, now: float, *, who: str | None = None, client: str | None = None) -> None:
        """Records an act. Called inside of the transaction of the act, where it is one, so that neither is without the other.

        :param who: the person; left out: the one at the terminal of this process
        :param client: the address of the person's host; left out: that of this process's ssh connection
        :param now: seconds since the epoch
        """
        here = self._here
        act = {"at": now, "who": who or here.who, "kind": kind, "what": what} | here._asdict()
        self._store.change(
            "insert into acts (at, who, kind, what, account, login, sudo_user, host, terminal, client) "
            "values (:at, :who, :kind, :what, :account, :login, :sudo_user, :host, :terminal, :client)",
            act | {"client": client or here.client},
        )

    @contextmanager
    def recorded(self, kind: str, what: str, now: float) -> Iterator[None]:
        """Records an act at another system before it is done, and once more where it failed.

        :param now: seconds since the epoch
        """
        self.record(kind, what, now)
        try:
            yield
        except BaseException as error:
            self.record(kind, f"{what}: failed ({type(error).__name__})", now)
            raise

    def listed(self, since: float, most: int) -> list[Act]:
        """The newest acts since then, the oldest of them first.

        :param since: seconds since the epoch
        """
        rows = self._store.rows("select * from acts where at >= ? order by at desc, id desc limit ?", [since, most])
        return [Act(**row) for row in reversed(rows)]
