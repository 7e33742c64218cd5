"""What a person or a site can say, on the real cluster: lines, options left out, login profiles, accounts and arrays."""

import pwd
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import site_opener
from tests.sandbox.cluster import Cluster
from tests.sandbox.installation import Installation
from tests.sandbox.processes import wait_until
from tests.support.factories import application, job_data, parameter, text, var, word
from tests.support.people import ALICE, BOB, LINKS, PATIENCE, People
from ucloud_slurm.config.types import OMITTABLE

pytestmark = pytest.mark.beside

PRODUCTS: tuple[dict[str, Any], ...] = (
    {"id": "example-compute-1", "category": "example-compute", "partition": "cpu"},
    {
        "id": "bare",
        "category": "example-compute",
        "partition": "cpu",
        "cpus": 2,
        "memory_gb": 0.5,
        "gpus": 0,
        "omit": list(OMITTABLE),
    },
    {"id": "nodeless", "category": "example-compute", "partition": "cpu", "omit": ["nodes", "mem"]},
)
# Slurm keeps proj-b in small letters.
OUTSIDE = [{"account": "Proj-B", "product": "example-compute-1", "category": "example-compute", "created_by": BOB}]


@pytest.fixture(scope="module")
def people(cluster: Cluster, installation: Installation) -> Iterator[People]:
    for user in cluster.users:
        shutil.rmtree(Path(pwd.getpwnam(user).pw_dir) / "ucloud-jobs", ignore_errors=True)
    with site_opener(cluster, installation) as open_site:
        site, core = open_site(loop=0.5, era="2022", products=PRODUCTS, outside=OUTSIDE, links=LINKS)
        yield People(site, core, cluster, installation.program)
    for user in cluster.users:
        cluster.run("scancel", f"--user={user}")


@pytest.fixture
def profile(people: People) -> Iterator[Path]:
    """Alice's login profile, which she has only here."""
    path = Path(pwd.getpwnam("alice").pw_dir) / ".bash_profile"
    path.touch()
    path.chmod(0o644)
    yield path
    for each in (path, path.with_name("profile-ran")):
        each.unlink(missing_ok=True)
    people.cluster.run("scancel", "--user=alice")


@pytest.mark.parametrize(("job_id", "code"), [("8101", "sleep 1000"), ("8102", "exit 1"), ("8103", "export PATH=/nowhere")])
def test_a_job_runs_whatever_the_login_profile_of_its_user_does(people: People, profile: Path, job_id: str, code: str) -> None:
    profile.write_text(f"touch ~/profile-ran\n{code}\n")
    asked = "echo $HOME $USER $LOGNAME $SHELL $PATH; srun bash -c 'echo $HOME $PATH'; date +%Z; env | grep -c ^TZ="
    assert people.run(ALICE, job_id, word("bash"), word("-c"), word(asked))[0] == 200
    people.wait_for_ends([job_id])
    entry, path = pwd.getpwnam("alice"), "/usr/local/bin:/usr/bin:/bin"
    first, step, _, zones = (people.folder("alice", job_id) / "stdout-0.log").read_text().splitlines()
    assert first == f"{entry.pw_dir} alice alice {entry.pw_shell} {path}"
    assert step == f"{entry.pw_dir} {path}"
    assert zones == "0"
    assert not (Path(entry.pw_dir) / "profile-ran").exists()


@pytest.mark.parametrize(
    ("job_id", "product", "nodes", "omitted"),
    [("8110", "bare", 1, OMITTABLE), ("8111", "nodeless", 1, ("nodes", "mem")), ("8112", "nodeless", 2, ("nodes", "mem"))],
)
def test_options_that_the_site_forbids_are_named_by_no_job(
    people: People, job_id: str, product: str, nodes: int, omitted: tuple[str, ...]
) -> None:
    of = {"id": product, "category": "example-compute", "provider": "example"}
    app = application(word("bash"), word("-c"), word("echo $SLURM_JOB_NUM_NODES"))
    data = job_data(job_id, app=app, product=of, replicas=nodes)
    data["owner"] = {"createdBy": ALICE, "project": None}
    assert people.create(data)[0] == 200
    people.wait_for_ends([job_id])
    for rank in range(nodes):
        assert (people.folder("alice", job_id) / f"stdout-{rank}.log").read_text() == f"{nodes}\n"
    name = ("--user=alice", f"--name=ucloud-{job_id}", "--starttime=now-1hours", "--endtime=now+1days")
    # The database hears of a job a little later than the queue.
    ask = ("sacct", "--allocations", "--noheader", "--parsable2", "--format=SubmitLine", *name)
    wait_until("sacct lists the job", lambda: people.cluster.run(*ask) != "", seconds=PATIENCE)
    line = people.cluster.run(*ask)
    assert "--partition=cpu" in line
    assert not [option for option in omitted if f"--{option}=" in line]


def test_the_lines_of_a_text_area_arrive_on_every_node(people: People) -> None:
    hostile = "#SBATCH --uid=0\r\n'; touch /tmp/ucloud-was-here\n\n$(id)\t\\\nEOF\n"
    app = application(word("printf"), word("%s"), var("v"), parameters=[parameter("v", "textarea")])
    data = job_data("8120", app=app, parameters={"v": text(hostile)}, replicas=2)
    data["owner"] = {"createdBy": ALICE, "project": None}
    assert people.create(data)[0] == 200
    people.wait_for_ends(["8120"])
    for rank in (0, 1):
        assert (people.folder("alice", "8120") / f"stdout-{rank}.log").read_text() == hostile.replace("\r\n", "\n")


def test_an_array_is_registered_in_an_account_that_the_configuration_writes_in_capitals(people: People) -> None:
    more = ("--job-name=many", "--time=5", "--output=/dev/null", "--wrap=sleep 600")
    array = people.cluster.run("sbatch", "--parsable", "--hold", "--array=1-3", *more, user="bob").strip()

    def registered() -> list[str]:
        return [job.id for job in people.core.jobs if job.owner == BOB]

    wait_until("the array is registered", lambda: registered() != [], seconds=PATIENCE)
    # A task gets a number of its own when it is released.
    people.cluster.run("scontrol", "release", f"{array}_1")
    wait_until("the task is registered", lambda: len(registered()) == 2, seconds=PATIENCE)
    people.cluster.run("scancel", array)
    people.wait_for_ends(registered())
    calls = [each for each in people.core.exchanges if each.call == "jobs.control.register"]
    assert len(registered()) == 2
    assert len(calls) == 2
