"""From a host with nothing but the program to a job of UCloud's: ``setup --apply`` under a living systemd, real Slurm."""

import pwd
import re
import shlex
import shutil
import time
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.sandbox.cluster import Cluster
from tests.sandbox.core import SimulatedCore
from tests.sandbox.installation import Installation
from tests.sandbox.living import PROXY_GROUP, PROXY_USER, WEB_SOCKET, Living
from tests.sandbox.processes import wait_until
from tests.support.factories import application, word
from tests.support.pages import install_commands
from tests.support.real import started_core
from ucloud_slurm import config

pytestmark = pytest.mark.apart

PROGRAM = "/opt/ucloud-slurm/bin/ucloud-slurm"
CONFIG = "/etc/ucloud-slurm/config.toml"
PERSON = "Alice#1234"  # of the guide
PATIENCE = 60.0
LONGEST_SECONDS = 600.0
PREPARED = ["apt-get", "/usr/bin/python3", "/opt/ucloud-slurm/bin/pip", "certbot"]
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


def test_the_commands_of_the_guide_lead_from_a_bare_host_to_a_job_within_ten_minutes(
    living: Living, core: SimulatedCore, cluster: Cluster
) -> None:
    typed = install_commands()
    assert len(typed) <= 10
    setup_at = typed.index(f"{PROGRAM} setup --apply")
    assert [line.split()[0] for line in typed[:setup_at]] == PREPARED, "what this world has already"
    living.run("sh", "-c", "umask 077; cat > /run/token", stdin=core.refresh_token)
    living.run("sh", "-c", "cat > /run/key", stdin=core.public_key)
    begun = time.monotonic()

    said = living.run(*typed[setup_at].split(), "--yes", *answers(living, core, cluster))
    assert core.refresh_token not in said
    assert "No product for" not in said
    assert "nobody is connected yet: ucloud-slurm users add" in said, "the check's warning"
    assert [line for line in said.splitlines() if re.match(r"# \d", line)] == [
        "# 1. The products are registered at UCloud (yours: --apply does not do it)"
    ]
    *others, last = typed[setup_at + 1 :]
    shown = {line: living.run(*shlex.split(as_here(line, living, core)), stdin="y\n") for line in others}
    (curl,) = (line for line in others if line.startswith("curl"))
    assert shown[curl].startswith("HTTP/1.1 401 ")
    assert '"why":"Unauthenticated"' in shown[curl]
    (product,) = [each for each in products(living) if each.partition == "cpu"]
    core.accounts.set_quota(10**9, PERSON, category=product.category)
    wait_until("it is ready", lambda: living.ask("/readyz")[0] == 200, seconds=PATIENCE)
    metadata = APPLICATION["metadata"]
    job = core.submit(application=(metadata["name"], metadata["version"]), product=product.id, owner=PERSON, parameters={})
    core.wait(job, "SUCCESS", PATIENCE)
    assert job in living.run(*last.split(), "--all")

    took = time.monotonic() - begun
    assert took < LONGEST_SECONDS, f"from setup to the end of the first job it took {took:.0f} s"
    assert (Path(pwd.getpwnam("alice").pw_dir) / "ucloud-jobs" / job / "stdout-0.log").read_text() == "alice\n"
    assert {each.partition for each in products(living)} == {"cpu", "gpu", "debug"}
    assert living.run("stat", "-c", "%a %U", "/etc/ucloud-slurm/refresh-token") == "600 ucloud-slurm"
    assert PROXY_GROUP in living.run("id", "-nG", PROXY_USER).split()
    assert living.read("/proc/net/unix").count(WEB_SOCKET) > 0


def answers(living: Living, core: SimulatedCore, cluster: Cluster) -> tuple[str, ...]:
    """What ``setup`` asks, as options."""
    where = ("--provider", core.provider, "--url", living.url, "--ucloud", core.url, "--slurm-conf", str(cluster.conf))
    return (*where, "--token-file", "/run/token", "--public-key-file", "/run/key")


def as_here(line: str, living: Living, core: SimulatedCore) -> str:
    """A command of the guide with the names of this provider."""
    return line.replace("https://hpc.example.org/ucloud/example/", f"{living.url}/ucloud/{core.provider}/")


def products(living: Living) -> Sequence[config.Product]:
    return config.parse(tomllib.loads(living.read(CONFIG))).products


def test_a_new_configuration_is_read_by_what_runs_and_a_second_time_nothing_changes(living: Living) -> None:
    setup, before = (PROGRAM, "setup", "--apply", "--replace", "--yes"), running(living)
    living.run("sh", "-c", f"echo '# a line of an administrator' >> {CONFIG}")
    said = living.run(*setup)
    assert f"The old file is {CONFIG}." in said
    assert [line for line in said.splitlines() if line.startswith("+ ")] == [
        "+ The services that run have read the configuration"
    ]
    wait_until("they have", lambda: not {*running(living)} & {*before}, seconds=PATIENCE)
    assert living.ask("/readyz")[0] == 200

    state = "find /etc/ucloud-slurm /etc/systemd/system /etc/sudoers.d /etc/nginx /etc/group -exec stat -c '%n %Y %Z' {} +"
    after = living.run("sh", "-c", state), running(living)
    assert "Nothing to do: all 17 steps are done, and nothing was changed." in living.run(*setup)
    assert (living.run("sh", "-c", state), running(living)) == after


def running(living: Living) -> list[str]:
    """The processes that have a configuration: of the web service those that answer, not the one that starts them."""
    web = living.run("systemctl", "show", "--property=MainPID", "--value", "ucloud-slurm.service")
    found = living.run("ps", "-o", "pid=", "--ppid", web).split()
    for unit in ("ucloud-slurm-listener.service", "ucloud-slurm-runner.service"):
        found.append(living.run("systemctl", "show", "--property=MainPID", "--value", unit))
    assert len(found) >= 4
    assert "0" not in found
    return found
