"""P1, P2: the installed service fails with a job running, and goes on at another host, as the guide says."""

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.test_runbooks import APPLICATION, PATIENCE, PERSON, PROGRAM, STATE, check_reports, end, start
from tests.sandbox.cluster import Cluster
from tests.sandbox.core import CoreError, SimulatedCore
from tests.sandbox.installation import Installation
from tests.sandbox.living import WANTED, Living
from tests.sandbox.processes import wait_until
from tests.support.real import started_core
from ucloud_slurm import config
from ucloud_slurm.setup.step import Chosen, Host, Step
from ucloud_slurm.setup.steps import steps

pytestmark = pytest.mark.apart

STANDBY = "ucloud-slurm-standby.service"
CONFIG = "/etc/ucloud-slurm/config.toml"
CHOSEN = Chosen("ucloud", "/etc/ssl/certs/x.pem", "/etc/ssl/private/x.key")
HOST = Host(Path(CONFIG), None, Path(__file__).parents[2], Path(PROGRAM), "www-data", "apt-get install --yes", selinux=False)
OURS = ("runuser", "-u", "ucloud-slurm", "--", PROGRAM)


@pytest.fixture
def core() -> Iterator[SimulatedCore]:
    with started_core(APPLICATION, PERSON, first_id=864_112) as core:
        yield core


@pytest.fixture
def shared(cluster: Cluster) -> Path:
    return cluster.folder / "standby"


@pytest.fixture
def living(cluster: Cluster, installation: Installation, core: SimulatedCore, shared: Path) -> Iterator[Living]:
    living = Living(cluster, installation, core)
    try:
        living.start(users={"mapping": "service"}, database={"standby": str(shared)})
        living.systemctl("start", "nginx.service")
        yield living
    finally:
        living.stop()
        cluster.run("scancel", f"--user={cluster.service_user}")


def do(living: Living, step: Step) -> None:
    """A step of setup, which was not done and is afterwards."""

    def is_done() -> bool:
        return living.run("sh", "-c", f"{{ {step.look}; }} > /dev/null 2>&1 && echo done", check=False) == "done"

    assert not is_done(), step.title
    living.run("sh", "-ec", step.command)
    wait_until(step.title, is_done, seconds=PATIENCE)


def test_another_host_goes_on_with_the_jobs_of_one_that_failed(living: Living, core: SimulatedCore, shared: Path) -> None:
    living.run("hostname", "login1")
    found = {step.name: step for step in steps(config.parse(tomllib.loads(living.read(CONFIG))), CHOSEN, HOST)}
    do(living, found["standby"])
    living.systemctl("start", "ucloud-slurm.service")
    with pytest.raises(CoreError, match="does not work on this host"):
        start(core)
    do(living, found["lease"])
    living.systemctl("start", *WANTED)
    wait_until("it has the lease", lambda: "has the lease" in living.run(*OURS, "status", check=False), seconds=PATIENCE)
    job = start(core)
    wait_until("there is a copy", lambda: any(shared.glob("copy-*")), seconds=PATIENCE)
    after = start(core)

    living.systemctl("kill", "--signal=KILL", STANDBY, "ucloud-slurm.service", check=False)
    living.systemctl("stop", *WANTED, "ucloud-slurm-worker.service", "ucloud-slurm-link.service", "ucloud-slurm-files.service")
    living.systemctl("mask", "--runtime", STANDBY)
    living.systemctl("stop", STANDBY)
    living.run("bash", "-c", f"rm -r {STATE}/*")
    living.run("hostname", "login2")
    said = living.run(*OURS, "database", "take-over", "--force")  # it is off: nobody need watch it for 40 s
    assert f"has been restored from {shared}/copy-" in said
    living.systemctl("unmask", "--runtime", STANDBY)
    living.systemctl("start", STANDBY, *WANTED)

    for each in (job, after):
        end(living, each)
    check_reports(living, core, [job, after])
