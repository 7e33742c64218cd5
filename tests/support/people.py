"""A site on the real cluster whose jobs run as alice and bob."""

import pwd
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import site_opener
from tests.sandbox.cluster import Cluster
from tests.sandbox.core import SimulatedCore
from tests.sandbox.installation import Installation
from tests.sandbox.processes import wait_until
from tests.sandbox.site import Site
from tests.support.factories import application, job_data, parameter, text

PATIENCE = 60.0
ALICE, BOB, EVE = "Alice#1", "Bob#2", "Eve#3"
LINKS = {ALICE: "alice", BOB: "bob"}
SLEEPER: dict[str, Any] = {
    "application": ("sleeper", "1.0.0"),
    "product": "example-compute-1",
    "parameters": {"seconds": {"type": "integer", "value": 600}},
}


@contextmanager
def people_site(cluster: Cluster, installation: Installation) -> Iterator["People"]:
    """Such a site, with the folders of no job that was before."""
    for user in cluster.users:
        shutil.rmtree(Path(pwd.getpwnam(user).pw_dir) / "ucloud-jobs", ignore_errors=True)
    with site_opener(cluster, installation) as open_site:
        site, core = open_site(loop=0.5, workers=2, era="2022", links=LINKS)
        yield People(site, core, cluster, installation.program)
    for user in cluster.users:
        cluster.run("scancel", f"--user={user}")


@dataclass
class People:
    """A site whose jobs run as alice and bob."""

    site: Site
    core: SimulatedCore
    cluster: Cluster
    program: Path

    def submit(self, owner: str, **more: Any) -> str:
        return self.core.submit(**(SLEEPER | more), owner=owner)

    def run(self, owner: str, job_id: str, *words: dict[str, Any], **parameters: Any) -> tuple[int, Any]:
        """Starts a job with an application of its own."""
        declared = [parameter(name) for name in parameters]
        data = job_data(
            job_id,
            app=application(*words, parameters=declared),
            parameters={name: text(value) for name, value in parameters.items()},
        )
        data["owner"] = {"createdBy": owner, "project": None}
        return self.create(data)

    def create(self, *jobs: dict[str, Any]) -> tuple[int, Any]:
        """Starts jobs as Core does, whatever they hold."""
        return self.core.call("POST", "/ucloud/example/jobs", {"items": list(jobs)})

    def wait_for_ends(self, job_ids: Iterable[str]) -> None:
        """Waits until all of them have ended."""
        wanted = set(job_ids)

        def ended() -> bool:
            rows = self.site.rows("select id from jobs where phase in ('accepted', 'submitting', 'live')")
            return not wanted & {row["id"] for row in rows}

        wait_until("the jobs have ended", ended, seconds=PATIENCE)

    def wait_for(self, job_id: str, state: str) -> None:
        wait_until(f"job {job_id} is {state}", lambda: self.core.job(job_id).state == state, seconds=PATIENCE)

    def folder(self, user: str, job_id: str) -> Path:
        return Path(pwd.getpwnam(user).pw_dir) / "ucloud-jobs" / job_id

    def squeue(self, *arguments: str) -> list[str]:
        return self.cluster.run("squeue", "--noheader", *arguments).split("\n")[:-1]

    def as_service(self, *argv: str, stdin: Any = subprocess.DEVNULL) -> subprocess.CompletedProcess[str]:
        """Runs something as the account of the service, as an intruder there would."""
        return subprocess.run(
            argv,
            stdin=stdin,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            cwd="/",
            user=self.cluster.service_user,
            group=self.cluster.service_user,
            extra_groups=[],
            env={"PATH": "/usr/bin:/bin"},
        )
