"""Creates of jobs that run as their researcher, beside sbatch run by that person; the first one of a person, too."""

import json
import os
import pwd
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.sandbox.bench.bulks import READERS, owners
from tests.sandbox.bench.programs import Http, Timer
from tests.sandbox.bench.rows import row
from tests.sandbox.bench.stage import LOOPS, SCRIPT, Scene, Stage
from tests.sandbox.errors import SandboxError
from tests.sandbox.processes import find, wait_until, with_descendants

READER, ACCOUNT = "Reader#0", "alice"
CROWD = {f"Visitor#{number}": f"visitor{number}" for number in range(100)}
PATIENCE = 10.0
CROWD_SECONDS = 120.0
MOMENT = 0.2


def mapped(stage: Stage) -> None:
    """Measures them.

    :raises SandboxError: without root there are no accounts for researchers
    """
    stage.cluster.invite(READERS)
    with _site(stage, "mapped", owners()) as (scene, jobs):
        _Mapped(scene, jobs / ACCOUNT).measure()


def crowd(stage: Stage) -> None:
    """Measures a hundred people who create at once, each for the first time.

    :raises SandboxError: without root there are no accounts for them
    """
    stage.cluster.invite([*CROWD.values()])
    took: list[float] = []
    wrong: list[str] = []
    with _site(stage, "crowd", CROWD) as (scene, _):
        scene.site.loop(1.0)
        http, before = scene.http(), scene.live()
        answered = http.post(scene.bodies(len(CROWD), owners=[*CROWD]), len(CROWD), strict=False)
        took, wrong = [*answered.took], [*answered.wrong]
        scene.wait_live(before + len(CROWD) - len(wrong), CROWD_SECONDS)
        whole = (time.perf_counter() - answered.begun) * 1000
        memory = _memory(scene)
    stage.add(row("crowd", f"{len(CROWD)} researchers creating at once, each for the first time", "ms", took))
    stage.add(row("crowd-largest", "of which the slowest answer", "ms", [max(took)]))
    stage.add(row("crowd-errors", "of which not accepted", "jobs", [len(wrong)]))
    stage.add(row("crowd-whole", "of which until Slurm has all", "ms", [whole]))
    stage.add(row("crowd-memory", "of which the runner's and the programs' memory afterwards", "MiB", [memory]))


@contextmanager
def _site(stage: Stage, name: str, links: Mapping[str, str]) -> Iterator[tuple[Scene, Path]]:
    """A site of these people, and the folder that has a folder of jobs for each, none in a home."""
    if not stage.cluster.users:
        raise SandboxError("jobs of researchers need root")
    jobs = stage.cluster.folder / "bench-jobs"
    jobs.mkdir(exist_ok=True)
    jobs.chmod(0o1777)
    try:
        with stage.scene(name, links=links, tables={"jobs": {"folder": f"{jobs}/{{user}}"}}) as scene:
            yield scene, jobs
    finally:
        shutil.rmtree(jobs)


def _memory(scene: Scene) -> float:
    """MiB that the runner and what it has started take, what they share counted once (proc(5): smaps_rollup)."""
    runner = next(each for each in scene.site.processes if b"runner" in _line(each.pid))
    process = find(runner.pid)
    kib = 0
    for each in with_descendants([process] if process else []):
        with suppress(OSError):
            found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{each.pid}/smaps_rollup").read_text(), re.MULTILINE)
            kib += int(found[1]) if found else 0
    return kib / 1024


class _Mapped:
    def __init__(self, scene: Scene, jobs: Path) -> None:
        self._scene, self._stage, self._sizes = scene, scene.stage, scene.stage.sizes
        self._argv, env, script = scene.sbatch(READER, jobs)
        self._argv = [word.replace(str(script.parent), str(jobs / "bare")) for word in self._argv]
        account = pwd.getpwnam(ACCOUNT)
        self._env = {**env, "HOME": account.pw_dir, "USER": ACCOUNT, "LOGNAME": ACCOUNT}
        self._script = jobs / "bare" / SCRIPT
        self._script.parent.mkdir()
        shutil.copy(script, self._script)
        for path in (self._script.parent, self._script):
            os.chown(path, account.pw_uid, account.pw_gid)

    def measure(self) -> None:
        """All of it."""
        http, timer = self._scene.http(), self._scene.timer(LOOPS, ACCOUNT)
        self._warm(http, timer)
        self._eight(http, timer)
        self._first(http, timer)

    def _bodies(self, number: int, owner: str = READER) -> list[str]:
        return self._scene.bodies(number, owners=(owner,))

    def _bare(self, timer: Timer, times: int, loops: int = 1) -> Sequence[float]:
        return timer.run(self._argv, self._env, stdin=self._script, times=times, loops=loops).took

    def _warm(self, http: Http, timer: Timer) -> None:
        http.post(self._bodies(self._sizes.block))
        if self._stage.backend == "pyslurm":
            wait_until("alice's program has pyslurm", lambda: self._has_pyslurm(http), seconds=CROWD_SECONDS)
        self._bare(timer, self._sizes.block)
        ours: list[float] = []
        bare: list[float] = []
        for _ in range(self._sizes.creates // self._sizes.block):
            ours += http.post(self._bodies(self._sizes.block)).took
            bare += self._bare(timer, self._sizes.block)
            self._scene.all_live()
        self._stage.add(row("create-mapped", "create as its researcher", "ms", ours, bare, "sbatch by that person"))

    def _has_pyslurm(self, http: Http) -> bool:
        """Creates a job; tells whether no sbatch submitted it."""
        body = self._bodies(1)
        http.post(body)
        number = self._scene.numbers()[json.loads(body[0])["items"][0]["id"]]
        return "SubmitLine=(null)" in self._stage.cluster.run("scontrol", "show", "job", str(number))

    def _eight(self, http: Http, timer: Timer) -> None:
        number = LOOPS * self._sizes.at_once
        http.post(self._bodies(number), LOOPS)
        ours: list[float] = []
        bare: list[float] = []
        spent: list[float] = []
        bare_spent: list[float] = []
        for _ in range(self._sizes.rounds):
            bodies, before = self._bodies(number), self._scene.spent()
            ours.append(number / http.post(bodies, LOOPS).seconds)
            spent.append((self._scene.spent() - before) * 1000 / number)
            self._scene.all_live()
            timed = timer.run(self._argv, self._env, stdin=self._script, times=self._sizes.at_once, loops=LOOPS)
            bare.append(number / timed.seconds)
            bare_spent.append(timed.spent * 1000 / number)
        name = f"{LOOPS} clients creating as one researcher"
        self._stage.add(row("create-mapped-8", name, "/s", ours, bare, f"{LOOPS} loops of sbatch"))
        name = "of which a processor works for each, sbatch and the controller not counted"
        self._stage.add(row("create-mapped-8-processor", name, "ms", spent, bare_spent, "sbatch itself"))

    def _first(self, http: Http, timer: Timer) -> None:
        """The first create of somebody for whom no program runs yet; and where UCloud has shown a form before."""
        site, core = self._scene.site, self._scene.core
        took: dict[bool, list[float]] = {True: [], False: []}
        bare: list[float] = []
        for person in owners():
            for form in (False, True):
                runner = next(each for each in site.processes if b"runner" in _line(each.pid))
                site.end(runner)
                (site.folder / "runner.sock").unlink(missing_ok=True)
                new = site.run_runner()
                body = self._bodies(1, person)
                if form:
                    core.call("GET", f"/ucloud/{core.provider}/jobs/retrieveProducts", user=person)
                    self._wait_for_program(new.pid)
                took[form] += http.post(body).took
                bare += self._bare(timer, 1)
        self._scene.all_live()
        name, beside = "the first create of a researcher, which starts a program", "sbatch by that person"
        self._stage.add(row("create-mapped-first", name, "ms", took[False], bare, beside))
        if took[True]:
            name = "the first create of a researcher who was shown a form"
            self._stage.add(row("create-mapped-after-a-form", name, "ms", took[True], bare, beside))

    @staticmethod
    def _wait_for_program(runner: int) -> None:
        """Waits until the person's program has been started, and a moment more, in which it gets ready."""

        def waits() -> bool:
            process = find(runner)
            lines = [_line(each.pid) for each in with_descendants([process] if process else [])]
            return any(b"\0-B\0" in line for line in lines)

        wait_until("the person's program", waits, seconds=PATIENCE)
        time.sleep(MOMENT)


def _line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has ended
        return b""
