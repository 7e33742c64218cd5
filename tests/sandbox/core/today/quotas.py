"""Wallets with quotas, whose usage the provider reports (contract: reportUsage, notification channel).

A job is never refused for an empty one: the wallet is locked, and the provider is notified.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from tests.sandbox.core.catalogue import CATEGORY
from tests.sandbox.core.errors import CoreError

Json = dict[str, Any]
FORGETS_MS = 30_000
"""Usage that was reported so lately before a stop is not written yet, and lost."""
PLENTY = 10**15
"""Quota of a wallet that came to be because somebody needed it."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """Who pays: a project, or a person without one.

    :ivar username: None for a project
    """

    username: str | None
    project: str | None

    @classmethod
    def of(cls, username: str, project: str | None) -> "Workspace":
        """The workspace in which somebody works."""
        return cls(username, None) if project is None else cls(None, project)


@dataclass(frozen=True, slots=True)
class Account:
    """One wallet at one moment. Numbers are in the unit and period of the category.

    :ivar changed_at: milliseconds since the epoch, when it was locked or unlocked or got another quota
    :ivar granted: whether there ever was a quota; a report of usage makes a wallet too
    """

    workspace: Workspace
    category: str
    quota: int
    usage: int
    changed_at: int
    granted: bool = True

    @property
    def max_usable(self) -> int:
        """What is left; negative when more was reported than there was."""
        return self.quota - self.usage

    @property
    def locked(self) -> bool:
        """Whether nothing is left."""
        return self.max_usable <= 0


@dataclass(frozen=True, slots=True)
class Report:
    """A usage that the provider reported, and Core recorded.

    :ivar is_delta: whether it is added to what was there
    :ivar locked: whether the wallet is locked after it
    """

    workspace: Workspace
    category: str
    usage: int
    scope: str | None
    is_delta: bool
    locked: bool


@dataclass(slots=True)
class _Scope:
    usage: int = 0
    categories: set[str] = field(default_factory=set)


class Accounts:
    """All wallets at one provider. Safe for several threads.

    :ivar automatic: whether who has no wallet gets one with plenty in it when he starts a job; without one Core
        refuses the job
    """

    def __init__(
        self,
        changed: threading.Condition,
        now_ms: Callable[[], int],
        *,
        is_free: Callable[[str], bool],
        complain: Callable[[str], None],
    ) -> None:
        """Begin without a wallet.

        :param is_free: whether a category costs nothing
        """
        self.automatic = True
        self._changed = changed
        self._now_ms = now_ms
        self._is_free = is_free
        self._complain = complain
        self._all: dict[tuple[Workspace, str], Account] = {}
        self._scopes: dict[tuple[Workspace, str], _Scope] = {}
        self._scoped: dict[tuple[Workspace, str], bool] = {}
        self._reports: list[Report] = []
        self._unwritten: list[tuple[int, tuple[Workspace, str], str | None, int]] = []
        self._watchers: list[Callable[[Account], None]] = []

    # -- what an administrator does -------------------------------------------------------------------------

    def set_quota(self, quota: int, username: str = "user", project: str | None = None, category: str = CATEGORY) -> None:
        """Grant so much, whatever was granted: a quota of what was used, or less, locks the wallet.

        :param project: whose wallet it is; the person's own without one
        """
        with self._changed:
            workspace = Workspace.of(username, project)
            known = self._all.get((workspace, category))
            self._keep(Account(workspace, category, quota, known.usage if known else 0, self._now_ms()), tell=True)

    def get(self, username: str = "user", project: str | None = None, category: str = CATEGORY) -> Account:
        """A wallet as it is now.

        :raises CoreError: 404 when there is none
        """
        with self._changed:
            found = self._all.get((Workspace.of(username, project), category))
            if found is None:
                raise CoreError(404, "Not found")
            return found

    def all(self) -> list[Account]:
        """Every wallet."""
        with self._changed:
            return list(self._all.values())

    @property
    def reports(self) -> list[Report]:
        """What was recorded, in order; not what cost nothing. A copy."""
        with self._changed:
            return list(self._reports)

    def forget(self) -> None:
        """Lose what was reported in the last half minute, as Core's process does whenever it stops.

        It stays in :attr:`reports`: it was answered as if it were recorded for good.
        """
        with self._changed:
            since = self._now_ms() - FORGETS_MS
            for at, (workspace, category), scope, change in self._unwritten:
                if at > since:
                    known = self._all[workspace, category]
                    self._all[workspace, category] = replace(known, usage=known.usage - change)
                    if scope is not None:
                        self._scopes[workspace, scope].usage -= change
            self._unwritten.clear()

    def used(self, scope: str) -> int:
        """What a counter stands at, of whatever workspace."""
        with self._changed:
            return sum(counter.usage for (_, name), counter in self._scopes.items() if name == scope)

    def watch(self, watcher: Callable[[Account], None]) -> None:
        """Have a function called with a wallet each time something significant changes."""
        self._watchers.append(watcher)

    # -- what Core does -------------------------------------------------------------------------------------

    def require(self, workspace: Workspace, category: str) -> None:
        """Refuse who never had an allocation. An empty wallet is one too.

        :raises CoreError: 402
        """
        with self._changed:
            known = self._all.get((workspace, category))
            if known is not None and known.granted:
                return
            if not self.automatic:
                raise CoreError(402, "You do not have any valid allocations")
            used = 0 if known is None else known.usage
            self._keep(Account(workspace, category, PLENTY, used, self._now_ms()), tell=True)

    def active(self, workspace: Workspace) -> bool:
        """Whether there is a wallet in any category."""
        with self._changed:
            return any(each.workspace == workspace and each.granted for each in self._all.values())

    def locked(self, workspace: Workspace, category: str) -> bool:
        """Whether nothing is left. Where nothing was granted, nothing is left; what is free is never locked."""
        with self._changed:
            found = self._all.get((workspace, category))
            return not self._is_free(category) and (found is None or found.locked)

    def report(self, workspace: Workspace, category: str, usage: int, *, scope: str | None, is_delta: bool) -> bool:
        """Record usage, also beyond the quota.

        :return: whether the wallet is not locked after it; always, where nothing is paid
        :raises CoreError: 403 when an absolute usage is negative
        """
        if usage < 0 and not is_delta:
            raise CoreError(403, "Negative usage")
        if self._is_free(category):
            return True
        with self._changed:
            key = (workspace, category)
            before = self._all.get(key) or Account(workspace, category, 0, 0, self._now_ms(), granted=False)
            change = usage if is_delta else usage - before.usage
            if scope is not None:
                counter = self._scope(workspace, category, scope)
                change = usage if is_delta else usage - counter.usage
                counter.usage += change
            self._unwritten = [each for each in self._unwritten if each[0] > self._now_ms() - FORGETS_MS]
            self._unwritten.append((self._now_ms(), key, scope, change))
            after = replace(before, usage=before.usage + change)
            flips = after.locked != before.locked
            if flips:
                after = replace(after, changed_at=self._now_ms())
            self._keep(after, tell=flips)
            if not is_delta:
                self._compare(key, scope is not None)
            self._reports.append(Report(workspace, category, usage, scope, is_delta, after.locked))
            return not after.locked

    def _scope(self, workspace: Workspace, category: str, scope: str) -> _Scope:
        # Core's key has no category in it: a scope is one counter for all of them.
        counter = self._scopes.setdefault((workspace, scope), _Scope())
        counter.categories.add(category)
        if len(counter.categories) > 1:
            self._complain(f"accounting.v2.reportUsage: scope {scope!r} is used for several categories")
        return counter

    def _compare(self, key: tuple[Workspace, str], scoped: bool) -> None:
        if self._scoped.setdefault(key, scoped) != scoped:
            self._complain(f"accounting.v2.reportUsage: usage of {key[1]} comes both with a scope and without")

    def _keep(self, account: Account, *, tell: bool) -> None:
        self._all[account.workspace, account.category] = account
        self._changed.notify_all()
        if tell:
            for watcher in self._watchers:
                watcher(account)
