"""libslurm may abort or hang: no job is submitted twice, no call takes too long, and the commands are used instead."""

import logging
import os
import pwd
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Clock
from tests.rooms.slurm.stand_ins import ATTRIBUTES, FAKE, Bench
from tests.sandbox.processes import find, wait_until
from ucloud_slurm.slurm.errors import ActionRefusedError, OutcomeUnknownError, SubmissionRefusedError
from ucloud_slurm.slurm.pyslurm import child, process
from ucloud_slurm.slurm.pyslurm.backend import PROCESSES
from ucloud_slurm.slurm.records import SlurmJobId

JOB = SlurmJobId(7)
Make = Callable[..., Bench]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Iterator[Make]:
    """Makes the one bench of a test, by the movable clock."""
    monkeypatch.syspath_prepend(FAKE)
    made: list[Bench] = []

    def make_(**orders: Any) -> Bench:
        bench = Bench(tmp_path, now=clock)
        made.append(bench)
        bench.order(**orders)
        return bench

    yield make_
    for bench in made:
        bench.slurm.close()


@pytest.fixture
def bench(make: Make) -> Bench:
    """A bench whose process is there."""
    bench = make()
    assert bench.slurm.ready(20), bench.slurm.reason
    return bench


def alive(pid: int) -> bool:
    found = find(pid)
    return found is not None and found.alive()


def gone(pid: int) -> None:
    wait_until(f"process {pid} is gone", lambda: not alive(pid), seconds=10)


def test_pyslurm_submits_when_it_is_there(bench: Bench) -> None:
    assert bench.submit() == 1
    assert (bench.slurm.counts, bench.asked()) == ({"pyslurm submit": 1}, [])
    (landed,) = bench.landed()
    assert landed["name"] == "ucloud-1"
    assert landed["user_id"] == os.getuid()
    account = pwd.getpwuid(os.getuid())
    given = {name: landed["environment"][name] for name in ("HOME", "USER", "LOGNAME", "SHELL", "PATH")}
    assert list(given.values())[:4] == [account.pw_dir, account.pw_name, account.pw_name, account.pw_shell]
    assert given["PATH"].endswith("/usr/local/bin:/usr/bin:/bin")
    assert {"TZ", "SLURM_GET_USER_ENV"}.isdisjoint(landed["environment"])


def test_a_submission_waits_for_no_start(make: Make) -> None:
    bench = make(**{"import": "hang"})
    bench.slurm.begin()
    assert bench.submit() == 900
    assert bench.slurm.counts == {"sbatch": 1}
    assert bench.slurm.reason == "it is being started"


def test_a_few_changes_start_no_process(make: Make) -> None:
    bench = make()
    bench.submit()
    bench.submit()
    assert bench.slurm.reason == "it has not been started"
    bench.submit()
    assert bench.slurm.ready(20)
    assert bench.submit() == 1


def test_jobs_of_others_are_not_pyslurms(bench: Bench) -> None:
    assert bench.submit(user="somebody-else") == 900
    assert bench.landed() == []


@pytest.mark.parametrize("what", ["hang", "die", "exit", "wrong"])
def test_a_submission_without_an_answer_is_never_made_again(bench: Bench, what: str) -> None:
    pid = bench.process()
    bench.order(submit=what)
    with pytest.raises(OutcomeUnknownError):
        bench.submit(within=1.0 if what == "hang" else 10.0)
    assert (len(bench.landed()), bench.asked()) == (1, [])
    gone(pid)


def test_what_would_wait_for_one_process_is_done_by_another(bench: Bench) -> None:
    first = bench.process()
    bench.order(submit="hang")
    lost: list[type[Exception]] = []

    def hangs() -> None:
        try:
            bench.submit(within=8.0)
        except OutcomeUnknownError as error:
            lost.append(type(error))

    waiting = threading.Thread(target=hangs)
    waiting.start()
    wait_until("it hangs", lambda: bench.landed() != [], seconds=10)
    bench.order()
    assert bench.submit(within=30.0) > 0
    assert (len(bench.landed()), bench.asked()) == (2, [])
    assert alive(first), "it was not given up for that"
    waiting.join()
    assert lost == [OutcomeUnknownError]
    assert [bench.submit(), len(bench.landed())] == [3, 3], "the other one is still there"
    bench.slurm.close()
    gone(first)


@pytest.mark.parametrize("answer", [0, -1, "12", None, 1.5, True, [3]])
def test_an_answer_that_is_no_id_leaves_open_what_was_done(bench: Bench, answer: object) -> None:
    bench.order(id=answer)
    with pytest.raises(OutcomeUnknownError):
        bench.submit()
    assert (len(bench.landed()), bench.asked()) == (1, [])


@pytest.mark.parametrize(
    "error",
    [
        [11, "Resource temporarily unavailable"],
        [1007, "Protocol"],
        [2007, "Unable to create job record, try again"],
        [2034, "Slurm backup controller in standby mode"],
        [6000, "Invalid authentication credential"],
    ],
)
def test_silence_of_the_controller_is_no_refusal(bench: Bench, error: list[object]) -> None:
    bench.order(submit=error)
    with pytest.raises(OutcomeUnknownError, match=str(error[1])):
        bench.submit()
    assert bench.asked() == []


def test_a_refusal_is_explained_by_sbatch(bench: Bench) -> None:
    (bench.commands / "sbatch").write_text(
        "#!/bin/sh\necho 'sbatch: error: invalid partition specified: nope' >&2\n"
        "echo 'sbatch: error: Batch job submission failed: Invalid partition name specified' >&2\nexit 1\n"
    )
    bench.order(submit=[2000, "Invalid partition name specified"])
    with pytest.raises(SubmissionRefusedError, match=r"invalid partition specified: nope; Invalid partition name specified"):
        bench.submit()
    assert bench.landed() == []


def test_what_libslurm_prints_does_not_leave_its_process(make: Make, capfd: pytest.CaptureFixture[str]) -> None:
    # Begun here, where what it inherits is looked at.
    bench = make()
    assert bench.slurm.ready(20)
    bench.order(submit="noise", job="noise")
    assert [bench.submit(), bench.submit()] == [1, 2]
    found = bench.slurm.job(JOB, 10)
    assert found is not None
    assert found.name == "ucloud-1"
    assert capfd.readouterr() == ("", "")


def test_the_pause_before_a_start_grows(bench: Bench, clock: Clock) -> None:
    bench.order(submit="die")
    for pause in (1, 2, 4, 8, 16, 32, 60, 60):
        with pytest.raises(OutcomeUnknownError):
            bench.submit()
        clock.advance(pause - 0.1)
        assert not bench.slurm.ready(20)
        assert bench.submit() == 900
        clock.advance(0.2)
        assert bench.slurm.ready(20)
    bench.order()
    bench.submit()
    os.kill(bench.process(), signal.SIGKILL)
    wait_until("the end is seen", lambda: not bench.slurm.ready(0), seconds=10)
    clock.advance(1.1)
    assert bench.slurm.ready(20)


def test_an_idle_process_that_ended_costs_nothing(bench: Bench) -> None:
    pid = bench.process()
    os.kill(pid, signal.SIGKILL)
    gone(pid)
    assert bench.submit() == 900
    assert bench.landed() == []


@pytest.mark.parametrize("what", ["hang", "die", [11, "Resource temporarily unavailable"], "wrong"])
def test_a_look_without_an_answer_is_squeues(bench: Bench, what: object) -> None:
    bench.order(job=what)
    assert bench.slurm.job(JOB, 4.0) is None
    assert [line.split()[0] for line in bench.asked()] == ["squeue"]


def test_a_job_that_slurm_does_not_know_is_none(bench: Bench) -> None:
    bench.order(job=[2017, "Invalid job id specified"])
    assert bench.slurm.job(JOB, 10) is None
    assert bench.asked() == []


@pytest.mark.parametrize(("name", "value"), [("name", None), ("cpus", "8"), ("id", 8), ("time_limit", "UNLIMITED")])
def test_a_job_that_is_not_as_documented_is_squeues(bench: Bench, name: str, value: object) -> None:
    bench.order(attributes=ATTRIBUTES | {name: value})
    assert bench.slurm.job(JOB, 10) is None
    assert [line.split()[0] for line in bench.asked()] == ["squeue"]


def test_a_job_is_cancelled_by_its_number(bench: Bench) -> None:
    cancelled = bench.folder / "cancelled"
    bench.slurm.cancel([JOB], 10)
    assert cancelled.read_text() == "7\n"
    assert bench.asked() == []


@pytest.mark.parametrize("error", [[115, "Operation now in progress"], [2000, "Invalid partition name specified"]])
def test_a_cancel_that_ends_with_an_error_is_scancels(bench: Bench, error: list[object]) -> None:
    bench.order(cancel=error)
    bench.slurm.cancel([JOB], 10)
    assert bench.asked() == ["scancel 7"]


def test_pyslurm_gets_a_new_limit_in_hours_and_minutes(bench: Bench) -> None:
    bench.slurm.set_time_limit(JOB, 1501, 10)
    assert (bench.folder / "changed").read_text() == '{"time_limit": "25:01:00"}'
    bench.order(modify=[2002, "Access/permission denied"])
    with pytest.raises(ActionRefusedError, match="Access/permission denied"):
        bench.slurm.set_time_limit(JOB, 5, 10)
    assert bench.asked() == []


def test_others_do_not_wait_for_a_call_that_hangs(bench: Bench) -> None:
    bench.order(submit="hang")
    unknown: list[BaseException] = []

    def hang() -> None:
        try:
            bench.submit(within=8.0)
        except OutcomeUnknownError as error:
            unknown.append(error)

    threads = [threading.Thread(target=hang) for _ in range(PROCESSES)]
    for number, thread in enumerate(threads, start=1):
        thread.start()
        wait_until("it has landed", lambda number=number: len(bench.landed()) == number, seconds=10)  # type: ignore[misc]
    begun = time.monotonic()
    assert bench.submit(within=2.0) == 900
    assert time.monotonic() - begun < 2.0
    for thread in threads:
        thread.join()
    assert (len(unknown), len(bench.landed())) == (PROCESSES, PROCESSES)


def test_many_at_once_get_each_their_own_answer(bench: Bench) -> None:
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(bench.submit())) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(1, 17))
    assert bench.asked() == []


NOT_USABLE = {
    "exit": ({"import": "exit"}, "it ended while it loaded the module.*something dreadful"),
    "raise": ({"import": "raise"}, "the module cannot be imported .ImportError: libslurm.so.44: cannot open"),
    "old": ({"import": "old"}, "pyslurm 18.8.1.1 is of the older generation; release 25.11 or newer is needed"),
}


@pytest.mark.parametrize("what", NOT_USABLE)
def test_a_module_that_cannot_be_used_is_named_once_with_the_reason(
    make: Make, what: str, caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    orders, reason = NOT_USABLE[what]
    bench = make(**orders)
    with caplog.at_level(logging.INFO, "ucloud_slurm"):
        for _ in range(3):
            assert not bench.slurm.ready(20)
            clock.advance(process.RETRY_SECONDS + 1)
        assert bench.submit() == 900
    (line,) = caplog.messages
    assert re.search(reason, line)


def test_another_release_of_slurm_is_named(make: Make) -> None:
    bench = make()
    (bench.folder / "release").write_text("26.05.1")
    assert not bench.slurm.ready(20)
    assert bench.slurm.reason == (f"its libslurm is of Slurm 25.11 and {bench.commands}/sbatch of 26.05; rebuild pyslurm")


@pytest.mark.parametrize(("name", "value"), [("CliFilterPlugins", "cli_filter/lua"), ("TaskPluginParam", "OOMKillStep")])
def test_settings_that_only_sbatch_applies_prevent_the_use_of_pyslurm(make: Make, name: str, value: str) -> None:
    bench = make()
    (bench.folder / "settings").write_text(f"{name:<23} = {value}\n")
    assert not bench.slurm.ready(20)
    assert bench.slurm.reason is not None
    assert f"{name}={value}" in bench.slurm.reason


def test_a_site_that_does_not_answer_is_asked_again_soon(make: Make, clock: Clock) -> None:
    bench = make()
    (bench.folder / "settings").rename(bench.folder / "away")
    assert not bench.slurm.ready(20)
    assert bench.slurm.reason == f"{bench.commands}/scontrol ended with 1, so the site's Slurm is not known"
    (bench.folder / "away").rename(bench.folder / "settings")
    clock.advance(1.1)
    assert bench.slurm.ready(20)


def test_without_a_configuration_libslurm_is_not_loaded(make: Make) -> None:
    bench = make(**{"import": "hang"})
    bench.conf.unlink()
    assert not bench.slurm.ready(20)
    assert bench.slurm.reason == f"{bench.conf} cannot be read; name Slurm's configuration in slurm.conf"


def test_a_start_that_takes_too_long_is_given_up(make: Make, clock: Clock) -> None:
    bench = make(**{"import": "hang"})
    bench.slurm.begin()
    pid = bench.process()
    clock.advance(child.START_SECONDS + 1)
    assert not bench.slurm.ready(20)
    gone(pid)
    assert bench.slurm.reason == "it took more than 30 s to start"


def test_closing_ends_the_process_for_good(bench: Bench) -> None:
    pid = bench.process()
    bench.slurm.close()
    gone(pid)
    assert bench.submit() == 900
    assert not bench.slurm.ready(20)


SCRIPT = """
import os, sys
sys.path[:0] = {places!r}
from pathlib import Path
from ucloud_slurm.slurm.pyslurm.backend import PySlurm
from tests.rooms.slurm.stand_ins import submission
from ucloud_slurm.system.process import Command
slurm = PySlurm(Path({commands!r}), Path({conf!r}), 20.0)
assert slurm.ready(20), slurm.reason
pid = lambda: slurm._processes.first._child._process.pid
print(pid(), flush=True)
"""


def script(bench: Bench, more: str) -> list[int]:
    places = [str(FAKE), *(place for place in sys.path if place)]
    text = SCRIPT.format(places=places, commands=str(bench.commands), conf=str(bench.conf)) + more
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True, timeout=60)
    return [int(line) for line in done.stdout.split()]


def test_the_process_ends_with_ours(make: Make) -> None:
    (pid,) = script(make(), "os.kill(os.getpid(), 9) if os.fork() == 0 else os.wait(); os._exit(0)")
    gone(pid)


def test_a_fork_has_a_process_of_its_own(make: Make) -> None:
    bench = make()
    first, second, third = script(
        bench,
        "if os.fork() == 0:\n"
        "    assert slurm.start(submission(), Command).send(5) == 900\n"
        "    assert slurm.ready(20), slurm.reason\n"
        "    print(pid(), flush=True); os._exit(0)\n"
        "os.wait(); assert slurm.start(submission(), Command).send(5) == 1\n"
        "print(pid(), flush=True); slurm.close()\n",
    )
    assert first == third != second
    gone(second)
