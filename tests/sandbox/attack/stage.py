"""The service as it is installed, with people, jobs and a measuring stick, and the places that attackers act from."""

import shutil

from tests.sandbox.attack.people import LINKS, PATIENCE, WAITER, People
from tests.sandbox.attack.vitals import Vitals, listening
from tests.sandbox.cluster import Cluster
from tests.sandbox.core.applications import application, word
from tests.sandbox.installation import Installation
from tests.sandbox.living import WANTED
from tests.sandbox.processes import wait_until
from tests.sandbox.started import Started

PROGRAM = "/opt/ucloud-slurm/bin/ucloud-slurm"
AS_USER = "/opt/ucloud-slurm/bin/ucloud-slurm-as-user"
FORGET = """
import sqlite3
db = sqlite3.connect("/var/lib/ucloud-slurm/ucloud-slurm.db")
db.execute("delete from health where part glob 'user:*'")
db.commit()
"""
MORE = ("carol", "dora", "eve")  # accounts of researchers, beside alice and bob
PLENTY = 10**12


class Stage(People, Started):
    """Everything that an attack needs. Needs root.

    :ivar secrets: texts that nobody but the service and UCloud may ever see
    :ivar scale: part of the number of connections that attacks open
    """

    def __init__(
        self, cluster: Cluster, installation: Installation, *, seconds: float = 1.0, echo: float = 0.15, scale: float = 1.0
    ) -> None:
        super().__init__(cluster, installation, seconds, echo)
        self.scale = scale
        self.secrets = [self.core.refresh_token]

    # -- its life -------------------------------------------------------------------------------------------

    def _start(self) -> None:
        known = self.cluster.run("sacctmgr", "-nP", "show", "association", "format=user").split()
        missing = [account for account in MORE if account not in known]
        if missing:
            self.cluster.invite(missing)
        self._end_jobs()
        for account in LINKS.values():
            shutil.rmtree(self.home(account) / "ucloud-jobs", ignore_errors=True)
        self.core.start()
        self._stack.callback(self.core.stop)
        self.core.catalogue.add_application(application(*WAITER, [word("bash"), word("-c"), word("sleep 600")]))
        self._stack.callback(self._end_jobs)
        self._stack.callback(self.living.stop)
        self.living.start(users={"mapping": "table"}, jobs={"folder": "{home}/ucloud-jobs"})
        self.living.systemctl("start", "nginx.service", *WANTED)
        wait_until("the service answers", lambda: self.calls(1)[0][1] == 200, seconds=PATIENCE)
        for person, account in LINKS.items():
            self.core.accounts.set_quota(PLENTY, person)
            self.living.run(PROGRAM, "users", "add", person, account, user=self.cluster.service_user)
            self.core.directory.connect(person)
        for person in LINKS:
            self.job(person)
        self.before = self.vitals()

    def _end_jobs(self) -> None:
        for user in LINKS.values():
            self.cluster.run("scancel", f"--user={user}")

    # -- looking --------------------------------------------------------------------------------------------

    def vitals(self) -> Vitals:
        """The processes of the units now."""
        return Vitals.of(self.living)

    def restore(self) -> None:
        """Whatever people's programs have done is over and forgotten, as it would be an hour later."""
        self.living.systemctl("restart", "ucloud-slurm-runner.service")
        self.living.run(self.installation.python, "-c", FORGET, user=self.cluster.service_user)
        self.rebase()

    def rebase(self) -> None:
        """What is there now is how it should be."""
        self.before = self.vitals()

    def pid(self, unit: str) -> int:
        """The first process of a unit, as the world in there numbers it."""
        return int(self.living.systemctl("show", "--property=MainPID", "--value", unit))

    def sockets(self) -> list[str]:
        """The paths of the sockets that systemd holds for the service."""
        shown = self.living.systemctl("list-sockets", "--all", "--plain", "--no-legend", "ucloud-slurm*")
        return [line.split()[0] for line in shown.splitlines()]

    def ports(self) -> list[int]:
        """The TCP ports at which a unit of the service listens."""
        return listening(self.vitals().processes)
