"""Plays the stories while everything is disturbed, waits until it is quiet, and shows what held."""

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from tests.sandbox.cluster import Cluster
from tests.sandbox.errors import SandboxError
from tests.sandbox.installation import Installation
from tests.sandbox.outage.broken import Broken, spoil
from tests.sandbox.outage.disturbances import QUICK_SERVICES, QUICK_SLURM, Disturbances, Trouble
from tests.sandbox.outage.plans import CREATES, LIVES, QUICK_LIVES
from tests.sandbox.outage.rig import Rig
from tests.sandbox.outage.stories import Stories
from tests.sandbox.outage.truth import examine

QUIET_SECONDS = 300.0
EVERY = 50  # stories, between two lines that say how far it is
MORE = 10  # stories at a time, until there were enough kills
NAMES = {
    "lost": "lost jobs",
    "doubled": "doubled jobs",
    "states": "wrong final states",
    "wallets": "wallets with a difference of half a unit or more",
    "messages": "messages lost or refused",
    "failed_creates": "jobs left of failed creates",
    "foreign": "jobs of others cancelled",
    "harm": "calls that harm UCloud",
    "service": "crashes of the service",
    "not_quiet": "things that did not come to an end",
}


@dataclass(frozen=True, slots=True)
class Size:
    """How large a run is.

    :ivar stories: how many are played
    :ivar at_once: how many are under way at a time
    :ivar trouble: what is done meanwhile
    :ivar kills: more stories are played until there were so many
    :ivar lives: how often there is which; likewise the ways to create a job
    :ivar repetitions: it ends when also the reports of use were repeated that UCloud may have forgotten, after a minute
    """

    stories: int
    at_once: int = 120
    trouble: Trouble = field(default_factory=Trouble)
    kills: int = 0
    lives: Mapping[str, int] = field(default_factory=lambda: LIVES)
    creates: Mapping[str, int] = field(default_factory=lambda: CREATES)
    repetitions: bool = True


SHORT = Size(
    stories=24,
    at_once=24,
    trouble=Trouble(
        services=QUICK_SERVICES, daemons=QUICK_SLURM, first=("away munged",), pace=1.5, spoilt=0.06, live=4, whole=2
    ),
    kills=8,
    lives=QUICK_LIVES,
    repetitions=False,
)
"""Without what takes more than a minute to be as it was."""


def of_broken(build: Broken) -> Size:
    """A run in which a broken build has the occasion to do what it should not."""
    return Size(8, 8, build.trouble, lives={"ends": 1}, creates={"started": 1}, repetitions=False)


def sized(stories: int) -> Size:
    """A run of so many stories, with as many kills for each as a whole one has."""
    return Size(stories=stories, kills=stories // 2)


@dataclass(slots=True)
class Report:
    """One run."""

    seed: int
    stories: Counter[str] = field(default_factory=Counter)
    creates: Counter[str] = field(default_factory=Counter)
    jobs: int = 0
    failed_creates: int = 0
    taken_back: int = 0
    gone: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    passes: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    quiet_after: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def held(self) -> bool:
        """Whether every invariant held."""
        return not self.findings

    def catches(self, broken: Broken) -> bool:
        """Whether the invariant that a broken build breaks did not hold."""
        return self.counts[broken.invariant] > 0

    def as_json(self) -> str:
        """The same as JSON."""
        return json.dumps({each.name: getattr(self, each.name) for each in fields(self)} | {"held": self.held}, indent=2) + "\n"

    def lines(self) -> list[str]:
        """The table."""
        rows: list[tuple[str, Any]] = [
            ("seed", self.seed),
            ("stories", _sum(self.stories)),
            ("created", _sum(self.creates)),
            ("jobs that UCloud accepted", self.jobs),
            ("creates that UCloud saw fail", self.failed_creates),
            ("kills of living processes", _sum(self.kills)),
            ("stops, freezes, rotations", _sum(self.others)),
            ("answers spoilt", _sum(self.faults)),
            ("jobs that Slurm itself forgot when it was killed", self.gone),
            ("ends that Slurm itself forgot when it was killed", self.taken_back),
            ("passes, by how they ended", _sum(self.passes)),
            ("seconds, and then until quiet", f"{self.seconds:.0f}, {self.quiet_after:.0f}"),
            *((NAMES[name], number) for name, number in self.counts.items()),
        ]
        return [f"{name:<50} {value}" for name, value in rows]


def _sum(counts: Counter[str]) -> str:
    parts = ", ".join(f"{name} {number}" for name, number in sorted(counts.items()))
    return f"{counts.total()} ({parts})"


def play(cluster: Cluster, installation: Installation, seed: int, size: Size, say: Callable[[str], None]) -> Report:
    """One run on a running cluster.

    :param say: gets how far it is
    """
    report = Report(seed)
    with Rig(cluster, installation, seed) as rig:
        stories, disturbances = Stories(rig, seed, size.lives, size.creates), Disturbances(rig, seed, size.trouble)
        begun = time.monotonic()

        def done() -> None:
            disturbances.stories += 1
            if disturbances.stories % EVERY == 0:
                say(f"{disturbances.stories} stories, {disturbances.kills.total()} kills, {time.monotonic() - begun:.0f} s")

        disturbances.begin()
        try:
            stories.play(size.stories, size.at_once, done)
            while disturbances.kills.total() < size.kills:
                stories.play(MORE, MORE, done)
        finally:
            disturbances.end()
        report.seconds = time.monotonic() - begun
        left = rig.wait_quiet(QUIET_SECONDS, repetitions=size.repetitions)
        if stories.played.refused:
            rig.site.cli("outbox", "--retry")
            left = rig.wait_quiet(QUIET_SECONDS, repetitions=size.repetitions)
        report.quiet_after = time.monotonic() - begun - report.seconds
        findings = examine(rig, stories.played, left)
    played = stories.played
    report.stories, report.creates = Counter(played.jobs.values()), played.creates
    report.jobs, report.failed_creates = len(played.jobs), played.failed
    report.taken_back, report.gone = played.taken_back, played.gone
    report.kills, report.others = disturbances.kills, disturbances.others
    report.faults = rig.wrappers.met() + _named("to UCloud", rig.to_ucloud.met) + _named("to provider", rig.to_provider.met)
    report.passes = Counter({str(status): number for status, number in rig.passes.ends.items()})
    report.counts, report.findings, report.notes = findings.counts(), findings.all(), disturbances.failures
    return report


def _named(place: str, met: Counter[str]) -> Counter[str]:
    return Counter({f"{place}: {fault}": number for fault, number in met.items()})


class Kit:
    """A run on a cluster. What it starts itself it removes."""

    def __init__(self, cluster: Cluster, say: Callable[[str], None]) -> None:
        self._cluster = cluster
        self._say = say

    def run(self, seed: int, size: Size, out: Path | None, broken: Broken | None = None) -> bool:
        """Plays, and shows the table.

        :param out: a file for the same as JSON
        :param broken: the build that is tried in place of the product
        :returns: whether all held, or whether the broken build was caught
        :raises SandboxError: it cannot be arranged
        """
        if os.geteuid() != 0:
            raise SandboxError("The rig kills daemons and acts as several accounts: run this as root.")
        cluster = self._cluster
        up, there = cluster.running(), cluster.folder.exists()
        try:
            cluster.start()
            installation = Installation(cluster.folder / "product")
            installation.make()
            if broken is not None:
                spoil(installation, broken)
            report = play(cluster, installation, seed, size, self._say)
        finally:
            if not up:
                cluster.stop()
            if not there:
                cluster.remove()
        for line in (*report.lines(), *report.notes, *report.findings):
            self._say(line)
        if out is not None:
            out.write_text(report.as_json(), encoding="utf-8")
        if broken is not None:
            self._say(f"{'Caught' if report.catches(broken) else 'NOT CAUGHT'}: {broken.what}.")
            return report.catches(broken)
        self._say("All of it held." if report.held else f"Not held; the seed is {seed}.")
        return report.held
