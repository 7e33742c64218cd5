"""Whatever is killed while a job is submitted as its researcher: one Slurm job, and the row says which."""

import pwd
import signal
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import OpenSite
from tests.real.test_faults import PATIENCE, QUICK, SLEEP, fake_commands, slurm_jobs
from tests.sandbox import processes
from tests.sandbox.cluster import Cluster
from tests.sandbox.core import CoreError, SimulatedCore
from tests.sandbox.errors import SandboxError
from tests.sandbox.processes import Process, find, wait_until
from tests.sandbox.site import Site
from tests.support.factories import job_data

pytestmark = pytest.mark.beside  # with the others whose jobs run as alice: her program is killed

USER, OWNER = "alice", "Alice#1"
WAIT = "if mkdir {place}/there-$JOB 2>/dev/null; then while [ ! -e {place}/go-$JOB ]; do sleep 0.02; done; fi"
MOMENTS = {
    # Between start and go: it has been loaded, and has no script yet.
    "before": '{wait}; exec "$REAL" "$@"',
    # Slurm has the job, and nobody has been given its number.
    "after": 'SUBMITTED=$("$REAL" "$@") || exit 1; {wait}; echo "$SUBMITTED"',
}
NAME = 'for WORD in "$@"; do case $WORD in --job-name=*) JOB=${WORD#--job-name=};; esac; done'


def program(site: Site) -> Process:
    """The program of a site that acts as the user. What is not dumpable shows its user in its status only."""
    uid, cluster = pwd.getpwnam(USER).pw_uid, bytes(site.folder.parents[1])
    for process in processes.everyone():
        folder = Path(f"/proc/{process.pid}")
        with suppress(OSError):
            command = (folder / "cmdline").read_bytes()
            if f"Uid:\t{uid}\t" in (folder / "status").read_text() and b"\0-B\0" in command and cluster in command:
                return process
    raise AssertionError("there is no program")


def kill(site: Site, what: str) -> None:
    """Kills a part without a warning, and starts it again where systemd would."""
    if what == "program":
        program(site).signal(signal.SIGKILL)
        return
    which = b"runner" if what == "runner" else b"gunicorn"
    part = next(each for each in site.processes if which in Path(f"/proc/{each.pid}/cmdline").read_bytes())
    root = find(part.pid)
    assert root is not None
    if what == "service":  # gunicorn itself starts other workers
        for worker in processes.with_descendants([root]) - {root}:
            with suppress(OSError):
                if b"gunicorn" in Path(f"/proc/{worker.pid}/cmdline").read_bytes():
                    worker.signal(signal.SIGKILL)
        return
    part.kill()
    site.end(part)
    (site.folder / "runner.sock").unlink(missing_ok=True)
    site.run_runner()


def create(core: SimulatedCore, job_id: str) -> None:
    data = job_data(job_id, app=SLEEP) | {"owner": {"createdBy": OWNER, "project": None}}
    with suppress(CoreError):  # a killed service answers nothing
        core.call("POST", "/ucloud/example/jobs", {"items": [data]})


def is_known(site: Site, job_id: str) -> bool:
    return site.rows("select 1 from jobs where id = ?", job_id) != []


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_part_that_is_killed_while_a_researchers_job_is_submitted_leaves_one_job(
    cluster: Cluster, open_site: OpenSite, moment: str
) -> None:
    folder, place = cluster.folder / "fakes" / f"as-user-{moment}", cluster.folder / "fakes" / f"as-user-{moment}-marks"
    place.mkdir(parents=True)
    place.chmod(0o777)
    fake_commands(cluster, folder, f"{NAME}\n{MOMENTS[moment].format(wait=WAIT.format(place=place))}")
    site, core = open_site(
        tables=QUICK, commands=folder, links={OWNER: USER}, loop=0.5
    )  # the worker submits where the service waits for a part
    first = {"before": 1400, "after": 1410}[moment]
    jobs = {str(first + number): what for number, what in enumerate(("service", "runner", "program"))}
    for job_id, what in jobs.items():
        creating = threading.Thread(target=create, args=(core, job_id))
        creating.start()
        wait_until("sbatch waits", (place / f"there-ucloud-{job_id}").exists, seconds=PATIENCE)
        wait_until("it is accepted", lambda id_=job_id: is_known(site, id_), seconds=PATIENCE)  # type: ignore[misc]
        kill(site, what)
        (place / f"go-ucloud-{job_id}").touch()
        creating.join(PATIENCE)

    def rows() -> dict[str, dict[str, object]]:
        return {job_id: site.rows("select * from jobs where id = ?", job_id)[0] for job_id in jobs}

    try:
        wait_until("all have ended", lambda: {row["phase"] for row in rows().values()} == {"ended"}, seconds=PATIENCE)
    except SandboxError as error:
        keys = ("phase", "slurm_id", "attempts", "found_only", "refused_why", "claimed_until", "slurm_state", "stop")
        raise AssertionError({jobs[id_]: {key: row[key] for key in keys} for id_, row in rows().items()}) from error
    for job_id, row in rows().items():
        assert slurm_jobs(cluster, job_id) == {str(row["slurm_id"])}, jobs[job_id]
