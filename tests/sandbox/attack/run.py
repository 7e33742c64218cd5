"""Plays attacks one after the other, and shows the table."""

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from tests.sandbox.attack import jobs, login_node, programs, researchers, strangers, taken_over
from tests.sandbox.attack.load import Figure
from tests.sandbox.attack.load import load as all_at_once
from tests.sandbox.attack.model import Actor, Attack, Outcome, Row, lost, named
from tests.sandbox.attack.people import FAILURES
from tests.sandbox.attack.stage import Stage
from tests.sandbox.cluster import Cluster
from tests.sandbox.errors import SandboxError
from tests.sandbox.installation import Installation
from tests.sandbox.processes import wait_until

ATTACKS: tuple[Attack, ...] = (
    *strangers.ATTACKS,
    *researchers.ATTACKS,
    *jobs.ATTACKS,
    *login_node.ATTACKS,
    *programs.ATTACKS,
    *taken_over.ATTACKS,
)
WIDTHS = (30, 36)


def play(stage: Stage, attack: Attack) -> Row:
    """Plays one attack; what it leaves behind counts too: a unit that had to be started anew has not held."""
    begun = time.monotonic()
    try:
        outcome = attack.play(stage)
    except FAILURES as error:
        outcome = lost(f"could not be played: {type(error).__name__} {' '.join(str(error).split())[:200]}")
    wrong = _aftermath(stage, attack)
    if wrong:
        outcome = Outcome("; ".join(filter(None, [outcome.got if not outcome.held else "", *wrong])), held=False)
    return Row(attack, outcome, time.monotonic() - begun)


def _aftermath(stage: Stage, attack: Attack) -> list[str]:
    wrong = []
    try:
        wait_until("UCloud is answered again", lambda: not stage.lives(3), seconds=30)
        now = stage.vitals()
        if not attack.restarts:
            wrong += [f"{unit} was started anew" for unit in now.restarted(stage.before)]
        stage.restore() if attack.actor is Actor.PROGRAM else stage.rebase()
    except FAILURES as error:
        wrong.append(f"afterwards: {' '.join(str(error).split())[:120]}")
        stage.living.systemctl("restart", "ucloud-slurm.service", check=False)
    return wrong


def head() -> str:
    """The first line of the table."""
    return f"{'actor':<{WIDTHS[0]}} {'attack':<{WIDTHS[1]}} held  what it got"


def line(row: Row) -> str:
    """One row."""
    answer = "yes" if row.outcome.held else "NO"
    return f"{row.attack.actor:<{WIDTHS[0]}} {row.attack.name:<{WIDTHS[1]}} {answer:<5} {row.outcome.got} ({row.seconds:.1f} s)"


def play_all(stage: Stage, attacks: Sequence[Attack], say: Callable[[str], None]) -> list[Row]:
    """Plays all, and shows each row as it comes."""
    say(head())
    rows = []
    for attack in attacks:
        rows.append(play(stage, attack))
        say(line(rows[-1]))
    return rows


class Kit:
    """A run on a cluster. What it starts itself it removes."""

    def __init__(self, cluster: Cluster, say: Callable[[str], None]) -> None:
        self._cluster = cluster
        self._say = say

    def run(self, only: str | None, *, load: bool, out: Path | None = None) -> bool:
        """Plays, and shows the table and the figures.

        :param only: names of attacks, with commas between them; None: all of them
        :param load: whether everything is done at once in the end
        :param out: a file for the same as JSON
        :returns: whether all of it was held
        :raises SandboxError: it cannot be arranged
        """
        attacks = named(only, ATTACKS)
        if os.geteuid() != 0:
            raise SandboxError("The attacks need a living systemd and other accounts: run this as root.")
        cluster = self._cluster
        up, there = cluster.running(), cluster.folder.exists()
        try:
            cluster.start()
            rows, figures = self._play(attacks, load=load and only is None)
        finally:
            if not up:
                cluster.stop()
            if not there:
                cluster.remove()
        if out is not None:
            out.write_text(as_json(rows, figures), encoding="utf-8")
        lost_ = [row.attack.name for row in rows if not row.outcome.held] + [each.name for each in figures if not each.held]
        self._say(f"Not held: {', '.join(lost_)}." if lost_ else "All of it was held.")
        return not lost_

    def _play(self, attacks: Sequence[Attack], *, load: bool) -> tuple[list[Row], list[Figure]]:
        installation = Installation(self._cluster.folder / "product")
        installation.make()
        with Stage(self._cluster, installation) as stage:
            rows = play_all(stage, attacks, self._say)
            figures = all_at_once(stage) if load else []
        for figure in figures:
            self._say(figure.line())
        return rows, figures


def as_json(rows: Sequence[Row], figures: Sequence[Figure]) -> str:
    """The table and the figures as JSON."""
    found = [
        {
            "actor": str(row.attack.actor),
            "attack": row.attack.name,
            "tries": row.attack.tries,
            "got": row.outcome.got,
            "held": row.outcome.held,
            "seconds": round(row.seconds, 2),
        }
        for row in rows
    ]
    numbers = [asdict(each) | {"held": each.held} for each in figures]
    return json.dumps({"attacks": found, "figures": numbers}, indent=2) + "\n"
