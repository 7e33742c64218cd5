"""What the bench says is what it measured: ratios, bounds, tables, pages and plots."""

import json
import os
import sqlite3
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Open
from tests.sandbox.bench import client, file, older, pages, plots, table, timer
from tests.sandbox.bench.machine import processor
from tests.sandbox.bench.rows import MOST_KEPT, Machine, Report, Row, Series, row
from tests.sandbox.bench.run import GROUPS, USUAL, chosen, file_name
from tests.sandbox.bench.sdiag import calls
from tests.sandbox.bench.wanted import COMMANDS, PYSLURM, wanted
from tests.sandbox.core import SimulatedCore
from tests.sandbox.core.user_requests import UserRequest
from tests.sandbox.errors import SandboxError
from tests.support.factories import application, word

MACHINE = Machine("A processor", 2, 24, "Debian", "22.05.8", None)
CREATE = row("create", "create over HTTP", "ms", [12, 10, 14], [10, 9, 11], "sbatch")
SDIAG = """\
*******************************************************
Jobs submitted: 2090

Remote Procedure Call statistics by message type
	REQUEST_SUBMIT_BATCH_JOB                ( 4003) count:2090   ave_time:2893   total_time:6047256

Remote Procedure Call statistics by user
	root            (       0) count:2128   ave_time:2340   total_time:4980188
	ucloud-slurm    (    1001) count:2092   ave_time:2891   total_time:6048084

Pending RPC statistics
	No pending RPCs
"""


def report(*rows: Row, backend: str = "commands", quick: bool = False, **failures: str) -> Report:
    return Report("2026-03-01", MACHINE, backend, quick, rows, failures)


# ---- numbers


def test_an_earlier_commit_and_this_one_are_compared_by_what_both_have_measured_in_all_rounds() -> None:
    """Each beside the bare command of its own runs: a machine that became slower changes no ratio."""
    extra = row("extra", "only now", "ms", [1])
    then = older.together([report(row("create", "create", "ms", [20], [10], "sbatch")) for _ in range(2)])
    now = older.together([report(CREATE, extra), report(row("create", "create over HTTP", "ms", [22], [20], "sbatch"), extra)])
    (only,) = older.compared(then, now)
    assert [*only.then.ours.values] == [20, 20]
    assert [*only.now.ours.values] == [10, 12, 14, 22]
    assert only.now.bare == Series((9, 10, 11, 20))
    assert [*only.cells()] == ["create over HTTP, beside sbatch", "20 ms", "13 ms", "2.00", "1.24"]
    missing = older.together([report(CREATE, extra), report(CREATE)])
    assert [each.key for each in missing.rows] == ["create"]


def test_a_commit_that_git_does_not_know_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="git worktree failed"):
        older.run("no-such-commit", tmp_path, 1, print)


def test_a_ratio_is_that_of_the_middle_values() -> None:
    assert CREATE.ratio == 1.2
    assert row("x", "x", "ms", [1]).ratio is None
    assert row("x", "x", "ms", [1], [0], "nothing").ratio is None


def test_of_very_many_values_the_smallest_the_largest_and_the_middle_are_kept() -> None:
    series = Series.of(range(10_001, 0, -1))
    assert len(series.values) == MOST_KEPT
    assert (series.values[0], series.largest) == (1, 10_001)
    assert series.median == pytest.approx(5001, abs=30)
    assert series.quantile(0.95) == pytest.approx(9501, abs=30)


def test_a_quantile_lies_between_its_neighbours() -> None:
    series = Series.of([3, 1, 2])
    assert [series.quantile(part) for part in (0, 0.25, 0.5, 1)] == [1, 1.5, 2, 3]


def test_a_group_that_measured_nothing_is_an_error_and_no_row() -> None:
    with pytest.raises(ValueError, match="without a value"):
        row("x", "x", "ms", [])


@pytest.mark.parametrize(
    ("key", "ours", "bare", "backend", "met"),
    [
        ("create", 1.5, 1, "commands", True),
        ("create", 1.51, 1, "commands", False),
        ("create", 0.8, 1, "pyslurm", False),
        ("create-8", 0.81, 1, "commands", True),
        ("create-8", 0.81, 1, "pyslurm", False),
        ("pass-written", 0, None, "commands", True),
        ("pass-written", 512, None, "commands", False),
        ("create", 1, None, "commands", False),
    ],
)
def test_a_number_that_is_not_as_wanted_is_called_so(
    key: str, ours: float, bare: float | None, backend: str, met: bool
) -> None:
    measured = row(key, "it", "x", [ours], [] if bare is None else [bare], "bare")
    bound = wanted(measured, backend)
    assert bound is not None
    assert bound.met(measured) is met
    assert ("MISSED" in table.line(measured, backend)) is not met
    assert ("**missed**" in next(iter(pages.cells(report(measured, backend=backend))))[-1]) is not met


def test_pyslurm_is_held_to_the_same_rows() -> None:
    assert set(PYSLURM) == set(COMMANDS)


def test_calls_of_the_controller_are_those_of_the_account_alone() -> None:
    assert calls(SDIAG, "ucloud-slurm") == 2092
    assert calls(SDIAG, "slurm") == 0
    assert calls(SDIAG, "alice") == 0
    with pytest.raises(ValueError, match="no statistics"):
        calls("slurm_load: error", "root")


def test_the_processor_is_named() -> None:
    assert processor("processor\t: 0\nmodel name\t: AMD EPYC 7B13\nmodel name\t: other\n") == "AMD EPYC 7B13"
    assert processor("") == "unknown processor"


# ---- groups


def test_all_groups_are_measured_unless_some_are_named() -> None:
    assert set(chosen(None, "commands")) | {"listing", "files"} == set(GROUPS)
    assert chosen(" passes, creates", "commands") == ["passes", "creates"]
    assert set(USUAL["pyslurm"]) <= set(GROUPS)
    with pytest.raises(SandboxError, match="no group nonsense"):
        chosen("nonsense", "commands")


def test_a_run_of_files_does_not_replace_the_numbers_of_the_rest() -> None:
    assert file_name(chosen("files", "commands"), "commands") == "files.json"
    assert file_name(chosen(None, "commands"), "commands") == "commands.json"


# ---- the table and the pages


def test_the_table_shows_both_sides_the_ratio_and_what_failed() -> None:
    lines = list(table.lines(report(CREATE, passes="SandboxError: it did not come")))
    (shown,) = (line for line in lines if line.startswith("create over HTTP / sbatch"))
    assert shown.split()[5:] == ["ms", "12", "13.8", "14.0", "10", "10.9", "11.0", "1.20", "ratio", "<=", "1.5:", "kept"]
    assert lines[-1] == "FAILED: passes: SandboxError: it did not come"


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    whole = report(CREATE, row("pass-written", "written", "bytes", [0]), live="a pity")
    whole.write(tmp_path / "new" / "commands.json")
    assert Report.read(tmp_path / "new" / "commands.json") == whole


def test_the_readme_quotes_what_was_measured_and_no_trial() -> None:
    (said, more) = pages.quotes([report(CREATE)])
    assert "A processor" in said
    assert "12 ms, 1.20 times a bare sbatch (10 ms)" in said
    assert more == pages.MORE
    assert pages.quotes([report(CREATE, quick=True)]) == []
    assert "pyslurm" in pages.quotes([report(CREATE, backend="pyslurm")])[0]
    passed = row("pass-10000", "pass", "ms", [300], [600], "squeue"), row("pass-calls-10000", "calls", "calls", [3])
    assert (
        "0.50 times one squeue and one sacct (600 ms), and costs the controller 3 RPCs, those of one squeue"
        in pages.quotes([report(*passed)])[0]
    )


# ---- plots


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    rows = [CREATE, row("create-8", "8 clients", "/s", [90, 100], [110, 120], "8 loops")]
    rows.append(row("bulk-100", "bulk of 100", "ms", [400], [900], "100 sbatch"))
    for size in (10, 1000):
        rows += [row(f"{kind}-{size}", "pass", "ms", [size], [2 * size], "squeue") for kind in ("pass", "loop")]
        rows.append(row(f"pass-memory-{size}", "memory", "MiB", [40]))
    report(*rows).write(tmp_path / "commands.json")
    return tmp_path


def test_the_same_numbers_are_drawn_as_the_same_files(measured: Path) -> None:
    drawn = plots.draw(measured)
    assert {path.stem for path in drawn} == set(plots.PLOTS) == set(plots.ABOUT)
    before = {path: path.read_text() for path in drawn}
    assert {path: path.read_text() for path in plots.draw(measured)} == before
    assert all(plots.digest(measured) in text for text in before.values())
    assert "waiting" not in before[measured / "create.svg"]
    assert "unchanged jobs that wait" in before[measured / "pass.svg"]


def test_a_plot_without_numbers_is_not_drawn(tmp_path: Path) -> None:
    report(row("outbox", "outbox", "/s", [100])).write(tmp_path / "commands.json")
    assert plots.draw(tmp_path) == []


def test_plots_without_matplotlib_say_what_to_install(measured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SandboxError, match=r"--editable '\.\[bench\]'"):
        plots.draw(measured)


# ---- the small programs


def test_a_command_is_timed_with_its_status_and_its_input(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("exit $WITH\n")
    answer = timer.measured(["/bin/sh"], {"WITH": "3"}, str(script), 2)
    assert len(answer["took"]) == 2
    assert answer["worst"] == 3
    assert answer["peak"] > 0
    assert answer["ended"] - answer["begun"] >= sum(answer["took"]) / 1000


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200 if body != b"bad" else 400)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def echo() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_every_request_of_every_client_is_sent_once_and_a_refusal_is_told(echo: int) -> None:
    bodies = ["x " * 100_000, "bad", *(str(number) for number in range(9))]
    answer = client.measured("127.0.0.1", echo, "/", {"X": "y"}, bodies, 4)
    assert len(answer["took"]) == len(bodies)
    assert answer["wrong"] == ["400: bad"]


# ---- jobs that the bench sends itself


@pytest.mark.every_era
def test_core_has_the_jobs_that_the_bench_creates_in_its_place(core: SimulatedCore) -> None:
    app = application(word("sleep"), word("1"))
    core.catalogue.add_application(app)
    name = app["metadata"]["name"], app["metadata"]["version"]
    jobs = core.have([UserRequest(name, "example-compute-1", owner=each) for each in "ab"])
    assert [job["owner"]["createdBy"] for job in jobs] == ["a", "b"]
    assert all(core.job(job["id"]).confirmed for job in jobs)
    assert core.exchanges == []


# ---- files that are filled


def test_the_rows_that_are_put_into_a_file_are_those_that_the_product_reads(open_provider: Open) -> None:
    provider = open_provider()
    path = provider.store.path
    file.messages(path, ["1", "2"], 3)
    assert len(provider.outbox.heads(provider.now() + 10**9, 0, confirmed=True)) == 2
    assert provider.outbox.waiting() == 6
    provider.close()
    file.finished(path, 25, provider.now())
    provider = open_provider()
    assert provider.jobs.count() == {"ended": 27}
    assert provider.outbox.waiting() == 6
    assert provider.jobs.open() == []
    assert provider.jobs.newest(30)[-1].state is not None
    with sqlite3.connect(path) as db:
        assert db.execute("pragma foreign_key_check").fetchall() == []
    db.close()
    assert json.loads(provider.jobs.newest(1)[0].body)
    assert os.access(path, os.W_OK)
