"""The first page: whether each part works and why not, what waits, and how fast it has been lately."""

from collections.abc import Sequence
from typing import NamedTuple

from flask import Blueprint, render_template

from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.health import Health
from ucloud_slurm.store.breaker import CHANNEL, RUNNER, SLURM, UCLOUD
from ucloud_slurm.store.browsing import Browsing
from ucloud_slurm.system.filelock import WORKER

LATEST = 500  # jobs and messages from which rates are made
HOUR_SECONDS = 3600.0
NAMES = {WORKER: "Worker", SLURM: "Slurm", UCLOUD: "UCloud", CHANNEL: "UCloud's channel", RUNNER: "Runner"}


class Part(NamedTuple):
    """A part of the provider.

    :ivar why: it fails, in one clause; None while it does not
    :ivar since: when that began, in seconds since the epoch, where it is known
    """

    name: str
    why: str | None
    since: float | None = None


class Pace(NamedTuple):
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


def parts(health: Health) -> list[Part]:
    """The parts of the provider, as ``/readyz`` sees them. Neither Slurm nor UCloud is asked."""
    found = []
    for name in health.parts:
        condition, why = health.breaker.of(name), health.why_failing(name)
        found.append(Part(NAMES[name], why, condition.answering_since if why is None else condition.failing_since))
    return [*found, Part("Database", health.why_behind())]


def blueprint(provider: Provider) -> Blueprint:
    """``/``."""
    place, browsing = Blueprint("health", __name__), Browsing(provider.store)
    health = Health(provider.config, provider.era, provider.store, provider.now)

    @place.get("/")
    def overview() -> str:
        now, figures = provider.now(), health.figures()
        return render_template(
            "overview.html",
            parts=parts(health),
            maintenance=provider.maintenance.on(now),
            figures=figures,
            states=browsing.open_states(),
            parked=provider.outbox.parked(),
            passed=None if figures.pass_age is None else now - figures.pass_age,
            backup=None if figures.backup_age is None else now - figures.backup_age,
            findings={kind: count for kind, count in figures.audit.items() if count},
            creates=Pace.of(browsing.latest(LATEST), now),
            deliveries=Pace.of(browsing.latest_deliveries(LATEST), now),
        )

    return place
