"""Everything at once, and what UCloud and other people notice of it."""

import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from tests.sandbox.attack.login_node import HALF_OPEN
from tests.sandbox.attack.people import CAROL, FAILURES, LINKS, PATIENCE, quantile
from tests.sandbox.attack.programs import MATCH, heal, hostile, uses
from tests.sandbox.attack.stage import Stage
from tests.sandbox.attack.strangers import SWARMS, swarm
from tests.sandbox.attack.vitals import Vitals
from tests.sandbox.errors import SandboxError
from tests.sandbox.processes import wait_until

SOCKETS = 5000
KINDS = ("idle-websockets", "half-frames", "slow-heads", "slow-bodies", "pinging-websockets")
WORST = ("block", "full", "feed", "silent", "huge", "give", "flood", "stderr")
ALL_SECONDS = 40.0  # that it takes
EACH_SECONDS = 5.0  # of each of the worst
LEFT_SECONDS = 150.0  # until nothing is left: an idle program ends after 75
GROWTH_MIB = 300.0


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured.

    :ivar most: that it may be; None where it is only said
    """

    name: str
    value: float
    unit: str
    most: float | None = None

    @property
    def held(self) -> bool:
        """Whether it is as it should be."""
        return self.most is None or self.value <= self.most

    def line(self) -> str:
        """One line below the table."""
        wanted = "" if self.most is None else f"   (at most {self.most:g}: {'held' if self.held else 'NOT HELD'})"
        return f"{self.name:<60} {self.value:>10.1f} {self.unit:<12}{wanted}"


def load(stage: Stage, seconds: float = ALL_SECONDS, *, patient: bool = True) -> list[Figure]:
    """Attacks from everywhere for some time, and measures.

    :param patient: wait until the programs of people end by themselves, because nobody uses them any more
    :raises SandboxError: it cannot be arranged
    """
    _end_programs(stage)
    wait_until("it is quiet", lambda: not stage.lives(3), seconds=PATIENCE)
    _end_programs(stage)
    before = stage.vitals()
    count = int(SOCKETS * stage.scale)
    over = threading.Event()
    threads = [threading.Thread(target=work, args=(stage, over)) for work in (_worst, _floods)]
    with ExitStack() as stack:
        echoes = stack.enter_context(stage.typing())
        attackers = []
        for name in KINDS:
            _, first, drip, again = SWARMS[name]
            attackers.append(
                stack.enter_context(stage.stranger("swarm", swarm(stage, count // len(KINDS), first, drip, again=again)))
            )
        _, first, drip, again = SWARMS["flood-of-bad-tokens"]
        stack.enter_context(stage.stranger("swarm", swarm(stage, 20, first, drip, again=again)))
        for place in stage.sockets():
            half = {"to": place, "count": HALF_OPEN, "first": "GET / HTTP/1.1\r\nHost", "drip": "", "again": True}
            stack.enter_context(stage.attacker("alice", "swarm", half))
        for thread in threads:
            thread.start()
        echoes.clear()
        calls, until, most = [], time.monotonic() + seconds, before
        while time.monotonic() < until:
            calls += stage.calls(20)
            most = max(most, stage.vitals(), key=lambda each: each.memory())
        typed = list(echoes)
        over.set()
        for thread in threads:
            thread.join(PATIENCE)
    heal(stage)
    if patient:
        _renew(stage)
    else:
        _end_programs(stage)
    peak = sum(attacker.said["peak"] for attacker in attackers)
    failed = sum(status != 200 for _, status in calls)
    after = _left(stage, before.descriptors(), before.count())
    took = [each for each, _ in calls]
    return [
        Figure("strangers' sockets at a time", peak, ""),
        Figure("UCloud's calls", len(calls), ""),
        Figure("UCloud's calls that failed", failed, "", 0),
        Figure("UCloud's calls, p50", quantile(took, 0.5) * 1000, "ms"),
        Figure("UCloud's calls, p99", quantile(took, 0.99) * 1000, "ms", stage.seconds * 1000),
        Figure("keys of another's shell", len(typed), ""),
        Figure("keys of another's shell, p50", quantile(typed, 0.5) * 1000, "ms"),
        Figure("keys of another's shell, p95", (quantile(typed, 0.95) if typed else PATIENCE) * 1000, "ms", stage.echo * 1000),
        Figure("memory of all units at most, beyond before", most.memory() - before.memory(), "MiB", GROWTH_MIB),
        Figure("descriptors left", after.descriptors() - before.descriptors(), "", 0),
        Figure("processes left", after.count() - before.count(), "", 0),
        Figure("memory left", after.memory() - before.memory(), "MiB", GROWTH_MIB / 2),
        Figure("units started anew", len(after.restarted(before)), "", 0),
    ]


def _renew(stage: Stage) -> None:
    """Everybody has a new job: who follows one does so to its end."""
    for person in LINKS:
        stage.renew(person)


def _end_programs(stage: Stage) -> None:
    """Everybody ends the programs that act as them."""
    heal(stage)
    _renew(stage)
    for account in LINKS.values():
        stage.living.run("pkill", "-KILL", "-u", account, "-f", MATCH, user=account, check=False)
    with suppress(SandboxError):
        wait_until("the programs have ended", lambda: not stage.vitals().programs(), seconds=PATIENCE)
    if left := [each for each in stage.vitals().processes if each.is_program]:
        raise SandboxError(f"These programs do not end: {', '.join(each.words() for each in left)}")


def _left(stage: Stage, descriptors: int, processes: int) -> Vitals:
    def quiet() -> bool:
        now = stage.vitals()
        return now.descriptors() <= descriptors and now.count() <= processes

    with suppress(SandboxError):
        wait_until("nothing is left", quiet, seconds=LEFT_SECONDS)
    return stage.vitals()


def _worst(stage: Stage, over: threading.Event) -> None:
    """Alice does each of the worst things, one after the other."""
    while True:
        for how in WORST:
            if over.is_set():
                return
            with suppress(*FAILURES), hostile(stage, how), uses(stage):
                over.wait(EACH_SECONDS)


def _floods(stage: Stage, over: threading.Event) -> None:
    """Carol floods terminals and logs."""
    while not over.is_set():
        with suppress(*FAILURES), ExitStack() as stack:
            job = stage.job(CAROL)
            log = stage.folder(CAROL, job) / "stdout-0.log"
            stack.enter_context(stage.core.follow(job, CAROL))
            shells = [stack.enter_context(stage.shell(CAROL)) for _ in range(2)]
            for shell in shells:
                shell.send("timeout 3 yes 0123456789012345678901234567890123456789 | head -c 20000000\r")
            flood = f"timeout 3 yes | head -c 20000000 >> {log}; sleep 1; truncate -s 0 {log}"
            stage.living.run("bash", "-c", flood, user="carol", check=False)
