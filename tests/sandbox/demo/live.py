"""The last scene of the demonstration: a log, a shell, more time and a suspension, on one real job."""

import shutil
from collections.abc import Callable
from typing import Any

from tests.sandbox.cluster import Cluster
from tests.sandbox.core import SimulatedCore
from tests.sandbox.core.applications import application, word
from tests.sandbox.core.era import CoreEra
from tests.sandbox.errors import SandboxError
from tests.sandbox.installation import Installation
from tests.sandbox.processes import wait_until
from tests.sandbox.site import Site, SiteSettings

PATIENCE = 60.0
TALK = 'for step in $(seq 600); do echo "step $step of 600"; sleep 1; done'
QUESTION = "echo I am $(id -un) on $SLURMD_NODENAME, in Slurm job $SLURM_JOB_ID"


class LiveScene:
    """One job, followed and steered."""

    def __init__(self, cluster: Cluster, installation: Installation, era: CoreEra, say: Callable[[str], None]) -> None:
        self._cluster = cluster
        self._say = say
        self._core = SimulatedCore(provider="example", era=era, first_id=54200)
        folder = cluster.folder / "sites" / "live"
        shutil.rmtree(folder, ignore_errors=True)
        self._site = Site(cluster, self._core, installation, SiteSettings(folder=folder))

    def play(self) -> None:
        """Plays it.

        :raises SandboxError: something did not go as it should
        :raises TimeoutError: something did not come
        """
        self._core.start()
        try:
            self._site.install()
            self._site.start()
            self._site.loop(1.0)
            self._scene()
            if self._core.protocol_errors:
                raise SandboxError("; ".join(self._core.protocol_errors))
        finally:
            self._site.stop()
            self._core.stop()

    def _scene(self) -> None:
        core = self._core
        core.catalogue.add_application(application("talker", "1.0", [word("bash"), word("-c"), word(TALK)]))
        job = core.submit(application=("talker", "1.0"), product="example-compute-1", name="a talking job")
        core.wait(job, "RUNNING", PATIENCE)
        slurm_id = self._slurm_id(job)
        self._say(f"UCloud's job {job} is Slurm job {slurm_id}")
        with core.follow(job) as log:
            log.wait_for(lambda: log.text().count("\n") >= 3, PATIENCE)
            self._show("follow: its log, as it grows", log.text().splitlines()[:3])
            self._shell(job)
            self._limit(job, slurm_id)
            self._suspension(job, slurm_id)
            core.terminate(job)
            log.wait_end(PATIENCE)
            self._show("follow: the last of its log", log.text().splitlines()[-1:])

    def _shell(self, job: str) -> None:
        opened = self._core.open_session(job, 0, "SHELL")
        if opened is None:
            raise SandboxError("no shell was opened")
        with self._core.shell(opened) as shell:
            shell.send(f"stty -echo; PS1=; {QUESTION}; echo; echo don''e\r")
            shell.wait_for("done\r\n", PATIENCE)
            said = next((line for line in shell.output.splitlines() if line.startswith("I am ")), None)
        if said is None:
            raise SandboxError(f"the shell said something else: {shell.output!r}")
        self._show(f"openInteractiveSession: a shell in the allocation, asked: {QUESTION}", [said])

    def _limit(self, job: str, slurm_id: str) -> None:
        before = self._scontrol(slurm_id, "TimeLimit")
        self._core.extend(job, 20)
        after = self._scontrol(slurm_id, "TimeLimit")
        self._show("extend by 20 minutes: scontrol show job, before and after", [before, after])
        if (before, after) != ("TimeLimit=00:10:00", "TimeLimit=00:30:00"):
            raise SandboxError("the time limit is not what it should be")

    def _suspension(self, job: str, slurm_id: str) -> None:
        self._core.suspend(job)
        stopped = self._scontrol(slurm_id, "JobState")
        self._core.wait(job, "SUSPENDED" if self._core.era.has_suspended else "IN_QUEUE", PATIENCE)
        body: dict[str, Any] = {"items": [{"job": self._core.rendered(job)}]}
        self._core.call("POST", "/ucloud/example/jobs/unsuspend", body)
        on = self._scontrol(slurm_id, "JobState")
        self._show("suspend and unsuspend: scontrol show job", [stopped, on])
        if (stopped, on) != ("JobState=SUSPENDED", "JobState=RUNNING"):
            raise SandboxError("the job was not suspended and resumed")
        self._core.wait(job, "RUNNING", PATIENCE)

    def _scontrol(self, slurm_id: str, key: str) -> str:
        shown = self._cluster.run("scontrol", "show", "job", slurm_id).split()
        return next(pair for pair in shown if pair.startswith(f"{key}="))

    def _slurm_id(self, job: str) -> str:
        pattern = ("squeue", "--noheader", "--format=%A %j")
        found: list[str] = []

        def listed() -> bool:
            rows = [line.split(maxsplit=1) for line in self._cluster.run(*pattern).splitlines()]
            found[:] = [id_ for id_, name in rows if name.startswith(f"ucloud-{job}-")]
            return bool(found)

        wait_until("the job is in squeue", listed, seconds=PATIENCE)
        return found[0]

    def _show(self, title: str, lines: list[str]) -> None:
        self._say(title)
        for line in lines:
            self._say(f"    {line}")
