"""Jobs of people whose names are as directory services give them, end to end: dots, capitals, digits first, @, \\."""

import pwd
import subprocess
from collections.abc import Iterator

import pytest

from tests.conftest import site_opener
from tests.sandbox.cluster import Cluster
from tests.sandbox.installation import Installation
from tests.support.factories import application, job_data, word
from tests.support.people import PATIENCE, People

pytestmark = pytest.mark.beside

NAMES = ("ada.l", "Bea.M", "9cy", "dan@example.org", "DOM\\eli", "fay+x")
CODE = 'id -un; echo "$PWD"; echo "$UCLOUD_JOB_FOLDER"'


@pytest.fixture(scope="module")
def people(cluster: Cluster, installation: Installation) -> Iterator[People]:
    """A site whose jobs run as them, in folders named after them."""
    cluster.invite(NAMES)
    # sacctmgr sends slurmctld the name with a backslash doubled (22.05); the database has it right.
    cluster.stop_daemon("slurmctld")
    cluster.start_daemon("slurmctld")
    shared = cluster.folder / "by-name"
    shared.mkdir(mode=0o1777)
    shared.chmod(0o1777)
    links = {f"User{number}#1": name for number, name in enumerate(NAMES)}
    with site_opener(cluster, installation) as open_site:
        folder = f"{shared}/50%d/{{user}}"
        (shared / "50%d").mkdir()
        (shared / "50%d").chmod(0o1777)
        site, core = open_site(loop=0.5, era="2022", links=links, tables={"jobs": {"folder": folder}})
        yield People(site, core, cluster, installation.program)


@pytest.mark.parametrize("nodes", [1, 2])
def test_a_person_of_any_name_that_a_directory_gives_runs_jobs_and_reads_their_logs(people: People, nodes: int) -> None:
    jobs = {name: f"{nodes}00{number}" for number, name in enumerate(NAMES)}
    for number, job_id in enumerate(jobs.values()):
        app = application(word("bash"), word("-c"), word(CODE), allowMultiNode=True)
        data = job_data(job_id, app=app, replicas=nodes)
        data["owner"] = {"createdBy": f"User{number}#1", "project": None}
        assert people.create(data)[0] == 200
    people.wait_for_ends(jobs.values())
    for name, job_id in jobs.items():
        folder = people.cluster.folder / "by-name" / "50%d" / name / job_id
        for rank in range(nodes):
            assert (folder / f"stdout-{rank}.log").read_text().splitlines() == [name, str(folder), str(folder)]
            assert (folder / f"stdout-{rank}.log").stat().st_uid == pwd.getpwnam(name).pw_uid


def test_a_shell_opens_for_a_person_of_any_name(people: People) -> None:
    for number, name in enumerate(NAMES):
        owner = f"User{number}#1"
        job_id = people.submit(owner)
        people.wait_for(job_id, "RUNNING")
        session = people.core.open_session(job_id, 0, "SHELL", owner)
        with people.core.shell(session or {}, user=owner) as shell:
            shell.send("echo I-am-$(id -un)\r")
            shell.wait_for(f"I-am-{name}", PATIENCE)
        people.core.terminate(job_id, user=owner)


def test_check_tries_people_of_any_name(people: People) -> None:
    done = people.site.cli("check", check=False)
    assert done.returncode == 0, done.stdout
    assert "Slurm would take jobs of" in done.stdout
    assert [line for line in done.stdout.splitlines() if line.startswith(("warning", "failed")) and "jobs of" in line] == []


@pytest.mark.parametrize("name", ["#0", "0", "1000", "-u", "%wheel", "a b", "../x", "a,b", "root"])
def test_what_sudo_or_slurm_would_read_as_something_else_is_nobody_s_name(people: People, name: str) -> None:
    done = people.site.cli("users", "add", "Eve#3", "--", name, check=False)
    assert done.returncode == 78
    assert "Traceback" not in done.stderr
    listed = subprocess.run(["getent", "passwd", name], capture_output=True, check=False)
    assert listed.returncode != 0 or name in ("0", "root", "#0", "1000")
