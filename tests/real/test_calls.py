"""Every call of the developer guide and of the eras after it, on the real cluster, with the Core of each era.

The table in docs/reference/calls.rst names the test of each call.
"""

import json
import statistics
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import site_opener
from tests.sandbox.cluster import Cluster
from tests.sandbox.core import ERAS, CoreError
from tests.sandbox.installation import Installation
from tests.sandbox.processes import wait_until
from tests.support.factories import application, job_data, word
from tests.support.real import PATIENCE, Real

pytestmark = pytest.mark.every_era
EARLIER = pytest.mark.parametrize("era", ["2021", "2022"], scope="session")
BASE = "/ucloud/example"
PRODUCTS: tuple[dict[str, Any], ...] = (
    {"id": "example-compute-1", "category": "example-compute", "partition": "cpu", "time_max": "2d"},
    {
        "id": "debug",
        "category": "debug",
        "partition": "debug",
        "cpus": 1,
        "memory_gb": 0.5,
        "gpus": 0,
        "unit": "CREDITS_PER_MINUTE",
    },
)
OUTSIDE = [{"account": "proj-b", "product": "example-compute-1", "category": "example-compute", "created_by": "Bob#1"}]


@pytest.fixture(scope="module")
def real(cluster: Cluster, installation: Installation, era: str) -> Iterator[Real]:
    with site_opener(cluster, installation) as open_site:
        site, core = open_site(loop=0.5, workers=2, era=era, products=PRODUCTS, outside=OUTSIDE)
        core.catalogue.add_product({"name": "debug", "category": {"name": "debug", "provider": "example"}})
        if core.era.accounting == "quotas":
            # Whom this Core knows it says on its channel only.
            core.directory.add_user("Bob#1")
            core.accounts.set_quota(10**9, "Bob#1")
            site.listen()
        yield Real(site, core, cluster)
    cluster.run("scancel", f"--user={cluster.service_user}")


def start(real: Real, *command: str, running: bool = True, **more: Any) -> str:
    """A job that runs a command; by default one that sleeps."""
    app = application(*[word(text) for text in command or ("sleep", "600")])
    real.core.catalogue.add_application(app)
    arguments: dict[str, Any] = {"product": "example-compute-1", "parameters": {}, "minutes": 10} | more
    job_id = real.core.submit(application=(app["metadata"]["name"], "1.0"), **arguments)
    if running:
        real.core.wait(job_id, "RUNNING", PATIENCE)
    return job_id


@pytest.fixture(scope="module", autouse=True)
def long_job(real: Real) -> str:
    """A job that is worth a charge; it runs beside the others."""
    return start(real, "sleep", "40", running=False)


def slurm_id(real: Real, job_id: str) -> str:
    return str(real.shown(job_id)["slurm_id"])


def scontrol(real: Real, job_id: str) -> dict[str, str]:
    """What ``scontrol show job`` says."""
    text = real.cluster.run("scontrol", "show", "job", slurm_id(real, job_id))
    return dict(pair.split("=", 1) for pair in text.split() if "=" in pair)


def test_create_makes_a_slurm_job(real: Real) -> None:
    job_id = start(real, name="made by create")
    assert scontrol(real, job_id)["JobName"] == f"ucloud-{job_id}-made-by-create"
    real.core.terminate(job_id)


def test_terminate_ends_the_slurm_job_before_during_and_after(real: Real) -> None:
    waits = start(real, replicas=4, running=False)
    real.core.terminate(waits)
    runs = start(real)
    real.core.terminate(runs)
    for job_id in (waits, runs):
        real.core.wait(job_id, "SUCCESS", PATIENCE)
        real.core.terminate(job_id)
    assert scontrol(real, runs)["JobState"] == "CANCELLED"


def test_extend_raises_the_limit_in_slurm_and_tells_it(real: Real) -> None:
    job_id = start(real)
    assert scontrol(real, job_id)["TimeLimit"] == "00:10:00"
    real.core.extend(job_id, 20)
    assert scontrol(real, job_id)["TimeLimit"] == "00:30:00"
    real.core.extend(job_id, 20)  # the same again, before UCloud has heard of it or within a minute
    real.core.wait_until(lambda: real.core.job(job_id).updates[-1]["state"] is None, 10, "the new limit")
    last = real.core.job(job_id).updates[-1]
    assert last["status"].startswith("The job may now run for")
    assert (last.get("newTimeAllocation") is not None) == ERAS[real.core.era.name].has_new_time_allocation
    with pytest.raises(CoreError, match="at most 2 days") as refusal:
        real.core.extend(job_id, 60 * 48)
    assert refusal.value.status == 400
    real.core.terminate(job_id)


def test_extend_never_goes_beyond_the_partition_although_slurm_would(real: Real) -> None:
    job_id = start(real, product="debug", minutes=3)
    with pytest.raises(CoreError, match=r"at most 5 minutes.*partition debug"):
        real.core.extend(job_id, 10)
    assert scontrol(real, job_id)["TimeLimit"] == "00:03:00"
    real.core.terminate(job_id)


def test_suspend_and_unsuspend_are_done_by_slurm_and_the_bill_pauses(real: Real) -> None:
    job_id = start(real)
    real.core.suspend(job_id)
    assert scontrol(real, job_id)["JobState"] == "SUSPENDED"
    begun = time.monotonic()
    shown = "SUSPENDED" if real.core.era.has_suspended else "IN_QUEUE"
    real.core.wait(job_id, shown, PATIENCE)
    wait_until("three seconds of suspension", lambda: time.monotonic() - begun > 3, seconds=5)
    status, _ = real.core.call("POST", f"{BASE}/jobs/unsuspend", {"items": [{"job": job_data(job_id)}]})
    assert status == 200
    assert scontrol(real, job_id)["JobState"] == "RUNNING"
    real.core.wait(job_id, "RUNNING", PATIENCE)
    real.core.terminate(job_id)
    real.core.wait(job_id, "SUCCESS", PATIENCE)
    rows = (
        real.cluster.run(
            "sacct", "-X", "-n", "-P", f"--jobs={slurm_id(real, job_id)}", "--format=ElapsedRaw,Suspended,Start,End"
        )
        .strip()
        .split("|")
    )
    assert int(rows[1].rpartition(":")[2]) >= 2
    assert real.shown(job_id)["bill"]["used"] == int(rows[0])


def test_open_interactive_session_gives_a_shell_on_each_node_of_the_allocation(real: Real) -> None:
    job_id = start(real, replicas=2)
    nodes = real.cluster.run("scontrol", "show", "hostnames", scontrol(real, job_id)["NodeList"]).split()
    for rank in (0, 1):
        opened = real.core.open_session(job_id, rank, "SHELL")
        assert opened is not None
        with real.core.shell(opened, cols=90, rows=20) as shell:
            shell.send("echo $SLURMD_NODENAME:$SLURM_JOB_ID:$(id -un):$(stty size)\r")
            shell.wait_for(f"{nodes[rank]}:{slurm_id(real, job_id)}:{real.cluster.service_user}:20 90")
    with pytest.raises(CoreError, match="ranks are 0 to 1"):
        real.core.open_session(job_id, 2, "SHELL")
    real.core.terminate(job_id)


def test_a_shell_answers_at_once_and_ends_with_the_job(real: Real) -> None:
    job_id = start(real)
    opened = real.core.open_session(job_id)
    assert opened is not None
    with real.core.shell(opened) as shell:
        shell.send("stty -echo; PS1=; echo rea''dy\r")
        shell.wait_for("ready")
        times = []
        for number in range(60):
            begun = time.perf_counter()
            shell.send(f"echo answer-{number}-\r")
            shell.wait_for(f"answer-{number}-")
            times.append((time.perf_counter() - begun) * 1000)
        assert statistics.quantiles(times, n=20)[-1] < 100, sorted(times)
        real.core.terminate(job_id)
        shell.wait_closed(PATIENCE)


def test_retrieve_products_says_what_is_configured_and_possible(real: Real) -> None:
    elements = {element["product"]["id"]: element for element in real.core.retrieve_products()}
    assert set(elements) == {"example-compute-1", "debug"}
    assert elements["debug"]["native"] == {
        "enabled": True,
        "web": False,
        "vnc": False,
        "logs": True,
        "terminal": True,
        "peers": False,
        "timeExtension": True,
    } | ({} if real.core.era.polls else {"utilization": True})


@EARLIER
def test_retrieve_utilization_is_what_sinfo_says_and_quick(real: Real) -> None:
    job_id = start(real)
    answer = real.core.retrieve_utilization(job_id)
    assert answer["capacity"] == {"cpu": 64.0, "memory": 4 * 8000 * 2**20}
    assert answer["usedCapacity"]["cpu"] >= 1
    assert answer["queueStatus"]["running"] >= 1
    path = f"{BASE}/jobs/retrieveUtilization?categoryId=debug"
    assert real.core.call("GET", path)[1]["capacity"]["cpu"] == 16
    times = []
    for _ in range(40):
        begun = time.perf_counter()
        assert real.core.call("GET", path)[0] == 200
        times.append((time.perf_counter() - begun) * 1000)
    assert statistics.median(times) < 100
    real.core.terminate(job_id)


@EARLIER
def test_update_acl_ends_the_logs_and_shells_of_whom_it_names(real: Real) -> None:
    job_id = start(real)
    opened = real.core.open_session(job_id, 0, "SHELL", "Guest#1")
    assert opened is not None
    with real.core.shell(opened) as shell, real.core.follow(job_id, "Guest#1", while_running=False) as followed:
        followed.wait_for(lambda: followed.session is not None, 10)
        real.core.update_acl(job_id, deleted=[{"type": "user", "username": "Guest#1"}])
        assert shell.wait_closed(10).status == 403
        response = followed.wait_end(10)
        assert response is not None
        assert response.status == 403
    real.core.terminate(job_id)


@EARLIER
def test_verify_corrects_what_ucloud_has_wrong(real: Real) -> None:
    job_id = start(real, "true", running=False)
    real.core.wait(job_id, "SUCCESS", PATIENCE)
    told = len(real.core.job(job_id).updates)

    def again() -> bool:
        # What is about to be noted as told is not told twice.
        real.core.verify(job_id)
        return len(real.core.job(job_id).updates) > told

    wait_until("the end, again", again, seconds=20)
    assert real.core.call("POST", f"{BASE}/jobs/verify", {"items": [job_data("987654")]}) == (200, {})


def test_follow_shows_every_byte_of_a_million_lines_of_a_job_that_ends_at_once(real: Real) -> None:
    job_id = start(real, "sh", "-c", "seq 1000000; printf 'the end, without a line feed'", running=False)
    with real.core.follow(job_id, while_running=False) as followed:
        response = followed.wait_end(PATIENCE)
    if real.core.era.log_form == "streams":
        assert response is not None
        assert response.status == 200
    assert followed.text() == real.output(job_id)
    assert len(followed.text().splitlines()) == 1_000_001


def test_follow_shows_each_rank_and_what_is_said_last(real: Real) -> None:
    job_id = start(real, "sh", "-c", "echo I am $SLURM_PROCID; sleep 3; printf last >&2", replicas=2)
    with real.core.follow(job_id) as followed:
        followed.wait_end(PATIENCE)
    assert [followed.text(rank) for rank in (0, 1)] == ["I am 0\n", "I am 1\n"]
    assert all(followed.text(rank, "stderr").endswith("last") for rank in (0, 1))
    assert followed.inits == 1


def test_register_shows_a_job_from_outside_ucloud(real: Real) -> None:
    if "bob" not in real.cluster.users:
        pytest.fail("the cluster of the tests is made by root, with users")
    made = real.cluster.run(
        "sbatch", "--parsable", "--job-name=from outside", "--time=5", "--output=/dev/null", "--wrap=sleep 600", user="bob"
    ).strip()

    def found() -> list[str]:
        ours = [row["id"] for row in real.site.rows("select id from jobs where slurm_id = ?", int(made))]
        return [job.id for job in real.core.jobs if job.owner == "Bob#1" and job.id in ours]

    try:
        real.core.wait_until(lambda: found() != [], PATIENCE, "the job from outside")
        (job_id,) = found()
        real.core.wait(job_id, "RUNNING", PATIENCE)
        real.core.terminate(job_id)
        real.core.wait(job_id, "SUCCESS", PATIENCE)
        assert len(found()) == 1
    finally:
        real.cluster.run("scancel", made)


def test_the_integration_module_answers(real: Real) -> None:
    def get(path: str) -> Any:
        return real.core.call("GET", f"{BASE}/{path}")

    def post(path: str, body: dict[str, Any]) -> Any:
        return real.core.call("POST", f"{BASE}/{path}", body)

    assert get("integration/retrieveManifest")[1]["enabled"] is False
    assert get("integration/retrieveStatus")[1]["level"] == "NORMAL"
    assert post("integration/init", {"username": "user"}) == (200, {})
    assert post("integration/unlinked", {"username": "user"}) == (200, {})
    assert post("jobs/init", {"principal": {"createdBy": "user", "project": None}}) == (200, {})
    assert post("integration/connect", {"username": "user"})[0] == 400
    keys = {"token": "t", "createdProvider": {"refreshToken": "r", "publicKey": "k"}}
    assert post("integration/welcome", keys)[0] == 400


def test_delete_is_refused_with_the_contracts_code(real: Real) -> None:
    status, body = real.core.call("DELETE", f"{BASE}/jobs", {"items": [job_data("1")]})
    assert (status, body["errorCode"]) == (400, "FEATURE_NOT_SUPPORTED_BY_PROVIDER")


def test_update_and_charge_credits_tell_and_book_the_whole_life(real: Real, long_job: str) -> None:
    job_id = long_job
    real.core.wait(job_id, "SUCCESS", 120)
    assert [u["state"] for u in real.core.job(job_id).updates if u["state"]] == ["RUNNING", "SUCCESS"]
    booked = sum(charge.units * charge.multiplier for charge in real.core.job(job_id).charges)
    if real.core.era.accounting == "quotas":
        scope = f"example/example-compute/job/{job_id}"
        booked = max(report.usage for report in real.core.accounts.reports if report.scope == scope)
    shown = real.shown(job_id)["bill"]
    assert abs(booked * 60 - shown["used"]) <= 60, "the half of a unit of its wallet, before and after it"
    assert abs(shown["wallet_rest"]) <= 30
    messages = json.loads(real.site.cli("outbox", "--all", "--json").stdout)
    assert {message["outcome"] for message in messages if message["job_id"] == job_id} == {"delivered"}
