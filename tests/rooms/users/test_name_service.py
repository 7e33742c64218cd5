"""A name service that does not answer keeps a call no longer than the call can wait, and no other thread at all."""

import os
import pwd
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import ucloud_slurm
from ucloud_slurm.system import deadline
from ucloud_slurm.system.bulkhead import Bulkhead, StuckError
from ucloud_slurm.users import name_service

NAME = pwd.getpwuid(os.getuid()).pw_name


@pytest.fixture
def hung(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """What hangs until it is set."""
    threads = Bulkhead(2, 2)
    monkeypatch.setattr(name_service, "_threads", threads)
    over = threading.Event()
    yield over
    over.set()
    threads.close()


@pytest.mark.parametrize("left", [0.0, 0.02, 60.0])
def test_a_call_waits_no_longer_than_it_can(hung: threading.Event, left: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name_service, "ASK_SECONDS", 0.05)
    begun = time.monotonic()
    with deadline.ending(begun + left), pytest.raises(StuckError):
        name_service.ask(lambda: hung.wait(60))
    assert time.monotonic() - begun < 20


def test_an_answer_or_an_error_is_that_of_the_name_service() -> None:
    for within in (float("inf"), time.monotonic() + 60):
        with deadline.ending(within):
            assert name_service.ask(lambda: pwd.getpwnam(NAME)).pw_uid == os.getuid()
            with pytest.raises(KeyError):
                name_service.ask(lambda: pwd.getpwnam("no such user"))


def test_outside_calls_it_is_asked_in_the_thread_that_needs_it() -> None:
    assert name_service.ask(threading.current_thread) is threading.current_thread()
    with deadline.ending(time.monotonic() + 60):
        assert name_service.ask(threading.current_thread) is not threading.current_thread()


def test_the_groups_are_those_that_python_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    for entry in pwd.getpwall():
        assert {*name_service.groups_of(entry.pw_name, entry.pw_gid)} == {*os.getgrouplist(entry.pw_name, entry.pw_gid)}
    monkeypatch.setattr(name_service, "ROOM", 1)
    for entry in pwd.getpwall():
        assert {*name_service.groups_of(entry.pw_name, entry.pw_gid)} == {*os.getgrouplist(entry.pw_name, entry.pw_gid)}


def test_only_a_process_of_its_own_asks_in_the_way_that_stops_all_threads() -> None:
    """``os.getgrouplist`` keeps the interpreter to itself while it waits (seen in Python 3.11)."""
    package = Path(ucloud_slurm.__file__).parent
    users = {path.name for path in package.rglob("*.py") if re.search(r"os\.getgrouplist\(", path.read_text())}
    assert users == {"as_user.py"}
