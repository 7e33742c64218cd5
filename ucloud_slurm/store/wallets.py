"""What UCloud's notification channel has said of wallets, projects and users, and the time from which to replay it."""

import json
from collections.abc import Iterable

from ucloud_slurm.store.people import LinkStates
from ucloud_slurm.store.sqlite import Store
from ucloud_slurm.ucloud.channel import OwnerKind, Payer, Project, Record, User, Wallet
from ucloud_slurm.ucloud.gate import NamedProject, NamedUser

REPLAY_MARGIN_SECONDS = 60.0  # what happens at about the same time may be sent in any order


class Wallets:
    """The tables wallets, ucloud_projects, ucloud_users and channel."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._links = LinkStates(store)

    def locked(self, payer: Payer) -> bool:
        """Whether a wallet has nothing left. One that UCloud has not named is not locked."""
        sql = "select 1 from wallets where owner_kind = ? and owner = ? and category = ? and locked"
        return self._store.row(sql, [payer.kind, payer.owner, payer.category]) is not None

    def all_locked(self) -> frozenset[Payer]:
        """All wallets that have nothing left."""
        rows = self._store.rows("select owner_kind, owner, category from wallets where locked")
        return frozenset(Payer(OwnerKind(row["owner_kind"]), row["owner"], row["category"]) for row in rows)

    def changed_at(self, payer: Payer) -> float | None:
        """When a wallet changed last, as the channel said; None when it said nothing."""
        sql = "select changed_at from wallets where owner_kind = ? and owner = ? and category = ?"
        row = self._store.row(sql, [payer.kind, payer.owner, payer.category])
        return float(row["changed_at"]) if row else None

    def named_user(self, username: str) -> NamedUser | None:
        """A user, if UCloud has named this one."""
        known = self._store.row("select 1 from ucloud_users where username = ?", [username])
        return NamedUser(username) if known else None

    def named_project(self, project: str) -> NamedProject | None:
        """A project, if UCloud has named this one."""
        known = self._store.row("select 1 from ucloud_projects where id = ?", [project])
        return NamedProject(project) if known else None

    def replay_from(self) -> float:
        """The time from which UCloud should replay everything, in seconds since the epoch."""
        return max(0.0, self._handled() - REPLAY_MARGIN_SECONDS)

    def take(self, records: Iterable[Record], provider: str, now: float) -> bool:
        """Writes records of the channel; all of them or none.

        Those about another provider's category, or about a project that may not use resources, are passed over.

        :param provider: our id
        :returns: whether a wallet is locked that was not, or the other way round
        """
        changed = False
        with self._store.writing():
            for record in records:
                match record:
                    case User():
                        self._name(record.username, now)
                    case Project(consumes=True):
                        self._project(record, now)
                    case Wallet(consumes=True) if record.provider == provider:
                        changed |= self.set(record)
        return changed

    def set(self, wallet: Wallet) -> bool:
        """Writes the present state of a wallet.

        :returns: whether it is locked and was not, or the other way round
        """
        payer = wallet.payer
        with self._store.writing():
            before = self.locked(payer)
            self._store.change(
                "insert into wallets (owner_kind, owner, category, locked, quota, usage, changed_at) "
                "values (?1, ?2, ?3, ?4, ?5, ?6, ?7) on conflict (owner_kind, owner, category) "
                "do update set locked = ?4, quota = ?5, usage = ?6, changed_at = ?7",
                [payer.kind, payer.owner, payer.category, int(wallet.locked), wallet.quota, wallet.usage, wallet.changed_at],
            )
        return before is not wallet.locked

    def found(self, payer: Payer, *, locked: bool) -> None:
        """UCloud has said elsewhere than on the channel whether a wallet has nothing left."""
        if self.locked(payer) is not locked:
            self._store.change(
                "insert into wallets (owner_kind, owner, category, locked, quota, usage, changed_at) "
                "values (?1, ?2, ?3, ?4, 0, 0, 0) on conflict (owner_kind, owner, category) do update set locked = ?4",
                [payer.kind, payer.owner, payer.category, int(locked)],
            )

    def handled(self, until: float) -> None:
        """All records until then have been written. An earlier time changes nothing."""
        self._store.change(
            "insert into channel (id, handled_until) values (1, ?1) "
            "on conflict (id) do update set handled_until = max(handled_until, ?1)",
            [until],
        )

    def forget_locks(self) -> None:
        """What is known of wallets is too old to end jobs for it: none is locked until UCloud says so anew.

        The next connection of the channel asks for all records; until then the answers to reports say it.
        """
        with self._store.writing():
            self._store.change("update wallets set locked = 0 where locked")
            self._store.change("delete from channel")

    def _handled(self) -> float:
        row = self._store.row("select handled_until from channel where id = 1")
        return float(row["handled_until"]) if row else 0.0

    def _name(self, username: str, now: float) -> None:
        self._store.change(
            "insert into ucloud_users (username, named_at) values (?, ?) on conflict (username) do nothing", [username, now]
        )
        self._links.named(username, now)

    def _project(self, project: Project, now: float) -> None:
        self._store.change(
            "insert into ucloud_projects (id, title, members, modified_at) values (?1, ?2, ?3, ?4) "
            "on conflict (id) do update set title = ?2, members = ?3, modified_at = ?4",
            [project.id, project.title, json.dumps(project.members), project.modified_at],
        )
        for username in project.members:
            self._name(username, now)
