"""People with jobs, and what UCloud and they notice of an attack: how long calls and keys take, whether a job starts."""

import os
import pwd
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.sandbox.attack.attackers import Attackers
from tests.sandbox.cluster import Cluster
from tests.sandbox.core import ERAS, SimulatedCore
from tests.sandbox.core.applications import application, word
from tests.sandbox.core.errors import CoreError
from tests.sandbox.core.shell import ShellClient
from tests.sandbox.errors import SandboxError
from tests.sandbox.installation import Installation
from tests.sandbox.living import Living
from tests.sandbox.processes import wait_until

ALICE, BOB, CAROL = "Alice#1", "Bob#2", "Carol#3"
"""Users of UCloud: who attacks, whom it would hurt, and one who only floods."""
LINKS = {ALICE: "alice", BOB: "bob", CAROL: "carol"}
PATIENCE = 60.0
WAITER = ("waiter", "1")
FIRST_ID = 620_000
PACE_SECONDS = 0.05
"""Between two of UCloud's calls."""
FAILURES = (CoreError, SandboxError, OSError, AssertionError, LookupError, ValueError, subprocess.SubprocessError)
"""With what may end whatever is tried while somebody attacks."""


class People(Attackers):
    """Alice attacks, and bob is who would be hurt.

    :ivar seconds: that a call of UCloud's may take while somebody attacks
    :ivar echo: seconds that another's shell may take for a key then
    """

    def __init__(self, cluster: Cluster, installation: Installation, seconds: float, echo: float) -> None:
        self.cluster = cluster
        self.seconds = seconds
        self.echo = echo
        self.core = SimulatedCore(provider="example", era=ERAS["today"], first_id=FIRST_ID + 1000 * (os.getpid() % 300))
        super().__init__(installation, Living(cluster, installation, self.core))
        self._jobs: dict[str, str] = {}
        self._number = 0

    def home(self, account: str) -> Path:
        """The home of an account."""
        return Path(pwd.getpwnam(account).pw_dir)

    def job(self, person: str) -> str:
        """The id of the job that a person has running all the time; begun anew where it has ended."""
        known = self._jobs.get(person)
        if known is None or self.core.job(known).state != "RUNNING":
            known = self._jobs[person] = self.submit(person)
            try:
                self.core.wait(known, "RUNNING", PATIENCE)
            except TimeoutError as error:
                slurm = self.cluster.run("squeue", "--all") + self.cluster.run("sinfo", "--all", "--long", "--Node")
                raise SandboxError(f"{error} Slurm says: {slurm}") from error
        return known

    def renew(self, person: str) -> str:
        """A new job in the place of :meth:`job`, in which nobody has opened anything."""
        self.core.terminate(self._jobs.pop(person))
        return self.job(person)

    def submit(self, person: str, script: str | None = None) -> str:
        """Starts a job as a person does.

        :param script: what it runs; it waits unless given
        """
        name = WAITER
        if script is not None:
            self._number += 1
            name = (f"attack-{os.getpid()}-{self._number}", "1")
            self.core.catalogue.add_application(application(*name, [word("bash"), word("-c"), word(script)]))
        return self.core.submit(application=name, product="example-compute-1", owner=person, minutes=20)

    def output(self, person: str, script: str) -> str:
        """What a job that runs this prints, read in the person's folder when it has ended."""
        job = self.submit(person, f"{script}; echo; echo the-end")
        log = self.folder(person, job) / "stdout-0.log"
        wait_until(
            "the job has ended", lambda: log.is_file() and "the-end" in log.read_text(errors="replace"), seconds=PATIENCE
        )
        return log.read_text(errors="replace")

    def folder(self, person: str, job: str) -> Path:
        """The folder of a job, which is the same in there and out here."""
        return self.home(LINKS[person]) / "ucloud-jobs" / job

    def shown(self, person: str, job: str, seconds: float = 3.0, until: str = "\0") -> str:
        """What UCloud shows of a job's log within a time; it ends earlier where a text has come."""
        with self.core.follow(job, person) as followed:
            with suppress(TimeoutError):
                followed.wait_for(lambda: until in followed.text() + followed.text(0, "stderr"), seconds)
            return followed.text() + followed.text(0, "stderr")

    @contextmanager
    def shell(self, person: str) -> Iterator[ShellClient]:
        """A shell of a person in that person's job."""
        opened = self.core.open_session(self.job(person), user=person)
        with self.core.shell(opened or {}, user=person) as shell:
            yield shell

    # -- measuring ------------------------------------------------------------------------------------------

    def calls(self, count: int = 20, within: float | None = None) -> list[tuple[float, int]]:
        """UCloud's calls one after the other: seconds, and the status; 0 where there was no answer.

        :param within: seconds for an answer, if not those that UCloud has
        """
        made = []
        for _ in range(count):
            made.append(self._call(within))
            time.sleep(PACE_SECONDS)
        return made

    def _call(self, within: float | None = None) -> tuple[float, int]:
        begun, status = time.perf_counter(), 0
        with suppress(*FAILURES):
            status, _ = self.core.call("GET", f"/ucloud/{self.core.provider}/jobs/retrieveProducts", within=within)
        return time.perf_counter() - begun, status

    def slow(self, calls: Sequence[tuple[float, int]]) -> str:
        """What is wrong with UCloud's calls; empty where nothing is."""
        failed = [status for _, status in calls if status != 200]
        if failed:
            return f"{len(failed)} of {len(calls)} of UCloud's calls were answered with {sorted({*failed})}"
        slowest = quantile([took for took, _ in calls], 0.99)
        return f"UCloud's calls took {slowest:.1f} s" if slowest > self.seconds else ""

    def lives(self, count: int = 10) -> str:
        """Whether UCloud and the others notice anything; empty where they do not."""
        return self.slow(self.calls(count))

    def works(self, person: str = BOB) -> str:
        """Whether a person can start and follow a job; empty where that is so."""
        try:
            job = self.submit(person, "echo it works; sleep 30")
            shown = self.shown(person, job, PATIENCE, until="it works")
            self.core.terminate(job)
        except FAILURES as error:
            return f"{person} cannot start or follow a job ({str(error)[:100]})"
        return "" if "it works" in shown else f"{person} does not see the log of a job"

    @contextmanager
    def typing(self) -> Iterator[list[float]]:
        """Bob types while the block runs: the seconds from key to echo."""
        times: list[float] = []
        over = threading.Event()

        def type_() -> None:
            with suppress(*FAILURES), self.shell(BOB) as shell:
                shell.send("stty -echo; PS1=; echo rea''dy\r")
                shell.wait_for("ready", PATIENCE)
                number = 0
                while not over.is_set():
                    number += 1
                    begun = time.perf_counter()
                    shell.send(f"echo -{number}-\r")
                    shell.wait_for(f"-{number}-", PATIENCE)
                    times.append(time.perf_counter() - begun)
                    over.wait(0.1)

        thread = threading.Thread(target=type_)
        thread.start()
        wait_until("the shell echoes", lambda: bool(times) or not thread.is_alive(), seconds=PATIENCE)
        times.clear()
        try:
            yield times
        finally:
            over.set()
            thread.join(PATIENCE)


def quantile(values: Sequence[float], part: float) -> float:
    """The value below which that part of the values lies; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else 0.0
