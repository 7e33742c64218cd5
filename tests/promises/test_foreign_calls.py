"""Nothing waits for others inside a write transaction: commands, the name service, the network, or another thread."""

import grp
import os
import pwd
import queue
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.database import earlier_release
from tests.support.foreign import ForeignCallError
from ucloud_slurm.store.sqlite import Store, in_write_transaction
from ucloud_slurm.users import name_service


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "test.db")
    yield store
    store.close()


def on_a_socket(do: Callable[[socket.socket], Any]) -> Callable[[], None]:
    def call() -> None:
        left, right = socket.socketpair()
        with left, right:
            do(left)

    return call


CALLS: dict[str, Callable[[], Any]] = {
    "command": lambda: subprocess.run(["/bin/true"], check=True),
    "shell": lambda: os.system("true"),
    "fork": lambda: os.fork() or os._exit(0),
    "spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
    "name of a host": lambda: socket.getaddrinfo("localhost", 1),
    "HTTP": lambda: requests.get("http://127.0.0.1:1", timeout=1),
    "send": on_a_socket(lambda end: end.send(b"x")),
    "descriptors": on_a_socket(lambda end: socket.send_fds(end, [b"x"], [0])),
    "receive": on_a_socket(lambda end: end.recv(1)),
    "user": lambda: pwd.getpwnam("root"),
    "uid": lambda: pwd.getpwuid(0),
    "group": lambda: grp.getgrnam("root"),
    "groups": lambda: os.getgrouplist("root", 0),
    "groups of a user": lambda: name_service.groups_of("root", 0),
    "pause": lambda: time.sleep(0),
    "future": lambda: Future[None]().result(0),
    "event": lambda: threading.Event().wait(0.01),
    "queue": lambda: queue.Queue[None]().get(timeout=0.01),
    "thread": lambda: threading.Thread().join(0),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_foreign_call_in_a_write_transaction_is_refused_by_its_place(
    store: Store, name: str, foreign_calls: list[str]
) -> None:
    with pytest.raises(ForeignCallError, match="in a write transaction"), store.writing():
        CALLS[name]()
    assert len(foreign_calls) == 1
    foreign_calls.clear()
    assert not in_write_transaction()
    store.change("delete from caches")


def test_a_transaction_is_of_its_thread_and_ends_with_it(store: Store) -> None:
    with ThreadPoolExecutor(1) as pool:
        ready, go_on = threading.Event(), threading.Event()

        def elsewhere() -> bool:
            ready.set()
            go_on.wait(10)
            pwd.getpwnam("root")
            return in_write_transaction()

        other = pool.submit(elsewhere)
        ready.wait(10)
        with store.writing(), store.writing():
            assert in_write_transaction()
            go_on.set()
        assert not in_write_transaction()
        assert other.result() is False
    with pytest.raises(RuntimeError), store.writing():
        raise RuntimeError
    assert not in_write_transaction()


def test_a_migration_looks_accounts_up_before_its_transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with earlier_release(monkeypatch, 10):
        store = Store(tmp_path / "test.db")
        columns = "id, phase, name, local_user, owner, fingerprint, body, accepted_at"
        for id_, user, phase in (("1", "root", "live"), ("2", "no such user", "live"), ("3", "daemon", "ended")):
            store.change(f"insert into jobs ({columns}) values (?, ?, 'n', ?, 'o', '', '{{}}', 1)", [id_, phase, user])
        store.close()
    store = Store(tmp_path / "test.db")
    assert store.tuples("select id, uid from jobs order by id") == [("1", 0), ("2", None), ("3", None)]
    store.close()
