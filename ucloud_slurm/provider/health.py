"""Whether each part of the provider works, and its figures: read from the database and the locks beside it.

Neither Slurm nor UCloud is asked: what they answered last is in the database. ``/readyz``, the metrics and
``ucloud-slurm status`` share this, and it loads little.
"""

import json
from collections.abc import Callable, Mapping
from typing import NamedTuple

from ucloud_slurm.config import Config
from ucloud_slurm.store.backup import last_made
from ucloud_slurm.store.breaker import CHANNEL, RUNNER, SLURM, UCLOUD, CircuitBreaker
from ucloud_slurm.store.caches import AUDIT, Cache
from ucloud_slurm.store.database_file import free_bytes, size
from ucloud_slurm.store.fence import Holder
from ucloud_slurm.store.generation import Generation
from ucloud_slurm.store.hooks import HookEvents
from ucloud_slurm.store.job_state import JobPhase
from ucloud_slurm.store.jobs import Jobs
from ucloud_slurm.store.outbox import Outbox
from ucloud_slurm.store.sqlite import Store
from ucloud_slurm.system.filelock import LISTENER, WORKER, is_locked, last_released
from ucloud_slurm.ucloud.eras import Era
from ucloud_slurm.users.impersonation import RunnerUnavailableError, connect

LATE_SECONDS = 600.0  # after the end of the last pass: 40 times the 15 s of the timer, twice what systemd gives a pass
NEVER_ENDED = "no pass has ended yet; systemctl enable --now ucloud-slurm-worker.timer"
LATE = "no pass has ended for {:.0f} min; systemctl list-timers ucloud-slurm-worker.timer; journalctl -u ucloud-slurm-worker"
NO_LISTENER = "the listener does not run; systemctl start ucloud-slurm-listener"
BEHIND = "{}, and nothing is reported to UCloud; run ucloud-slurm reconcile"


class Figures(NamedTuple):
    """Figures of the whole provider. Ages are seconds, sizes are bytes.

    :ivar jobs: how many, by phase
    :ivar waiting: messages that wait for UCloud
    :ivar oldest_age: of the message that waits longest; None while none waits
    :ivar pass_age: since the last pass of the worker ended; None before the first one
    :ivar backup_age: since the last verified backup was made; None before the first one
    :ivar silent_users: users whose own program does not answer, so that their jobs wait
    :ivar audit: what the last audit found that is not explained, by kind
    :ivar events: for programs of the site: how many wait, and how many have failed; None where there is no such program
    :ivar oldest_event_age: of the event that waits longest; None while none waits
    :ivar lease: which of two hosts has it; None where this host works alone
    :ivar copy_age: since the database was last copied for the other host; None before the first copy, and where that one
        works
    """

    jobs: Mapping[str, int]
    waiting: int
    oldest_age: float | None
    pass_age: float | None
    backup_age: float | None
    database_bytes: int
    log_bytes: int
    free_bytes: int
    silent_users: int
    audit: Mapping[str, int]
    events: Mapping[str, int] | None
    oldest_event_age: float | None
    lease: Holder | None
    copy_age: float | None


class Health:
    """The health of a provider. Every method reads it anew."""

    def __init__(self, config: Config, era: Era, store: Store, now: Callable[[], float]) -> None:
        """Reads nothing yet.

        :param now: the time in seconds since the epoch
        """
        self._config = config
        self._store = store
        self._now = now
        self.breaker = CircuitBreaker(store)
        self.parts = parts(config, era)

    def why_failing(self, part: str) -> str | None:
        """Why a part fails, in one clause; None while it does not."""
        if part == WORKER:
            return late(last_released(self._store.path, WORKER), self._now())
        if part == CHANNEL and not is_locked(self._store.path, LISTENER):
            return NO_LISTENER
        if part == RUNNER:
            try:
                connect(self._config.users.runner).close()
            except RunnerUnavailableError as error:
                return str(error)
            return None
        condition = self.breaker.of(part)
        return None if condition.failing_since is None else condition.reason

    def why_behind(self) -> str | None:
        """Why nothing is reported from this database, in one clause; None while it is reported."""
        behind = Generation(self._store).why_behind()
        return None if behind is None else BEHIND.format(behind)

    def figures(self) -> Figures:
        """The figures.

        :raises StorageFullError: the disk of the database does not say what is free
        """
        path, now, outbox, events = self._store.path, self._now(), Outbox(self._store), HookEvents(self._store)
        counts = Jobs(self._store).count()
        made = last_made(path, self._config.database.backup_folder)
        standing = None if self._store.fence is None else self._store.fence.standing()
        return Figures(
            jobs={phase: counts.get(phase, 0) for phase in JobPhase},
            waiting=outbox.waiting(),
            oldest_age=_age(outbox.oldest_waiting(), now),
            pass_age=_age(last_released(path, WORKER), now),
            backup_age=_age(made, now),
            database_bytes=size(path),
            log_bytes=size(f"{path}-wal"),
            free_bytes=free_bytes(path.parent),
            silent_users=self.breaker.persons(now),
            audit=self._audited(now),
            events=dict(zip(("waiting", "failed"), events.count(), strict=True)) if self._config.hooks else None,
            oldest_event_age=_age(events.oldest_waiting(), now) if self._config.hooks else None,
            lease=standing.holder if standing else None,
            copy_age=_age(standing.copied_at, now) if standing else None,
        )

    def _audited(self, now: float) -> Mapping[str, int]:
        kept = Cache(self._store, AUDIT).get("", now, stale=True)
        return {} if kept is None else {kind: count for kind, count in json.loads(kept).items() if kind != "until"}


def parts(config: Config, era: Era) -> tuple[str, ...]:
    """The parts that this provider has."""
    others = config.users.mapping != "service"  # whose jobs the runner submits
    return (WORKER, SLURM, UCLOUD, *([CHANNEL] if era.has_channel else []), *([RUNNER] if others else []))


def late(ended: float | None, now: float) -> str | None:
    """Why the passes of the worker have stopped; None while they have not. Its jobs are not followed then.

    :param ended: when the last pass ended, in seconds since the epoch; None: there was none yet
    """
    if ended is None:
        return NEVER_ENDED
    return LATE.format((now - ended) / 60) if now - ended > LATE_SECONDS else None


def _age(at: float | None, now: float) -> float | None:
    return None if at is None else max(0.0, now - at)
