"""From a host with nothing but the program to a job of UCloud's: ``setup --apply`` under a living systemd, real Slurm."""

import pwd
import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandbox.cluster import Cluster
from tests.sandbox.core import SimulatedCore
from tests.sandbox.installation import Installation
from tests.sandbox.living import PROXY_GROUP, PROXY_USER, WEB_SOCKET, Living
from tests.sandbox.processes import wait_until
from tests.support.factories import application, word
from tests.support.real import started_core
from ucloud_slurm import config

pytestmark = pytest.mark.beside

ROOT = Path(__file__).parents[2]
PROGRAM = "/opt/ucloud-slurm/bin/ucloud-slurm"
CONFIG = "/etc/ucloud-slurm/config.toml"
PERSON = "Alice#1"
PATIENCE = 60.0
APPLICATION = application(word("id"), word("-un"))
# What an administrator has not done yet; the drop-ins say where the private cluster is.
NOTHING = f"""
rm -f /etc/ucloud-slurm/* /etc/sudoers.d/ucloud-slurm /etc/systemd/system/ucloud-slurm*.service
rm -f /etc/systemd/system/ucloud-slurm*.socket /etc/systemd/system/ucloud-slurm*.timer /run/tmpfiles.d/ucloud-slurm.conf
sed -i /^{PROXY_GROUP}:/d /etc/group
mkdir -p /etc/nginx/conf.d /etc/letsencrypt/live/127.0.0.1
cd /etc/letsencrypt/live/127.0.0.1
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -keyout privkey.pem -out fullchain.pem
systemctl daemon-reload
"""


@pytest.fixture(scope="module")
def core() -> Iterator[SimulatedCore]:
    with started_core(APPLICATION, PERSON, first_id=854_112) as core:
        yield core


@pytest.fixture(scope="module")
def living(cluster: Cluster, installation: Installation, core: SimulatedCore) -> Iterator[Living]:
    living = Living(cluster, installation, core)
    shutil.rmtree(Path(pwd.getpwnam("alice").pw_dir) / "ucloud-jobs", ignore_errors=True)
    try:
        living.start()
        living.run("sh", "-ec", NOTHING)
        yield living
    finally:
        living.stop()
        for user in (cluster.service_user, *cluster.users):
            cluster.run("scancel", f"--user={user}")


def test_setup_makes_a_provider_of_a_bare_host_and_a_second_time_changes_nothing(
    living: Living, core: SimulatedCore, cluster: Cluster
) -> None:
    living.run("sh", "-c", "umask 077; cat > /run/token", stdin=core.refresh_token)
    living.run("sh", "-c", "cat > /run/key", stdin=core.public_key)
    answers = ("--provider", core.provider, "--url", living.url, "--ucloud", core.url, "--slurm-conf", str(cluster.conf))
    keys = ("--token-file", "/run/token", "--public-key-file", "/run/key")
    setup = (PROGRAM, "setup", "--yes", "--apply", "--files", str(ROOT))

    said = living.run(*setup, *answers, *keys)
    assert core.refresh_token not in said
    assert "No product for" not in said
    assert "nobody is connected yet: ucloud-slurm users add" in said, "the check's warning"
    assert [line for line in said.splitlines() if re.match(r"# \d", line)] == [
        "# 1. The products are registered at UCloud (yours: --apply does not do it)"
    ]
    assert living.run("stat", "-c", "%a %U", "/etc/ucloud-slurm/refresh-token") == "600 ucloud-slurm"
    assert PROXY_GROUP in living.run("id", "-nG", PROXY_USER).split()

    living.run(PROGRAM, "products", "sync", "--yes", user=cluster.service_user)
    state = "find /etc/ucloud-slurm /etc/systemd/system /etc/sudoers.d /etc/nginx /etc/group -exec stat -c '%n %Y %Z' {} +"
    before = living.run("sh", "-c", state)
    assert "Nothing to do: all 16 steps are done, and nothing was changed." in living.run(*setup)
    assert living.run("sh", "-c", state) == before

    products = config.parse(tomllib.loads(living.read(CONFIG))).products
    (product,) = [each for each in products if each.partition == "cpu"]
    assert {each.partition for each in products} == {"cpu", "gpu", "debug"}
    core.accounts.set_quota(10**9, PERSON, category=product.category)
    living.run(PROGRAM, "users", "add", PERSON, "alice", user=cluster.service_user)
    wait_until("it is ready", lambda: living.ask("/readyz")[0] == 200, seconds=PATIENCE)
    assert living.read("/proc/net/unix").count(WEB_SOCKET) > 0
    metadata = APPLICATION["metadata"]
    job = core.submit(application=(metadata["name"], metadata["version"]), product=product.id, owner=PERSON, parameters={})
    core.wait(job, "SUCCESS", PATIENCE)
    assert (Path(pwd.getpwnam("alice").pw_dir) / "ucloud-jobs" / job / "stdout-0.log").read_text() == "alice\n"
