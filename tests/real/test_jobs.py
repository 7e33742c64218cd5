"""Jobs on the real cluster, through gunicorn with two workers and the worker's own loop."""

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import site_opener
from tests.sandbox.cluster import Cluster
from tests.sandbox.core.catalogue import compute_product
from tests.sandbox.installation import Installation
from tests.sandbox.processes import wait_until
from tests.support.factories import application, job_data, parameter, text, var, word
from tests.support.real import PATIENCE, Real

pytestmark = pytest.mark.apart

PRODUCTS: tuple[dict[str, Any], ...] = (
    {"id": "example-compute-1", "category": "example-compute", "partition": "cpu"},
    {
        "id": "limited",
        "category": "example-compute",
        "partition": "cpu",
        "account": "proj-c",
        "cpus": 1,
        "memory_gb": 0.5,
        "gpus": 0,
        "unit": "CREDITS_PER_MINUTE",
    },
    {
        "id": "gpu",
        "category": "example-compute",
        "partition": "gpu",
        "gres": "gpu:a100:1",
        "cpus": 1,
        "memory_gb": 0.5,
        "unit": "CREDITS_PER_MINUTE",
    },
)


@pytest.fixture(scope="module")
def real(cluster: Cluster, installation: Installation) -> Iterator[Real]:
    with site_opener(cluster, installation) as open_site:
        site, core = open_site(loop=1.0, workers=2, products=PRODUCTS)
        for product in PRODUCTS[1:]:
            core.catalogue.add_product(compute_product(product["id"], "example"))
        yield Real(site, core, cluster)
    cluster.run("scancel", f"--user={cluster.service_user}")


def test_a_job_runs_and_its_whole_life_is_told_and_charged(real: Real) -> None:
    job_id = real.core.submit(
        application=("sleeper", "1.0.0"),
        product="example-compute-1",
        name="my first job",
        minutes=5,
        parameters={"seconds": {"type": "integer", "value": 3}},
    )
    real.core.wait(job_id, "RUNNING", PATIENCE)
    listed = real.cluster.run("squeue", "--noheader", "--format=%j %u %k")
    assert f"ucloud-{job_id}-my-first-job {real.cluster.service_user} ucloud:example:{job_id}" in listed
    real.core.wait(job_id, "SUCCESS", PATIENCE)
    states = [update["state"] for update in real.core.job(job_id).updates]
    assert states == ["RUNNING", "SUCCESS"]
    (slurm_id,) = real.slurm_jobs(job_id)
    rows = real.site.rows("select slurm_id, phase, state from jobs where id = ?", job_id)
    assert rows == [{"slurm_id": int(slurm_id), "phase": "ended", "state": "SUCCESS"}]


def test_what_the_user_typed_arrives_in_the_program_and_nothing_else_happens(real: Real) -> None:
    hostile = "$(touch /tmp/ucloud-was-here) `id` '; \"\\ ${IFS} !! {a,b} ~root * é 🦆 --wrap=x @/etc/passwd"
    app = application(word("printf"), word("%s"), var("v"), parameters=[parameter("v")])
    assert real.create(job_data("901", app=app, parameters={"v": text(hostile)}))[0] == 200
    real.wait_for_end("901")
    assert real.output("901") == hostile


def test_a_job_is_submitted_from_the_root_folder_wherever_the_service_began(real: Real) -> None:
    app = application(word("printenv"), word("SLURM_SUBMIT_DIR"))
    assert real.create(job_data("905", app=app))[0] == 200
    real.wait_for_end("905")
    assert real.output("905") == "/\n"
    commands = {each.pid: Path(f"/proc/{each.pid}/cmdline").read_bytes() for each in real.site.processes}
    assert [str(Path(f"/proc/{pid}/cwd").readlink()) for pid, line in commands.items() if b"--loop" in line] == ["/"]


def test_every_node_of_a_job_runs_the_program_and_has_a_log_of_its_own(real: Real) -> None:
    app = application(word("sh"), word("-c"), word('echo "$SLURM_NODEID of $UCLOUD_REPLICAS"'))
    assert real.create(job_data("902", app=app, replicas=2))[0] == 200
    real.wait_for_end("902")
    assert [real.output("902", f"stdout-{rank}.log") for rank in (0, 1)] == ["0 of 2\n", "1 of 2\n"]


def test_twenty_creates_at_once_over_two_processes_make_one_slurm_job(real: Real) -> None:
    app = application(word("sleep"), word("2"))
    answers: list[tuple[int, Any]] = []
    threads = [threading.Thread(target=lambda: answers.append(real.create(job_data("903", app=app)))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [(200, {"responses": [{"id": "ucloud-903"}]})] * 20
    real.wait_for_end("903")
    assert len(real.slurm_jobs("903")) == 1


def test_when_slurm_refuses_one_of_a_bulk_nothing_is_left_behind(real: Real) -> None:
    app = application(word("sleep"), word("300"))
    product = {"id": "limited", "category": "example-compute", "provider": "example"}
    jobs = [job_data(str(910 + number), app=app, product=product) for number in range(5)]
    status, body = real.create(*jobs)
    assert status == 429
    # Four go to Slurm at once, so that any of them may be the one too many.
    assert re.match(r"items\[[0-4]\] \(job 91[0-4]\)", body["why"])
    mine = ("squeue", "--noheader", "--account=proj-c", f"--user={real.cluster.service_user}")
    wait_until("the queue is empty", lambda: real.cluster.run(*mine) == "", seconds=PATIENCE)
    messages = json.loads(real.site.cli("outbox", "--all", "--json").stdout)
    assert not [message for message in messages if message["job_id"].startswith("91")]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"timeAllocation": {"hours": 169, "minutes": 0, "seconds": 0}}, "at most 7 days"),
        ({"replicas": 5}, "at most 4 nodes"),
        ({"product": {"id": "moon", "category": "example-compute", "provider": "example"}}, "moon"),
    ],
)
def test_what_would_wait_for_ever_is_refused_with_the_limit(real: Real, change: dict[str, Any], words: str) -> None:
    status, body = real.create(job_data("920", app=application(word("true")), **change))
    assert status == 400
    assert words in body["why"]
    assert real.slurm_jobs("920") == []


def test_a_terminated_job_ends_on_the_cluster_and_is_told(real: Real) -> None:
    job_id = real.core.submit(
        application=("sleeper", "1.0.0"),
        product="example-compute-1",
        minutes=5,
        parameters={"seconds": {"type": "integer", "value": 300}},
    )
    real.core.wait(job_id, "RUNNING", PATIENCE)
    real.core.terminate(job_id)
    real.core.wait(job_id, "SUCCESS", PATIENCE)
    assert real.core.job(job_id).updates[-1]["status"] == "The job was cancelled."
    real.core.terminate(job_id)


def test_ends_that_take_long_are_told_as_they_were_and_charged_as_slurm_counted(real: Real) -> None:
    """Time-out, node failure, requeue, signal and exit code, side by side: Slurm needs a minute for some."""
    gpu = {"id": "gpu", "category": "example-compute", "provider": "example"}
    short = {"hours": 0, "minutes": 1, "seconds": 0}
    sleep = application(word("sleep"), word("400"))
    apps = {
        "timeout": {"app": sleep, "timeAllocation": short},
        "node": {"app": sleep, "product": gpu},
        "requeue": {"app": application(word("sleep"), word("45"))},
        "code": {"app": application(word("sh"), word("-c"), word("exit 3"))},
        "signal": {"app": application(word("sh"), word("-c"), word("kill -9 $$"))},
    }
    ids = {name: _admit(real, **arguments) for name, arguments in apps.items()}
    for name in ("timeout", "node", "requeue"):
        real.core.wait(ids[name], "RUNNING", PATIENCE)
    real.cluster.run("scontrol", "requeue", str(real.shown(ids["requeue"])["slurm_id"]))
    # A job that Slurm may not queue again fails with its node.
    node_job = str(real.shown(ids["node"])["slurm_id"])
    real.cluster.run("scontrol", "update", f"JobId={node_job}", "Requeue=0")
    real.cluster.kill_daemon("slurmd-g1")
    try:
        real.core.wait(ids["requeue"], "IN_QUEUE", PATIENCE)
        # Slurm lets a requeued job wait two minutes; the administrator need not.
        real.cluster.run("scontrol", "update", f"JobId={real.shown(ids['requeue'])['slurm_id']}", "StartTime=now")
        real.core.wait(ids["code"], "SUCCESS", PATIENCE)
        real.core.wait(ids["signal"], "SUCCESS", PATIENCE)
        real.core.wait(ids["node"], "FAILURE", 120)
        real.core.wait(ids["timeout"], "EXPIRED", 120)
        real.core.wait(ids["requeue"], "SUCCESS", 180)
    finally:
        real.cluster.start_daemon("slurmd-g1")
    said = {name: real.core.job(id_).updates[-1]["status"] for name, id_ in ids.items()}
    assert "exit code 3" in said["code"]
    assert "g1" in said["node"]
    assert "used up its time" in said["timeout"]
    for name, id_ in ids.items():
        shown = real.shown(id_)
        seconds = sum(
            int(line)
            for line in real.cluster.run(
                "sacct", "-X", "-D", "-n", "-P", f"--jobs={shown['slurm_id']}", "--format=ElapsedRaw"
            ).splitlines()
        )
        assert shown["bill"]["used"] == seconds, name
        booked = sum(charge.units * charge.multiplier for charge in real.core.job(id_).charges)
        assert shown["bill"]["rest"] == seconds - booked * 60, name
        assert abs(shown["bill"]["rest"]) <= 60, f"{name}: the half of a unit of its wallet, before and after it"
        assert abs(shown["bill"]["wallet_rest"]) <= 30
    assert len(real.shown(ids["requeue"])["runs"]) == 2


def _admit(real: Real, **more: Any) -> str:
    """A job of an application that Core does not know beforehand."""
    app = more.pop("app")
    real.core.catalogue.add_application(app)
    product = more.pop("product", {"id": "example-compute-1"})["id"]
    return real.core.submit(
        application=(app["metadata"]["name"], "1.0"),
        product=product,
        minutes=None,
        time_allocation=more.pop("timeAllocation", None),
        parameters={},
        **more,
    )


def test_the_administrators_commands_say_what_is_there(real: Real) -> None:
    checked = real.site.cli("check", check=False)
    assert checked.returncode == 0, checked.stdout
    assert "Slurm 22.05" in checked.stdout or "Slurm 2" in checked.stdout
    job_id = real.core.submit(
        application=("sleeper", "1.0.0"),
        product="example-compute-1",
        minutes=5,
        name="look at me",
        parameters={"seconds": {"type": "integer", "value": 1}},
    )
    real.core.wait(job_id, "SUCCESS", PATIENCE)
    listed = real.site.cli("jobs", "--all").stdout
    assert f"ucloud-{job_id}-look-at-me" in listed
    shown = real.site.cli("show", job_id).stdout
    assert "RUNNING: The job is now running" in shown
    assert real.site.cli("show", "none", check=False).returncode == 1
