"""The first page: whether each part works and why not, what waits, and how fast it has been lately."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from flask import Blueprint, render_template

from ucloud_slurm.provider.context import Provider
from ucloud_slurm.store.backup import last_made
from ucloud_slurm.store.breaker import CHANNEL, RUNNER, SLURM, UCLOUD
from ucloud_slurm.store.browsing import Browsing
from ucloud_slurm.store.caches import AUDIT, Cache
from ucloud_slurm.store.database_file import free_bytes, size
from ucloud_slurm.store.generation import Generation
from ucloud_slurm.system.filelock import WORKER, last_released
from ucloud_slurm.web.health import _failing as why_failing

LATEST = 500  # jobs and messages from which rates are made
HOUR_SECONDS = 3600.0
NAMES = {
    WORKER: "Worker",
    SLURM: "Slurm",
    UCLOUD: "UCloud",
    CHANNEL: "UCloud's channel",
    RUNNER: "Runner",
    "database": "Database",
}


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the provider.

    :ivar why: it fails, in one clause; None while it does not
    :ivar since: when that began, in seconds since the epoch, where it is known
    """

    name: str
    why: str | None
    since: float | None = None


@dataclass(frozen=True, slots=True)
class Pace:
    """How much there was lately, and how long it took.

    :ivar in_an_hour: how many in the last hour
    :ivar more: there were more than were looked at
    :ivar middle: seconds that half of them took at most; None: there were none
    :ivar slowest: seconds that 95 in a hundred took at most
    """

    in_an_hour: int
    more: bool
    middle: float | None
    slowest: float | None

    @classmethod
    def of(cls, times: Sequence[tuple[float, float | None]], now: float, most: int = LATEST) -> "Pace":
        """Of when each began and when it was done.

        :param most: how many were looked at
        """
        lately = sum(now - begun < HOUR_SECONDS for begun, _ in times)
        took = sorted(done - begun for begun, done in times if done is not None)
        middle, slowest = (took[len(took) // 2], took[len(took) * 95 // 100]) if took else (None, None)
        return cls(lately, lately >= most, middle, slowest)


def parts(provider: Provider) -> list[Part]:
    """The parts of the provider, as ``/readyz`` sees them. Neither Slurm nor UCloud is asked."""
    others = provider.config.users.mapping != "service"
    names = (WORKER, SLURM, UCLOUD, *([CHANNEL] if provider.era.has_channel else []), *([RUNNER] if others else []))
    found = []
    for name in names:
        condition, why = provider.breaker.of(name), why_failing(provider, name)
        found.append(Part(NAMES[name], why, condition.answering_since if why is None else condition.failing_since))
    behind = Generation(provider.store).why_behind()
    why = None if behind is None else f"{behind}, and nothing is reported to UCloud; run ucloud-slurm reconcile"
    return [*found, Part(NAMES["database"], why)]


def blueprint(provider: Provider) -> Blueprint:
    """``/``."""
    place = Blueprint("health", __name__)

    @place.get("/")
    def overview() -> str:
        now, browsing, path = provider.now(), Browsing(provider.store), provider.store.path
        audited = Cache(provider.store, AUDIT).get("", now, stale=True)
        findings = {} if audited is None else json.loads(audited)
        oldest = provider.outbox.oldest_waiting()
        deliveries = browsing.latest_deliveries(LATEST)
        return render_template(
            "overview.html",
            parts=parts(provider),
            maintenance=provider.maintenance.on(now),
            phases=provider.jobs.count(),
            states=browsing.open_states(),
            waiting=provider.outbox.waiting(),
            oldest_age=None if oldest is None else now - oldest,
            parked=len(browsing.messages("parked").rows),
            passed=last_released(path, WORKER),
            backup=last_made(path, provider.config.database.backup_folder),
            sizes={"database": size(path), "log": size(f"{path}-wal"), "free": free_bytes(path.parent)},
            audited_at=findings.pop("until", None),
            findings={kind: count for kind, count in findings.items() if count},
            creates=Pace.of(browsing.latest(LATEST), now),
            deliveries=Pace.of(deliveries, now),
            silent=provider.breaker.persons(now),
        )

    return place
