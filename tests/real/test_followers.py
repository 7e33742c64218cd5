"""Two hundred people who follow logs cost one process little, and hear at once."""

import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import site_opener
from tests.sandbox.cluster import Cluster
from tests.sandbox.installation import Installation
from tests.sandbox.processes import find, wait_until, with_descendants
from tests.support.factories import application, word
from tests.support.real import PATIENCE, Real

pytestmark = pytest.mark.timed
FOLLOWERS = 200
JOBS = 10
TALK = "until [ -e go ]; do sleep 0.05; done; for i in 1 2 3 4 5 6 7 8; do date +%s.%N; sleep 0.4; done"


@pytest.fixture(scope="module")
def real(cluster: Cluster, installation: Installation) -> Iterator[Real]:
    with site_opener(cluster, installation) as open_site:
        site, core = open_site(loop=1.0, workers=1)
        yield Real(site, core, cluster)
    cluster.run("scancel", f"--user={cluster.service_user}")


def worker_memory(real: Real) -> int:
    """KiB that the only worker process of gunicorn holds."""
    master = find(real.site.processes[0].pid)
    assert master is not None
    (worker,) = with_descendants([master]) - {master}
    lines = Path(f"/proc/{worker.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def test_two_hundred_followers_hear_within_300_ms_and_cost_one_process_less_than_150_mib(real: Real) -> None:
    app = application(word("bash"), word("-c"), word(TALK))
    real.core.catalogue.add_application(app)
    jobs = [
        real.core.submit(application=(app["metadata"]["name"], "1.0"), product="example-compute-1", parameters={})
        for _ in range(JOBS)
    ]
    late: list[float] = []
    lock = threading.Lock()

    def heard(_at: float, payload: dict[str, Any]) -> None:
        now = time.time()
        with lock:
            late.extend(now - float(line) for line in (payload["stdout"] or "").split())

    with ExitStack() as stack:
        followed = [
            stack.enter_context(real.core.follow(jobs[number % JOBS], f"user{number}", while_running=False, on_message=heard))
            for number in range(FOLLOWERS)
        ]
        for each in followed:
            each.wait_for(lambda each=each: each.session is not None, 20)  # type: ignore[misc]
        for job_id in jobs:
            real.core.wait(job_id, "RUNNING", PATIENCE)
        for job_id in jobs:
            (real.site.folder / "jobs" / job_id / "go").touch()
        # Others are answered meanwhile.
        begun = time.perf_counter()
        assert real.core.call("GET", "/ucloud/example/jobs/retrieveProducts")[0] == 200
        assert time.perf_counter() - begun < 1
        for each in followed:
            response = each.wait_end(PATIENCE)
            assert response is not None
            assert response.status == 200
        memory = worker_memory(real)
    assert len(late) == FOLLOWERS * 8
    assert statistics.quantiles(late, n=20)[-1] < 0.3, sorted(late)[-20:]
    assert memory < 150 * 1024


def test_followers_of_a_silent_job_cost_next_to_nothing(real: Real) -> None:
    app = application(word("sleep"), word("600"))
    real.core.catalogue.add_application(app)
    job = real.core.submit(application=(app["metadata"]["name"], "1.0"), product="example-compute-1", parameters={})
    real.core.wait(job, "RUNNING", PATIENCE)
    master = find(real.site.processes[0].pid)
    assert master is not None
    (worker,) = with_descendants([master]) - {master}
    with ExitStack() as stack:
        for number in range(20):
            followed = stack.enter_context(real.core.follow(job, f"idle{number}", while_running=False))
            followed.wait_for(lambda followed=followed: followed.session is not None, 20)  # type: ignore[misc]
        before, begun = _cpu(worker.pid), time.monotonic()
        wait_until("four seconds", lambda: time.monotonic() - begun > 4, seconds=6)
        share = (_cpu(worker.pid) - before) / (time.monotonic() - begun)
    assert share < 0.1
    real.core.terminate(job)


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
