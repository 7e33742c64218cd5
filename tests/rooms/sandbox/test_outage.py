"""The parts of the outage rig: what it breaks is broken, and what it compares is compared."""

import random
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from tests.sandbox.cluster import Cluster, ClusterSettings
from tests.sandbox.core import SimulatedCore
from tests.sandbox.installation import Installation
from tests.sandbox.outage.broken import BUILDS, spoil
from tests.sandbox.outage.deck import Deck
from tests.sandbox.outage.memory import Forgotten, forgotten
from tests.sandbox.outage.tools import distort
from tests.sandbox.outage.truth import Run, without_second_lives
from tests.sandbox.outage.wire import TO_UCLOUD, Wire
from tests.sandbox.outage.wrappers import Wrappers
from ucloud_slurm.provider.identity import CLOCK_SKEW_SECONDS

ROWS = "1\x1fRUNNING\x1f1795000000\n2\x1fCOMPLETED\x1f1795000001\n"
QUEUE = ("--format=JobID,State,SubmitTime", "--delimiter=\x1f")


@pytest.mark.parametrize("build", BUILDS)
def test_every_broken_build_can_be_made_of_the_product_as_it_is(build: str, tmp_path: Path) -> None:
    installation = Installation(tmp_path / "product")
    installation.make()
    spoil(installation, BUILDS[build])
    for change in BUILDS[build].changes:
        module = installation.folder / "ucloud_slurm" / change.module
        assert change.after in module.read_text()
        compile(module.read_text(), str(module), "exec")


def test_a_deck_gives_the_first_cards_first_and_every_kind_before_one_again() -> None:
    deck = Deck(random.Random(1), {"a": 2, "b": 1}, first=["b", "c"])
    assert [deck.draw() for _ in range(2)] == ["b", "c"]
    assert sorted(deck.draw() for _ in range(3)) == ["a", "a", "b"]
    assert sorted(deck.draw() for _ in range(3)) == ["a", "a", "b"]


def spoilt(kind: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, distort.__file__, kind, "/usr/bin/printf", "%s", ROWS, *arguments]
    return subprocess.run(program, capture_output=True, text=True, check=False, timeout=30)


@pytest.mark.parametrize(
    ("kind", "status", "output"),
    [
        ("unreachable", 1, ""),
        ("nothing", 0, ""),
        ("half", 0, ROWS[: len(ROWS) // 2]),
        ("unknown-state", 0, ROWS.replace("RUNNING", "DREAMING").replace("COMPLETED", "DREAMING")),
        ("noise", 0, ROWS),
        ("fails-after", 1, ""),
        ("dies-after", -9, ""),
    ],
)
def test_an_answer_is_spoilt_as_its_kind_says(kind: str, status: int, output: str) -> None:
    done = spoilt(kind)
    assert (done.returncode, done.stdout) == (status, output)
    assert bool(done.stderr) == (kind in ("unreachable", "nothing", "noise", "fails-after"))


def test_a_foreign_job_has_the_number_and_another_time_of_submission() -> None:
    foreign = distort.earlier(ROWS.splitlines()[0], list(QUEUE))
    assert foreign == "1\x1fRUNNING\x1f1794913600"
    submitted = int(foreign.rpartition("\x1f")[2])
    assert submitted < 1_795_000_000 - CLOCK_SKEW_SECONDS, "whatever is known of the job, it is another"


def test_the_wire_loses_an_answer_repeats_a_request_and_refuses_one_job() -> None:
    core = SimulatedCore()
    core.start()
    wire = Wire(core.url, TO_UCLOUD, random.Random(1))
    try:
        for fault in ("twice", "answer lost"):
            before = len(core.exchanges)
            wire.arm(fault)
            try:
                status = requests.get(f"{wire.url}/api/products/browse", timeout=10).status_code
            except requests.ConnectionError:
                status = 0
            assert (status, len(core.exchanges) - before) == ((200, 2) if fault == "twice" else (0, 1))
        wire.refuse("7")
        update = f"{wire.url}/api/jobs/control/update"
        assert requests.post(update, json={"items": [{"id": "7"}]}, timeout=10).status_code == 400
        assert requests.post(update, json={"items": [{"id": "77"}]}, timeout=10).status_code == 401
        assert wire.met == {"twice": 1, "answer lost": 1, "item refused": 1}
    finally:
        wire.close()
        core.stop()


def test_a_call_that_ucloud_takes_once_is_not_repeated_by_the_wire() -> None:
    core = SimulatedCore()
    core.start()
    wire = Wire(core.url, ("twice",), random.Random(1))
    wire.part = 1.0
    try:
        with pytest.raises(requests.ConnectionError):
            requests.post(f"{wire.url}/api/providers/integration/control/approveConnection", json={}, timeout=10)
        assert (wire.met, len(core.exchanges)) == ({"answer lost": 1}, 1)
    finally:
        wire.close()
        core.stop()


def test_of_every_so_many_submissions_that_slurm_has_done_one_loses_its_answer(tmp_path: Path) -> None:
    sbatch = tmp_path / "sbatch"
    sbatch.write_text('#!/bin/sh\n[ "$1" = refused ] && exit 1\necho 4711\n')
    sbatch.chmod(0o755)
    cluster = Cluster(ClusterSettings(folder=tmp_path / "cluster"))
    cluster.commands = tmp_path
    wrappers = Wrappers(cluster, tmp_path / "rig")

    def submit(*arguments: str) -> str:
        command = [str(wrappers.folder / "sbatch"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30).stdout

    wrappers.spoil_submissions(3)
    assert [submit(), submit("refused"), submit(), submit()] == ["4711\n", "", "", "4711\n"]
    assert wrappers.met() == {"sbatch fails-after": 1}
    assert [submit() for _ in range(3)] == ["4711\n", "", "4711\n"]
    wrappers.calm()
    assert [submit() for _ in range(3)] == ["4711\n"] * 3
    assert wrappers.met() == {"sbatch fails-after": 1, "sbatch dies-after": 1}


def run(state: str, submitted: str) -> Run:
    return Run("7", 9, submitted, state, 5, 1, ended=True)


def test_an_end_that_slurm_has_forgotten_counts_as_it_was() -> None:
    first, again = run("COMPLETED", "2026-01-01T00:00:00"), run("CANCELLED", "2026-01-01T00:00:09")
    cancelled = run("FAILED", "2026-01-01T00:00:00")
    log = "_slurm_rpc_kill_job: REQUEST_KILL_JOB JobId=9 uid 0"
    assert without_second_lives({"7": ["SUCCESS"]}, {"7": [first, run("FAILED", "2026-01-01T00:00:09")]}, "") == (
        {"7": [first]},
        {"7"},
    )
    assert without_second_lives({"7": ["SUCCESS"]}, {"7": [cancelled]}, log)[1] == {"7"}
    assert without_second_lives({"7": ["SUCCESS"]}, {"7": [cancelled]}, "") == ({"7": [cancelled]}, set())
    assert without_second_lives({"7": ["SUCCESS"]}, {"7": [again]}, log) == ({"7": [again]}, set())


def test_a_time_limit_and_an_exit_that_slurm_has_forgotten_count_as_they_were() -> None:
    again = [run("NODE_FAIL", "2026-01-01T00:00:00"), run("FAILED", "2026-01-01T00:00:09")]
    for reported, line in (
        ("EXPIRED", "Time limit exhausted for JobId=9\n"),
        ("SUCCESS", "_job_complete: JobId=9 WEXITSTATUS 0\n"),
    ):
        found, changed = without_second_lives({"7": [reported]}, {"7": again}, line, {"7"})
        assert (found["7"][-1].state, changed) == ({"EXPIRED": "TIMEOUT", "SUCCESS": "COMPLETED"}[reported], {"7"})
    assert without_second_lives({"7": ["SUCCESS"]}, {"7": again}, "_job_complete: JobId=9 WEXITSTATUS 0\n")[1] == set()


KILLED = """_slurm_rpc_submit_batch_job: JobId=9 InitPrio=1 usec=282
_slurm_rpc_submit_batch_job: JobId=10 InitPrio=1 usec=282
_job_complete: JobId=9 WEXITSTATUS 3
Recovered JobId=9 Assoc=10
Recovered information about 1 jobs
_slurm_rpc_submit_batch_job: JobId=10 InitPrio=1 usec=282
"""


def test_what_a_killed_slurmctld_has_forgotten_is_in_its_log() -> None:
    assert forgotten(KILLED) == Forgotten(jobs=frozenset({10}), ends=frozenset({9}))
    failed, again = run("NODE_FAIL", "2026-01-01T00:00:00"), run("CANCELLED", "2026-01-01T00:00:09")
    assert without_second_lives({"7": ["FAILURE"]}, {"7": [failed, again]}, KILLED) == ({"7": [failed]}, {"7"})
    assert without_second_lives({"7": ["FAILURE"]}, {"7": [failed, again]}, "") == ({"7": [failed, again]}, set())
