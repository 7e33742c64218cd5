"""The whole service on the real cluster, with something in front of every part that can be made to fail."""

import json
import random
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from tests.sandbox.cluster import Cluster, CommandFailed
from tests.sandbox.core import ERAS, SimulatedCore
from tests.sandbox.core.applications import application, parameter, var, word
from tests.sandbox.installation import Installation
from tests.sandbox.outage.parts import Daemon, Part, Service, WebWorker, start_all
from tests.sandbox.outage.passes import Passes
from tests.sandbox.outage.ucloud import UCloud
from tests.sandbox.outage.wire import TO_PROVIDER, TO_UCLOUD, Wire
from tests.sandbox.outage.wrappers import Lists, Wrappers
from tests.sandbox.processes import wait_until
from tests.sandbox.site import Site, SiteSettings
from tests.sandbox.started import Started

LINKS = {"Alice#1": "alice", "Bob#2": "bob"}
PROJECT = "a-project"
PLENTY = 10**12
APPLICATION = ("story", "1")
CATEGORY = "example-compute"
PRODUCTS: tuple[dict[str, Any], ...] = tuple(
    {"id": name, "category": CATEGORY, "partition": "cpu", "cpus": cpus, "memory_gb": 0.25, "gpus": 0}
    for name, cpus in (("example-compute-1", 1), ("example-compute-4", 2))
)
FIRST_ID = 2_000_000
PASS_SECONDS = 1.0
SLURM_SECONDS = 90.0
TOO_LATE = ("Invalid job id", "already", "no longer pending")
"""What Slurm answers of a job that has gone on, or has ended."""
TABLES: Mapping[str, Mapping[str, Any]] = {
    "jobs": {"folder": "{home}/ucloud-jobs", "grace": "5s", "quiet": "12s"},
    "slurm": {"timeout": "4s", "submit_per_second": 1000.0},
    "accounting": {"every": "0s"},
    "ucloud": {"timeout": "4s", "compare_every": "1h"},
}


class Rig(Started):
    """A ``with`` statement starts it and ends everything that it started.

    :ivar since: when it began, for sacct
    :ivar over: set when no more is disturbed
    """

    def __init__(self, cluster: Cluster, installation: Installation, seed: int) -> None:
        self._seed = seed
        self.cluster = cluster
        # On the cluster a job is known by its id: those of another run have others.
        self.first_id = FIRST_ID + 10_000 * (int(time.time()) % 100_000)
        self.core = SimulatedCore(provider="example", era=ERAS["today"], first_id=self.first_id)
        self._installation = installation
        self.over = threading.Event()

    def _start(self) -> None:
        core, cluster, stack = self.core, self.cluster, self._stack
        core.start()
        stack.callback(core.stop)
        self.to_ucloud = Wire(core.url, TO_UCLOUD, random.Random(f"to UCloud {self._seed}"))
        stack.callback(self.to_ucloud.close)
        folder = cluster.folder / "outage" / str(time.time_ns())
        self.wrappers = Wrappers(cluster, folder)
        tables = {name: dict(table) for name, table in TABLES.items()}
        tables["ucloud"]["url"] = self.to_ucloud.url
        self.site = Site(
            cluster,
            core,
            self._installation,
            SiteSettings(
                folder=folder / "site", workers=2, products=PRODUCTS, tables=tables, commands=self.wrappers.folder, links=LINKS
            ),
        )
        self.site.install()
        self.to_provider = Wire(self.site.url, TO_PROVIDER, random.Random(f"to provider {self._seed}"))
        stack.callback(self.to_provider.close)
        core.connect(self.to_provider.url)
        stack.callback(self._end_jobs)
        stack.callback(self.site.stop)
        self._catalogue()
        self._run_parts()

    def _catalogue(self) -> None:
        core = self.core
        script = [word("sh"), word("-c"), word('sleep "$1"; exit "$2"'), word("story"), var("seconds"), var("code")]
        numbers = [parameter("seconds", "integer"), parameter("code", "integer")]
        core.catalogue.add_application(application(*APPLICATION, script, numbers))
        for person in LINKS:
            core.directory.add_user(person)
            core.directory.connect(person)
            core.accounts.set_quota(PLENTY, person)
        core.directory.add_project(PROJECT, dict.fromkeys(LINKS, "USER"))
        core.accounts.set_quota(PLENTY, project=PROJECT)

    def _run_parts(self) -> None:
        site = self.site
        self.runner = Service("runner", site, site.run_runner)
        self.gunicorn = Service("gunicorn", site, site.serve)
        self.listener = Service("listener", site, site.listen)
        self.passes = Passes(site, PASS_SECONDS, random.Random(f"passes {self._seed}"))
        self.ucloud = UCloud(self.core)
        self.lists = Lists(self.wrappers)
        site.start()
        # The site has started both of these itself.
        self.runner.process, self.gunicorn.process = site.processes
        self.listener.start()
        self._stack.callback(self.passes.close)
        self.passes.begin()
        self.daemons: list[Part] = [Daemon(self.cluster, name) for name in self.cluster.status()]
        self.services: list[Part] = [self.runner, self.gunicorn, WebWorker(self.gunicorn), self.listener, self.passes]
        self._stack.callback(self.calm)

    def calm(self) -> None:
        """Nothing is disturbed any more, and everything runs."""
        self.over.set()
        self.wrappers.calm()
        self.to_ucloud.clear()
        self.to_provider.clear()
        self.core.faults.clear()
        self.ucloud.start()
        start_all([*self.daemons, *self.services])

    def rotate(self) -> None:
        """UCloud has another key and another refresh token, of which the site's administrator hears."""
        self.core.tokens.rotate()
        self.over.wait(0.5)
        for name, text in (("refresh-token", self.core.refresh_token), ("ucloud.pub", self.core.public_key)):
            path = self.site.folder / name
            path.write_text(text + "\n", encoding="utf-8")
        self.gunicorn.reload()

    # -- looking and acting ---------------------------------------------------------------------------------

    def rows(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        """What the service's database says."""
        return self.site.rows(sql, *values)

    def live(self) -> int:
        """How many jobs the service follows in Slurm."""
        return int(self.rows("select count(*) as number from jobs where phase = 'live'")[0]["number"])

    def follows(self, job_id: str) -> bool:
        """Whether a job has not ended for the service."""
        return bool(self.rows("select 1 from jobs where id = ? and phase = 'live'", job_id))

    def slurm_id(self, job_id: str) -> int | None:
        """The number of a job in Slurm, as far as the service knows it."""
        found = self.rows("select slurm_id from jobs where id = ?", job_id)
        return found[0]["slurm_id"] if found else None

    def slurm(self, *argv: str, user: str | None = None, stdin: str = "") -> str | None:
        """What a command of Slurm prints, tried until the cluster does it; None where it does not do it."""
        deadline = time.monotonic() + SLURM_SECONDS
        while time.monotonic() < deadline and not self.over.is_set():
            try:
                return self.cluster.run(*argv, user=user, stdin=stdin, timeout=15)
            except CommandFailed as failed:
                if any(answer in str(failed) for answer in TOO_LATE):
                    return None
            except subprocess.TimeoutExpired:
                pass
            self.over.wait(0.3)
        return None

    def administer(self) -> None:
        """What an administrator does when a slurmctld that was killed has used a number again (``Duplicate jobid``): the node
        was drained, and the job is held. A job that was requeued need not wait its two minutes."""
        with suppress(CommandFailed, subprocess.TimeoutExpired):
            drained = self.cluster.run("sinfo", "-h", "-N", "-t", "drained,draining,down", "-o", "%N", timeout=5).split()
            if drained:
                names = ",".join(sorted(set(drained)))
                self.cluster.run("scontrol", "update", f"NodeName={names}", "State=RESUME", timeout=5)
            for line in self.cluster.run("squeue", "-h", "-t", "PD", "-o", "%A|%r", timeout=5).splitlines():
                number, _, reason = line.partition("|")
                if "launch failed" in reason:
                    self.cluster.run("scontrol", "release", number, timeout=5)
                if "launch failed" in reason or reason == "BeginTime":
                    self.cluster.run("scontrol", "update", f"JobId={number}", "StartTime=now", timeout=5)

    def wait_quiet(self, seconds: float, *, repetitions: bool = True) -> list[str]:
        """Waits until no job is open and no message waits.

        :param repetitions: nor one that is to be sent once more
        :returns: what is left after that time, in sentences
        """
        deadline = time.monotonic() + seconds
        while left := self._left(repetitions=repetitions):
            if time.monotonic() > deadline or self.core.ended is not None:
                return left
            time.sleep(1.0)
            self.administer()
            if time.monotonic() > deadline - seconds / 2:
                self._end_runaways()
        return []

    def _left(self, *, repetitions: bool) -> list[str]:
        jobs = self.rows("select id, phase, slurm_id, slurm_state from jobs where phase in ('accepted', 'submitting', 'live')")
        messages = self.rows(
            "select id, job_id, kind from outbox where outcome is null or (repeat_at is not null and ?)", repetitions
        )
        return [f"job {json.dumps(row)}" for row in jobs] + [f"message {json.dumps(row)}" for row in messages]

    def _end_runaways(self) -> None:
        """What an administrator does when a killed slurmctld has lost jobs that it had put into the accounting."""
        self.cluster.run("sacctmgr", "-i", "show", "runawayjobs", timeout=30)

    def _end_jobs(self) -> None:
        for user in LINKS.values():
            self.cluster.run("scancel", f"--user={user}")
        wait_until("the jobs have ended", lambda: not self.cluster.run("squeue", "-h", "-o", "%A").strip(), seconds=60)
