"""Where it is measured: the cluster, a site on it for each group of measurements, and what is asked of them."""

import json
import os
import pwd
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.sandbox.bench.programs import Http, Timer, running
from tests.sandbox.bench.rows import Row
from tests.sandbox.bench.sdiag import calls
from tests.sandbox.bench.sizes import Sizes
from tests.sandbox.cluster import Cluster, CommandFailed
from tests.sandbox.core import SimulatedCore
from tests.sandbox.core.applications import application, word
from tests.sandbox.core.era import CoreEra
from tests.sandbox.core.provider import encoded_username
from tests.sandbox.core.user_requests import UserRequest
from tests.sandbox.errors import SandboxError
from tests.sandbox.installation import Installation
from tests.sandbox.processes import find, wait_until, with_descendants
from tests.sandbox.site import Site, SiteSettings

# Their node is drained: the jobs wait, nothing is charged, and the cluster stays quiet.
NODE = "g1"
PRODUCT = {
    "id": "example-compute-1",
    "category": "example-compute",
    "partition": "gpu",
    "cpus": 16,
    "memory_gb": 1,
    "gpus": 0,
    "unit": "CREDITS_PER_MINUTE",
}
# For what is live: jobs that run.
RUNNING = {
    "id": "example-compute-4",
    "category": "example-compute",
    "partition": "cpu",
    "cpus": 1,
    "memory_gb": 0.125,
    "gpus": 0,
    "unit": "CREDITS_PER_MINUTE",
}
APPLICATION = ("bench", "1")
OWNER = "user"
MINUTES = 60
PLENTY = 10**12
LOOPS = 8
TEMPFAIL = 75  # how a pass ends that could not reach everybody
SCRIPT = "job.sh"


Tables = Mapping[str, Mapping[str, Any]]
"""Of a configuration."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What all groups of measurements share.

    :ivar backend: ``slurm.backend`` of the sites
    :ivar ours: whether the cluster was started for this, so that whatever is in it may be forgotten
    :ivar add: takes a row of the table
    """

    cluster: Cluster
    installation: Installation
    era: CoreEra
    backend: str
    sizes: Sizes
    ours: bool
    add: Callable[[Row], None]

    @contextmanager
    def scene(
        self,
        name: str,
        *,
        links: Mapping[str, str] | None = None,
        tables: Tables | None = None,
        drives: Sequence[Mapping[str, Any]] = (),
        products: Sequence[Mapping[str, Any]] = (PRODUCT, RUNNING),
    ) -> Iterator["Scene"]:
        """A new site that runs, with a new Core. Afterwards all of it is gone, and its jobs too.

        :param name: for its folder
        :param links: see :class:`SiteSettings`
        :param tables: see there
        :param drives: see there
        :param products: see there
        """
        folder = self.cluster.folder / "sites" / f"bench-{name}-{os.getpid()}"
        core = SimulatedCore(provider="example", era=self.era)
        core.catalogue.add_application(application(*APPLICATION, [word("sleep"), word("3000")]))
        core.start()
        settings = SiteSettings(
            folder=folder,
            workers=2,
            products=products,
            links=links or {},
            drives=drives,
            tables={"slurm": {"backend": self.backend}} | dict(tables or {}),
        )
        site = Site(self.cluster, core, self.installation, settings)
        with ExitStack() as stack:
            stack.callback(self.clear)
            stack.callback(self._node, "RESUME")
            self._node("DRAIN")
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            stack.callback(core.stop)
            stack.callback(site.stop)
            site.install()
            site.start()
            log = folder / "bench.log"
            yield Scene(self, site, core, stack, log)

    def _node(self, state: str) -> None:
        """Sets the state of the node of the jobs that wait; one that is in it already refuses, which is fine."""
        with suppress(CommandFailed):
            self.cluster.run("scontrol", "update", f"NodeName={NODE}", f"State={state}", "Reason=bench")

    def clear(self) -> None:
        """Rids the cluster of all jobs of the bench."""
        if self.ours:
            self.cluster.forget_all()  # to cancel thousands takes longer
            return
        for user in {self.cluster.service_user, *self.cluster.users}:
            self.cluster.run("scancel", f"--user={user}", timeout=300)

    def environment(self) -> dict[str, str]:
        """What Slurm's commands are run with: what the product itself runs them with."""
        account = pwd.getpwnam(self.cluster.service_user)
        return {
            "PATH": f"{self.cluster.commands}:/usr/local/bin:/usr/bin:/bin",
            "HOME": account.pw_dir,
            "USER": account.pw_name,
            "LOGNAME": account.pw_name,
            "SHELL": account.pw_shell,
            "LANG": "C.UTF-8",
            "SLURM_CONF": str(self.cluster.conf),
        }

    def command(self, name: str) -> str:
        """The path of one of Slurm's commands."""
        return str(self.cluster.commands / name)


@dataclass(slots=True)
class Scene:
    """A site that runs, and its Core."""

    stage: Stage
    site: Site
    core: SimulatedCore
    _stack: ExitStack
    log: Path
    _bare: Path | None = None
    _looks: int = 0

    # -- who measures ---------------------------------------------------------------------------------------

    def timer(self, loops: int = 1, user: str | None = None) -> Timer:
        """Starts the program that runs commands, in so many processes.

        :param user: the account that it runs as; None is that of the service
        """
        return Timer([self._start("timer", user) for _ in range(loops)])

    def http(self, user: str = OWNER, path: str | None = None) -> Http:
        """Starts the client, for calls of a user.

        :param path: of the call; None is that of creates
        """
        name = encoded_username(user, self.stage.era).decode()
        headers = {"Authorization": f"Bearer {self.core.tokens.core_token()}", "UCloud-Username": name}
        return Http(self._start("client"), self.site.url, path or f"/ucloud/{self.core.provider}/jobs", headers)

    def _start(self, name: str, user: str | None = None) -> Any:
        user = user or self.stage.cluster.service_user
        return self._stack.enter_context(running(self.stage.installation, user, name, self.log))

    # -- jobs -----------------------------------------------------------------------------------------------

    def bodies(self, number: int, size: int = 1, owners: Sequence[str] = (OWNER,)) -> list[str]:
        """Bodies of creates, as Core would send them, of jobs that it has.

        :param size: jobs in each
        :param owners: the jobs are theirs, round robin
        """
        jobs = self._had(number * size, owners)
        return [json.dumps({"items": jobs[first : first + size]}) for first in range(0, len(jobs), size)]

    def have(self, number: int, product: Mapping[str, Any] = PRODUCT) -> list[dict[str, Any]]:
        """So many new jobs that Core has, as it sends them."""
        return self._had(number, (OWNER,), product)

    def _had(self, number: int, owners: Sequence[str], product: Mapping[str, Any] = PRODUCT) -> list[dict[str, Any]]:
        for owner in owners:
            self.core.accounts.set_quota(PLENTY, owner)
        return self.core.have(
            [
                UserRequest(APPLICATION, str(product["id"]), minutes=MINUTES, owner=owners[each % len(owners)])
                for each in range(number)
            ]
        )

    def live(self) -> int:
        """How many jobs of the site Slurm has."""
        return int(self.site.rows("select count(*) as number from jobs where phase = 'live'")[0]["number"])

    def all_live(self) -> None:
        """Sees that Slurm has every job that was created: a create whose job waits for the worker costs too little.

        :raises SandboxError: with how many it does not have
        """
        if others := self.site.rows("select 1 from jobs where phase <> 'live'"):
            raise SandboxError(f"{len(others)} jobs were answered for before Slurm had them; these creates do not count.")

    def wait_live(self, number: int, seconds: float) -> None:
        """Waits until Slurm has so many jobs of the site.

        :raises SandboxError: with what it has
        """
        wait_until(f"{number} jobs of the site in Slurm", lambda: self.live() >= number, seconds=seconds)

    def spent(self) -> float:
        """Seconds of a processor that the site's processes have taken so far, without Slurm's commands."""
        roots = [found for process in self.site.processes if (found := find(process.pid)) is not None]
        return sum(process.spent() for process in with_descendants(roots))

    def numbers(self) -> dict[str, int]:
        """Slurm's ids of the site's jobs, by UCloud's, oldest first."""
        found = self.site.rows("select id, slurm_id from jobs where phase = 'live' order by slurm_id")
        return {str(row["id"]): int(row["slurm_id"]) for row in found}

    def sbatch(self, owner: str = OWNER, jobs: Path | None = None) -> tuple[Sequence[str], Mapping[str, str], Path]:
        """A bare sbatch: arguments, environment, script. Options and script are those of a job of ours.

        :param owner: whose job is made for that, once
        :param jobs: where its folder is made
        """
        if self._bare is None:
            self._bare = self._bare_script(owner, jobs or self.site.folder / "jobs")
        folder = self._bare.parent
        argv = [
            self.stage.command("sbatch"),
            "--parsable",
            "--job-name=ucloud-bare",
            "--comment=ucloud:example:bare",
            f"--partition={PRODUCT['partition']}",
            "--nodes=1",
            "--ntasks-per-node=1",
            "--cpus-per-task=16",
            "--mem=1024M",
            f"--time={MINUTES}",
            f"--chdir={folder}",
            f"--output={folder}/stdout.txt",
            f"--error={folder}/stderr.txt",
            "--open-mode=append",
            "--export=ALL",
        ]
        return argv, self.stage.environment(), self._bare

    def _bare_script(self, owner: str, jobs: Path) -> Path:
        """A folder like that of a job, with the script of a job of ours in it."""
        body = self.bodies(1, owners=[owner])
        self.http().post(body)
        self.wait_live(1, 10)
        bare = self.site.folder / "bare"
        bare.mkdir()
        shutil.copy(jobs / json.loads(body[0])["items"][0]["id"] / SCRIPT, bare / SCRIPT)
        self.give(bare, bare / SCRIPT)
        return bare / SCRIPT

    def give(self, *paths: Path) -> None:
        """Makes files and folders those of the service account."""
        account = pwd.getpwnam(self.stage.cluster.service_user)
        for path in paths:
            os.chown(path, account.pw_uid, account.pw_gid)

    def controller_calls(self) -> int:
        """How often the service account has asked the controller so far, but for these questions.

        Without root they come from the same account.
        """
        self._looks += os.geteuid() != 0
        return calls(self.stage.cluster.run("sdiag"), self.stage.cluster.service_user) - self._looks
