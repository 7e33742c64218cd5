"""The runner, with a stand-in for sudo: whatever one user's programs do, nobody else waits and nothing is left open."""

import json
import os
import select
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.sandbox.processes import Process, find, wait_until
from tests.support import hostile
from tests.support.runner_site import PATIENCE, Site
from ucloud_slurm.errors import Forbidden, NotNow, Problem
from ucloud_slurm.system import ipc
from ucloud_slurm.system.accounts import Account, PeopleRule
from ucloud_slurm.system.bulkhead import admits
from ucloud_slurm.system.files import NotARegularFileError
from ucloud_slurm.system.ipc import Message
from ucloud_slurm.system.lean import boot_clock
from ucloud_slurm.system.process import CommandMissingError, CommandTimeoutError
from ucloud_slurm.users import as_user, runner
from ucloud_slurm.users.files import ConflictPolicy, Place, Work
from ucloud_slurm.users.impersonation import RunnerClient, RunnerUnavailableError
from ucloud_slurm.users.operations import Operations
from ucloud_slurm.users.program import KEPT_SECONDS
from ucloud_slurm.users.runner import MOST_DESCRIPTORS, PROGRAMS_PER_USER, REQUESTS, REQUESTS_PER_USER, Runner
from ucloud_slurm.users.runner_files import RunnerFiles

FAILURES = (NotNow, Problem, NotARegularFileError, CommandMissingError, CommandTimeoutError)


def descriptors() -> int:
    """How many this process, that is the runner and its caller, has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def each_request(client: RunnerClient, folder: Path) -> list[Callable[[], object]]:
    """One of every kind."""
    env = {"SLURM_CONF": "/etc/passwd"}
    files, place = RunnerFiles(client._runner, client._user), Place(str(folder), ("file",))
    return [
        lambda: client.prepare(str(folder / "job"), {}),
        lambda: client.self_test(str(folder / "test")),
        lambda: client.open(str(folder / "stdout-0.log")),
        lambda: client.listen(str(folder)),
        lambda: client.terminal(["/usr/bin/srun", "/bin/bash", "-l"], env, 80, 24),
        lambda: client.start(["/usr/bin/sbatch"], env).finish("#!/bin/sh\n", 1.0),
        lambda: files.stat(place, within=1.0),
        lambda: files.read(place, within=1.0).descriptor,
        lambda: files.begin(place, ConflictPolicy.RENAME, parents=False, within=1.0).descriptor,
        lambda: files.work(Work.COPY, place, place.child("x"), ConflictPolicy.RENAME, key="1", within=1.0),
    ]


def release(result: Any) -> None:
    if isinstance(result, int):
        os.close(result)
    elif result is not None and hasattr(result, "close"):
        result.close()


KNOWN: dict[str, int] = {}  # descriptors after the first example, by the folder of the test
HOSTILE = [
    *(f"hello_with_descriptors {count}" for count in (1, 4, 253)),
    *(f"answer_with_descriptors {count}" for count in (1, 4, 253)),
    *(f"unasked_descriptors {count}" for count in (1, 4, 253)),
    "answer_with_one",
    "sends_what_lingers 0",
    "sends_what_lingers 1",
    "sends_what_lingers 2",
    "silent",
    "mute",
    "dies_before_hello",
    "dies_amid_answer",
    "stops_before_hello",
    "stops_before_request",
    "stops_amid_answer",
    "stops_amid_answer 1",
    "stops_after_answer",
    "prints_without_end",
    "gives_nothing",
    "gives_a_pipe",
    "gives_a_folder",
    "gives_four",
    "gives_many",
    "waits_and_dies",
    "waits_and_has_ended",
    "waits_and_stops",
    "waits_always",
    "waits_twice",
]


@pytest.mark.parametrize("behaviour", HOSTILE)
def test_what_a_program_sends_or_does_not_leaves_no_descriptor_and_keeps_nobody_waiting(site: Site, behaviour: str) -> None:
    site.client("bob").prepare(str(site.folder / "bobs"), {})
    site.behave("ada", behaviour)
    before = descriptors()
    for request in each_request(site.client("ada"), site.folder) * 2:
        with suppress(*FAILURES):
            release(request())
    begun = time.monotonic()
    site.client("bob").prepare(str(site.folder / "bobs"), {})
    assert time.monotonic() - begun < 5

    def left() -> int:
        # A program that waits for a request has its channel and its errors; bob had one before.
        return descriptors() - 2 * (sum(len(programs) for programs in site.runner._idle.values()) - 1)

    wait_until("nothing is left", lambda: left() <= before, seconds=PATIENCE)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6))
def test_whatever_a_program_does_in_any_order_leaves_no_descriptor(site: Site, seed: int) -> None:
    with site.runner._changed:
        site.runner._silent.clear()
    site.behave("ada", f"anything {seed}")
    for request in each_request(site.client("ada"), site.folder):
        with suppress(*FAILURES):
            release(request())
    for pid in hostile.pids(site.folder, "ada"):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    (site.folder / "ada.pids").unlink(missing_ok=True)

    def ended() -> bool:
        site.runner._prune(everything=True)
        return not site.runner._closed and not site.runner._programs

    site.client("bob").prepare(str(site.folder / "bobs"), {})
    wait_until("no request is served", lambda: not site.runner._requests, seconds=PATIENCE)
    wait_until("all have ended", ended, seconds=PATIENCE)
    assert descriptors() <= KNOWN.setdefault(str(site.folder), descriptors())


def test_a_thousand_answers_with_descriptors_leave_none(site: Site) -> None:
    site.behave("ada", "answer_with_one")
    before = descriptors()
    for _ in range(100):
        assert site.ask("ada", 5.0).keys() == {"unknown"}
    wait_until("nothing is left", lambda: descriptors() <= before, seconds=PATIENCE)


def test_a_descriptor_that_a_program_sends_out_of_band_holds_no_thread_of_the_runner(site: Site) -> None:
    site.behave("ada", "sends_out_of_band")
    assert "more descriptors" in site.ask("ada", 5.0)["unknown"]


@pytest.mark.parametrize("behaviour", ["silent", "mute", "stops_before_hello", "stops_amid_answer"])
def test_a_user_whose_program_is_stopped_does_not_take_all_threads_of_the_runner(site: Site, behaviour: str) -> None:
    site.behave("ada", behaviour)
    with ThreadPoolExecutor(REQUESTS) as pool:
        asked: list[Future[Message]] = [pool.submit(site.ask, "ada", 4.0) for _ in range(REQUESTS)]
        busy = REQUESTS - REQUESTS_PER_USER
        wait_until("the rest hears so", lambda: sum(each.done() for each in asked) >= busy, seconds=PATIENCE)
        site.client("bob").prepare(str(site.folder / "bobs"), {})
        assert sum(not each.done() for each in asked) == REQUESTS_PER_USER, "ada's requests still wait"
        answers = [each.result(PATIENCE) for each in asked]
    assert all({"busy", "unknown"} & set(answer) for answer in answers)
    assert site.runner._requests == {}


@pytest.mark.parametrize("behaviour", ["silent", "mute", "stops_amid_answer"])
def test_a_program_that_is_silent_costs_its_user_one_wait_and_not_each_request(site: Site, behaviour: str) -> None:
    site.behave("ada", behaviour)
    with suppress(*FAILURES):
        site.client("ada").prepare(str(site.folder), {})
    started, begun = len(hostile.pids(site.folder, "ada")), time.monotonic()
    for request in each_request(site.client("ada"), site.folder) * 5:
        with pytest.raises(NotNow, match="did not answer a moment ago"):
            request()
    assert time.monotonic() - begun < 5
    assert len(hostile.pids(site.folder, "ada")) == started


def test_a_user_whose_programs_answer_again_is_served_as_before(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "LONGEST_PAUSE_SECONDS", 0.0)
    site.behave("ada", "mute")
    for _ in range(2):
        with pytest.raises(NotNow):
            site.client("ada").prepare(str(site.folder), {})
        wait_until("it may be asked", lambda: time.monotonic() > site.runner._silent["ada"].until, seconds=PATIENCE)
    site.behave("ada", "honest")
    site.client("ada").prepare(str(site.folder / "job"), {})
    assert site.runner._silent == {}


def test_programs_that_do_not_end_are_so_many_and_no_more(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "LONGEST_PAUSE_SECONDS", 0.0)
    site.behave("ada", "stays")
    answers = [site.ask("ada", 0.2) for _ in range(PROGRAMS_PER_USER + 3)]
    assert all("busy" in answer for answer in answers)
    assert len(hostile.pids(site.folder, "ada")) == PROGRAMS_PER_USER
    for pid in hostile.pids(site.folder, "ada"):
        os.kill(pid, signal.SIGKILL)
    site.behave("ada", "honest")
    wait_until("ada is served again", lambda: site.ask("ada", 2.0) == {}, seconds=PATIENCE)


def stop_idle(site: Site) -> Process:
    """Has a program of ada's wait, and stops it."""
    site.client("ada").prepare(str(site.folder / "job"), {})
    (pid,) = hostile.pids(site.folder, "ada")
    wait_until("it waits", lambda: len(site.runner._idle.get("ada", [])) == 1, seconds=PATIENCE)
    found = find(pid)
    assert found is not None
    os.kill(pid, signal.SIGSTOP)
    wait_until("it has stopped", found.stopped, seconds=PATIENCE)
    return found


def ends(site: Site, process: Process) -> None:
    """Waits until a process has ended by what the runner does every few seconds."""

    def ended() -> bool:
        site.runner._pruned_at = 0.0
        site.runner._prune()
        return not process.alive()

    wait_until("it has ended", ended, seconds=PATIENCE)


def test_a_program_that_is_stopped_while_it_waits_is_not_asked(site: Site) -> None:
    stopped = stop_idle(site)
    site.client("ada").prepare(str(site.folder / "another"), {})
    assert len(hostile.pids(site.folder, "ada")) == 2
    ends(site, stopped)


def test_a_program_that_is_stopped_while_it_waits_ends_although_nobody_asks(site: Site) -> None:
    ends(site, stop_idle(site))
    assert site.runner._idle == {}


def test_what_a_program_prints_fills_nothing(site: Site) -> None:
    site.behave("ada", "prints_without_end")
    site.client("ada").prepare(str(site.folder / "job"), {})
    wait_until("it waits", lambda: len(site.runner._idle.get("ada", [])) == 1, seconds=PATIENCE)
    (each,) = site.runner._idle["ada"]
    most = int(Path("/proc/sys/fs/pipe-max-size").read_text())
    poll = select.poll()
    poll.register(each._errors, select.POLLIN)
    for _ in range(3):
        wait_until("it has printed", lambda: bool(poll.poll(0)), seconds=PATIENCE)
        assert len(each.errors(1 << 30)) <= most + (1 << 20)
    assert stat.S_ISFIFO(os.fstat(each._errors.fileno()).st_mode), "no file grows, and it carries no descriptors"


def test_half_of_all_is_for_users_who_have_none() -> None:
    taken = {f"user{number}": 0 for number in range(200)}
    for user in list(taken):
        while admits(taken[user], REQUESTS_PER_USER, sum(taken.values()), REQUESTS):
            taken[user] += 1
    assert sum(taken.values()) == REQUESTS
    assert max(taken.values()) == REQUESTS_PER_USER
    assert sum(1 for count in taken.values() if count == 1) >= REQUESTS // 2 - 1


def test_the_descriptors_of_the_runner_are_bounded_below_the_soft_limit() -> None:
    assert MOST_DESCRIPTORS < 1024


def test_a_request_that_comes_after_its_deadline_is_not_passed_on(site: Site) -> None:
    assert site.ask("ada", -0.1).keys() == {"busy"}
    assert hostile.pids(site.folder, "ada") == []


def test_a_runner_of_another_account_is_asked_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ipc, "peer", lambda _: 65534)
    with pytest.raises(RunnerUnavailableError, match="uid 65534 listens"):
        site.client("ada").prepare(str(site.folder), {})
    assert hostile.pids(site.folder, "ada") == []


@pytest.mark.parametrize("error", [24, 23, 12])  # EMFILE, ENFILE, ENOMEM
def test_a_connection_that_cannot_be_accepted_does_not_end_the_runner(site: Site, error: int) -> None:
    class Listener:
        left = 3

        def settimeout(self, _: float) -> None: ...

        def accept(self) -> None:
            self.left -= 1
            raise OSError(error if self.left else 9, "no")

    listener = Listener()
    Runner(site.folder / "sudo", site.folder / "program").serve(listener)  # type: ignore[arg-type]
    assert listener.left == 0


def raw(site: Site, body: bytes) -> Message:
    """The runner's own answer to a text."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
        channel.connect(str(site.path))
        channel.sendall(len(body).to_bytes(4, "big") + body)
        return ipc.receive(channel, 65536, within=PATIENCE)[0]


@pytest.mark.parametrize("deadline", ["NaN", "Infinity", "-Infinity", "1e400", "1" + "0" * 400, "-1" + "0" * 400, "-1", "true"])
def test_a_deadline_that_is_no_time_is_refused_and_leaves_nothing(site: Site, deadline: str) -> None:
    answer = raw(site, f'{{"user": "ada", "verb": "trial", "folder": "/x", "deadline": {deadline}}}'.encode())
    assert "deadline" in answer["refused"]
    assert hostile.pids(site.folder, "ada") == []
    wait_until("nothing is served", lambda: site.runner._requests == {}, seconds=PATIENCE)


def test_a_message_of_any_depth_leaves_no_program_that_nobody_uses(site: Site) -> None:
    site.client("ada").prepare(str(site.folder / "job"), {})
    for depth in range(sys.getrecursionlimit() - 60, sys.getrecursionlimit()):
        text = json.dumps({"user": "ada", "verb": "trial", "deadline": boot_clock() + 5})
        with suppress(ipc.ConnectionLostError):
            raw(site, f'{text[:-1]}, "deep": {"[" * depth}{"]" * depth}}}'.encode())
    wait_until("nothing is served", lambda: site.runner._requests == {}, seconds=PATIENCE)
    assert site.runner._programs["ada"] == len(site.runner._idle.get("ada", []))


def test_a_service_of_another_release_is_answered_that_it_should_try_again(site: Site) -> None:
    old = {"user": "ada", "verb": "run", "within": 10.0, "command": "/usr/bin/sbatch", "arguments": [], "stdin": ""}
    for message in (old, old | {"deadline": boot_clock() + 10, "form": ipc.FORM + 1}):
        assert "another release" in raw(site, json.dumps(message).encode())["busy"]
        program = Operations(Account("ada", os.geteuid(), os.getegid(), "/bin/bash", "/"), -1, PeopleRule())
        assert "another release" in program.answer(message, [])["busy"]


@pytest.mark.parametrize("user", ["", "root", "no such user"])
def test_a_refusal_is_final(site: Site, user: str) -> None:
    with pytest.raises(Forbidden):
        site.client(user).prepare(str(site.folder / "job"), {})


@pytest.mark.parametrize("answer", [{"refused": "within: not a number of seconds"}, {"refused": "no such verb", "form": 1}])
def test_a_runner_of_another_release_refuses_no_job(tmp_path: Path, answer: Message) -> None:
    path = tmp_path / "old.sock"
    requests = each_request(RunnerClient(path, "ada"), tmp_path)
    with closing(ipc.listener(path, 0o600)) as listener, ThreadPoolExecutor(1) as pool:
        listener.settimeout(PATIENCE)

        def serve() -> None:
            for _ in requests:
                connection, _ = listener.accept()
                with connection:
                    ipc.serve(connection, lambda _message, _given: answer, waits=PATIENCE, sends=PATIENCE, descriptors=1)

        served = pool.submit(serve)
        for request in requests:
            with pytest.raises(NotNow, match="another release"):
                request()
        served.result(PATIENCE)


def test_a_program_that_was_started_before_it_is_needed_serves_the_first_request(site: Site) -> None:
    site.client("ada").wake()
    wait_until("it waits", lambda: len(site.runner._idle.get("ada", [])) == 1, seconds=PATIENCE)
    site.client("ada").wake()
    site.client("ada").prepare(str(site.folder / "job"), {})
    assert len(hostile.pids(site.folder, "ada")) == site.runner.sudo_calls == 1


def test_no_program_is_started_before_it_is_needed_where_there_is_no_room_and_none_gives_way(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.client("bob").prepare(str(site.folder / "bobs"), {})
    monkeypatch.setattr(runner, "ROOMY", 1)
    asked = ipc_answer(site, {"user": "ada", "verb": "wake"})
    assert (asked, hostile.pids(site.folder, "ada")) == ({}, [])
    assert len(site.runner._idle["bob"]) == 1
    monkeypatch.setattr(runner, "ROOMY", 2)
    assert ipc_answer(site, {"user": "ada", "verb": "wake"}) == {}
    assert len(hostile.pids(site.folder, "ada")) == 1


def test_a_program_that_cannot_be_started_before_it_is_needed_is_no_loss(site: Site) -> None:
    site.behave("ada", "dies_before_hello")
    assert "busy" in ipc_answer(site, {"user": "ada", "verb": "wake"})
    assert (site.runner._programs, site.runner._requests) == ({}, {})
    site.behave("ada", "honest")
    site.client("ada").prepare(str(site.folder / "job"), {})


def test_idle_programs_are_kept_for_longer_while_there_is_room(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.client("ada").prepare(str(site.folder / "job"), {})
    wait_until("it waits", lambda: len(site.runner._idle.get("ada", [])) == 1, seconds=PATIENCE)
    (program,) = site.runner._idle["ada"]
    program.idle_since -= runner.IDLE_SECONDS + 1
    site.runner._pruned_at = 0.0
    site.runner._prune()
    assert site.runner._idle == {"ada": [program]}
    monkeypatch.setattr(runner, "ROOMY", 0)
    site.runner._pruned_at = 0.0
    site.runner._prune()
    assert site.runner._idle == {}
    assert runner.IDLE_SECONDS < KEPT_SECONDS < as_user.IDLE_SECONDS


def ipc_answer(site: Site, message: Message) -> Message:
    return raw(site, json.dumps({"deadline": boot_clock() + 5} | message).encode())
