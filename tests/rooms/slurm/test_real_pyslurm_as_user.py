"""The contract of a submission, kept by real pyslurm in the program that acts as a user, through sudo and the runner.

Run only where pyslurm is demanded (``--backend=pyslurm``); then whatever keeps it from being used is a failure.
"""

import pwd
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import site_opener
from tests.rooms.slurm.conftest import Backend, Failed
from tests.rooms.slurm.test_scheduler_contract import (
    REFUSED,
    VARIATIONS,
    WITHIN,
    common,
    environment,
    field,
    script,
    shown,
    standstill,
    wanted,
)
from tests.sandbox import processes
from tests.sandbox.cluster import Cluster
from tests.sandbox.installation import Installation
from tests.sandbox.processes import Process, wait_until
from ucloud_slurm.bridge import errors

USER = "alice"
SUBMITTED = "pyslurm submit as user"
__all__ = ["standstill"]  # a fixture


@pytest.fixture(scope="module")
def backends(cluster: Cluster, installation: Installation) -> Iterator[tuple[Backend, Backend]]:
    """The service with pyslurm and with the commands; both have jobs submitted as alice."""
    with site_opener(cluster, installation) as open_site:
        site, _ = open_site(links={"Alice#1": USER})
        both = [Backend(cluster, installation, name, site.folder / "runner.sock", USER) for name in ("pyslurm", "commands")]
        both[0].ready()
        yield both[0], both[1]
        for backend in both:
            backend.close()
    cluster.run("scancel", f"--user={USER}")


@pytest.fixture
def ours(backends: tuple[Backend, Backend], cluster: Cluster) -> Backend:
    """That with pyslurm, which alice's program has loaded."""

    def submits() -> bool:
        before = backends[0]("counts").get(SUBMITTED, 0)
        backends[0]("submit", of(cluster), WITHIN)
        return bool(backends[0]("counts").get(SUBMITTED, 0) > before)

    wait_until("alice's program submits through pyslurm", submits, seconds=120)
    return backends[0]


@pytest.fixture
def theirs(backends: tuple[Backend, Backend]) -> Backend:
    """That with the commands."""
    return backends[1]


def of(cluster: Cluster, **more: Any) -> dict[str, Any]:
    """A job of alice's."""
    folder = pwd.getpwnam(USER).pw_dir
    usual = {"user": USER, "folder": folder, "output": f"{folder}/contract.out", "error": f"{folder}/contract.err"}
    return wanted(cluster, **usual | more)


def copies() -> list[Process]:
    """The copies of alice's programs in which pyslurm is. What is not dumpable shows its user in its status only."""
    found = []
    for process in processes.everyone():
        folder = Path(f"/proc/{process.pid}")
        with suppress(OSError):
            is_hers = f"Uid:\t{pwd.getpwnam(USER).pw_uid}\t" in (folder / "status").read_text()
            if is_hers and "/pyslurm/" in (folder / "maps").read_text():
                found.append(process)
    return found


@pytest.mark.usefixtures("standstill")
@pytest.mark.parametrize("what", VARIATIONS)
def test_a_job_is_the_one_that_sbatch_makes_as_its_user(cluster: Cluster, ours: Backend, theirs: Backend, what: str) -> None:
    job = of(cluster, **VARIATIONS[what])
    before = ours("counts").get(SUBMITTED, 0)
    first, second = ours("submit", job, WITHIN), theirs("submit", job, WITHIN)
    assert ours("counts").get(SUBMITTED, 0) - before == (0 if job["more"] or job.get("omit") else 1)
    assert field(shown(cluster, first), "UserId").startswith(f"{USER}(")
    assert common(cluster, first) == common(cluster, second)
    assert environment(cluster, first) == environment(cluster, second)
    assert script(cluster, first) == script(cluster, second)


@pytest.mark.parametrize("what", REFUSED)
def test_a_refusal_has_slurms_own_words(cluster: Cluster, ours: Backend, theirs: Backend, what: str) -> None:
    more, kind = REFUSED[what]
    said = []
    for one in (ours, theirs):
        with pytest.raises(Failed) as caught:
            one("submit", of(cluster, **more), WITHIN)
        assert caught.value.kind == "SubmissionRefusedError"
        said.append(caught.value.text)
    assert said[0] == said[1]
    assert type(errors.problem(said[0])) is kind


def test_slurm_does_not_hear_of_a_submission_that_is_abandoned(cluster: Cluster, ours: Backend) -> None:
    ours("abandon", of(cluster, name="abandoned"))
    job = ours("submit", of(cluster, name="sent"), WITHIN)
    queue = {record["id"]: record["name"] for record in ours("queue", [pwd.getpwnam(USER).pw_uid])}
    assert queue[job] == "sent"
    assert "abandoned" not in queue.values()


def test_no_process_of_the_user_reads_the_memory_in_which_pyslurm_is(ours: Backend) -> None:
    assert ours.name == "pyslurm"
    (copy,) = copies()
    assert Path(f"/proc/{copy.pid}/mem").stat().st_uid == 0, "it is not dumpable (prctl(2))"


def test_a_pyslurm_that_is_killed_leaves_the_next_job_to_sbatch(cluster: Cluster, ours: Backend) -> None:
    (copy,) = copies()  # another is started after minutes, so this test is the last one
    processes.end([copy], patience=0)
    before = ours("counts").get(SUBMITTED, 0)
    job = ours("submit", of(cluster), WITHIN)
    assert "SubmitLine=(null)" not in shown(cluster, job)
    assert ours("counts").get(SUBMITTED, 0) == before
