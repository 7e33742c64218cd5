"""Today's Core on the real cluster: wallets that lock, and applications that are templates."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests.conftest import site_opener
from tests.sandbox.cluster import Cluster
from tests.sandbox.core import CoreError
from tests.sandbox.installation import Installation
from tests.sandbox.processes import wait_until
from tests.support.factories import application, jinja, parameter, text
from tests.support.real import PATIENCE, Real

PRODUCTS: tuple[dict[str, Any], ...] = (
    {"id": "example-compute-1", "category": "example-compute", "partition": "cpu", "cpus": 1, "memory_gb": 0.25, "gpus": 0},
)
PLENTY = 10**9
HOSTILE = ["$(touch /tmp/owned)", "'; id; echo '", '"`id`"', "a  b\t*", "{{ 7 * 7 }}", "-n", "\\", "$HOME", "", "€\n\nx"]


@pytest.fixture(scope="module")
def real(cluster: Cluster, installation: Installation) -> Iterator[Real]:
    """A site without a timer: besides the tests only the listener starts passes of the worker."""
    with site_opener(cluster, installation) as open_site:
        site, core = open_site(workers=2, era="today", products=PRODUCTS, tables={"accounting": {"every": "1h"}})
        for owner in ("rich", "poor"):
            core.accounts.set_quota(PLENTY, owner)
        site.listen()
        core.wait_until(lambda: core.notifications.connected > 0, PATIENCE, "the listener")
        yield Real(site, core, cluster)
    cluster.run("scancel", f"--user={cluster.service_user}")


def start(real: Real, owner: str) -> str:
    return real.core.submit(
        application=("sleeper", "1.0.0"),
        product="example-compute-1",
        owner=owner,
        minutes=10,
        parameters={"seconds": {"type": "integer", "value": 600}},
    )


def wait(real: Real, jobs: Sequence[str], state: str) -> None:
    """Waits until Core has been told; does passes of the worker for that."""

    def told() -> bool:
        real.site.cli("worker", check=False)
        return all(real.core.job(job).state == state for job in jobs)

    wait_until(f"the jobs are {state}", told, seconds=PATIENCE)


def states(real: Real, jobs: Sequence[str]) -> list[str]:
    """What squeue says of those that it lists, by their own names."""
    rows = [line.split() for line in real.cluster.run("squeue", "--noheader", "--format=%T %j").splitlines()]
    return [state for state, name in rows if name in {f"ucloud-{job}" for job in jobs}]


def test_a_wallet_that_locks_ends_its_ten_jobs_within_seconds_and_the_bill_is_slurms(real: Real) -> None:
    jobs, other = [start(real, "poor") for _ in range(10)], start(real, "rich")
    wait_until("all run", lambda: states(real, [*jobs, other]) == ["RUNNING"] * 11, seconds=PATIENCE)
    wait(real, [*jobs, other], "RUNNING")
    real.core.accounts.set_quota(0, "poor")
    begun = time.monotonic()
    wait_until("none of them runs", lambda: "RUNNING" not in states(real, jobs), seconds=PATIENCE)
    assert time.monotonic() - begun < 5
    assert states(real, [other]) == ["RUNNING"]
    wait(real, jobs, "SUCCESS")
    seconds, minutes = 0, 0
    for job in jobs:
        assert real.core.job(job).updates[-1]["status"] == "Insufficient funds"
        used = real.shown(job)["bill"]["used"]
        sacct = real.cluster.run("sacct", "-X", "-n", "-P", "-o", "elapsedraw", f"--jobs={real.shown(job)['slurm_id']}")
        assert used == int(sacct)
        scope = f"example/example-compute/job/{job}"
        reported = max((each.usage for each in real.core.accounts.reports if each.scope == scope), default=0)
        assert abs(reported * 60 - used) <= 60
        seconds, minutes = seconds + used, minutes + reported
    assert abs(minutes * 60 - seconds) <= 30, "what is left of a minute is billed to the wallet"
    with pytest.raises(CoreError, match="no resources left in example-compute") as refusal:
        start(real, "poor")
    assert refusal.value.status == 402
    real.core.accounts.set_quota(PLENTY, "poor")
    wait_until("it is unlocked", lambda: "locked" not in _wallets(real, "poor"), seconds=10)
    real.core.terminate(start(real, "poor"), other)


def _wallets(real: Real, owner: str) -> str:
    """What stands in the database of a wallet, in a word."""
    code = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute(sys.argv[2], sys.argv[3:]).fetchall())"
    query = "select case when locked then 'locked' else 'open' end from wallets where owner = ?"
    process = real.site.spawn("-c", code, str(real.site.database), query, owner)
    process.wait(10)
    return real.site.log.read_text().rstrip().rpartition("\n")[2]


def test_a_template_runs_on_the_cluster_with_its_values_as_they_are(real: Real) -> None:
    names = [f"v{number}" for number in range(len(HOSTILE))]
    script = "\n".join(
        [f"printf '%s\\0' {{{{ {name} }}}} \"in {{{{ {name} }}}}\"" for name in names]
        + ["{% if v0 == 'x' %}touch never{% endif %}", "echo {{ ucloud.jobId }}"]
    )
    app = application(jinja(script), parameters=[parameter(name) for name in names])
    real.core.catalogue.add_application(app)
    job = real.core.submit(
        application=(app["metadata"]["name"], "1.0"),
        product="example-compute-1",
        owner="rich",
        minutes=5,
        parameters={name: text(value) for name, value in zip(names, HOSTILE, strict=True)},
    )
    wait(real, [job], "SUCCESS")
    *printed, last = real.output(job).split("\0")
    assert printed == [shown for value in HOSTILE for shown in (value, f"in {value}")]
    assert last == f"{job}\n"


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}", "too long"),
        ("{% include '/etc/passwd' %}", "include"),
        ("{{ ''.__class__.__mro__ }}", "__class__"),
    ],
)
def test_a_template_that_misbehaves_is_refused_in_a_sentence(real: Real, template: str, why: str) -> None:
    app = application(jinja(template))
    real.core.catalogue.add_application(app)
    assert why in refusal(real, app["metadata"]["name"])


def refusal(real: Real, name: str) -> str:
    """What the user reads: the answer of create or, where its time was up before the template's, the end of the job."""
    try:
        job = real.core.submit(application=(name, "1.0"), product="example-compute-1", owner="rich", parameters={})
    except CoreError as error:
        return str(error)
    wait(real, [job], "FAILURE")
    assert real.core.job(job).started_at is None
    return str(real.core.job(job).updates[-1]["status"])
