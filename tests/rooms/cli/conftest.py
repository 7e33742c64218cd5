"""A host with people and a runner, for the tests of check."""

import grp
import pwd
import socket
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ucloud_slurm.config import Config, parse
from ucloud_slurm.store.people import People, UserLink
from ucloud_slurm.store.sqlite import Store
from ucloud_slurm.system import ipc
from ucloud_slurm.users import bundle, name_service, service

Configure = Callable[..., Config]


class FakeRunner:
    """Answers every request at a runner's socket with the same."""

    def __init__(self, path: Path) -> None:
        self.answer: dict[str, Any] = {}
        self.asked: list[dict[str, Any]] = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                self.asked.append(ipc.receive(connection, ipc.LARGEST_BYTES, within=5)[0])
                ipc.send(connection, self.answer, within=5)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


@cache
def as_installed() -> bytes:
    """The program that sudo starts as a user."""
    return bundle.contents()


@pytest.fixture
def configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Makes a configuration, on a host where u0 to u99 are people; u50 and those behind may not log in."""
    monkeypatch.setattr(service, "refuse_root", lambda: None)
    known = {
        f"u{n}": pwd.struct_passwd(
            (f"u{n}", "x", 7000 + n, 7000, "", f"/home/u{n}", "/bin/bash" if n < 50 else "/usr/sbin/nologin")
        )
        for n in range(100)
    }
    real = pwd.getpwnam
    monkeypatch.setattr(pwd, "getpwnam", lambda name: known.get(name) or real(name))
    monkeypatch.setattr(name_service, "groups_of", lambda name, gid: [gid] if name == "u49" else [gid, 7999])
    groups = {"people": grp.struct_group(("people", "x", 7999, ["u99", "u1"]))}
    monkeypatch.setattr(grp, "getgrnam", lambda name: groups[name])
    as_user = tmp_path / "opt" / "bin" / bundle.NAME
    as_user.parent.mkdir(parents=True)
    as_user.write_bytes(as_installed())
    (as_user.parent / "python3").symlink_to("/bin/sh")

    def configured(mapping: str, **more: Any) -> Config:
        users = {"mapping": mapping, "group": "people", "runner": str(tmp_path / "runner.sock"), "program": str(as_user)}
        (tmp_path / "token").touch(mode=0o600)
        return parse(
            {
                "provider": {"id": "example", "url": "http://127.0.0.1:1"},
                "ucloud": {
                    "url": "http://127.0.0.1:1",
                    "refresh_token_file": str(tmp_path / "token"),
                    "public_key_file": str(tmp_path / "key"),
                },
                "database": {"path": str(tmp_path / "test.db")},
                "jobs": {"folder": f"{tmp_path}/{{user}}"},
                "products": [{"id": "example-compute-1", "category": "example-compute", "partition": "cpu"}],
                "users": users | more.pop("users", {}),
            }
            | more
        )

    return configured


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[FakeRunner]:
    runner = FakeRunner(tmp_path / "runner.sock")
    yield runner
    runner.close()


def connect(config: Config, *numbers: int, uid: int = 7000) -> None:
    store = Store(config.database.path)
    People(store).add([UserLink(f"U{n}#1", f"u{n}", uid + n, 1.0, "root") for n in numbers])
    store.close()
