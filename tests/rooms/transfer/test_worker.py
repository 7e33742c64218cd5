"""A stop of the file unit, by its own gunicorn: transfers have time to end, and what lasts is given back at once."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.sandbox.processes import wait_until
from ucloud_slurm.config import parse
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.tasks import LongWork, begin
from ucloud_slurm.store.tasks import Task
from ucloud_slurm.users.files import ConflictPolicy, Place, Work

ROOT = Path(__file__).parents[3]
HOME = Place("/home/u", ("a",))


@dataclass(frozen=True)
class Unit:
    """The file unit, which does a long change that never ends by itself."""

    provider: Provider
    process: "subprocess.Popen[bytes]"
    address: Path

    def task(self) -> Task:
        task = self.provider.tasks.of(1)
        assert task is not None
        return task


@pytest.fixture
def unit(tmp_path: Path) -> Iterator[Unit]:
    for name in ("token", "key"):
        (tmp_path / name).write_text("x")
    data = {
        "provider": {"id": "example", "url": "https://hpc.example.org"},
        "ucloud": {
            "url": "https://127.0.0.1:1",
            "refresh_token_file": str(tmp_path / "token"),
            "public_key_file": str(tmp_path / "key"),
        },
        "database": {"path": str(tmp_path / "test.db")},
        "slurm": {"commands": str(tmp_path)},
        "products": [{"id": "example-compute-1", "category": "example-compute", "partition": "cpu"}],
    }
    provider, address = Provider.open(parse(data)), tmp_path / "files.sock"
    begin(provider, "user", provider.account, [LongWork(Work.COPY, HOME, HOME, ConflictPolicy.RENAME, ())])
    environment = os.environ | {"UCLOUD_SLURM_TEST_UNIT": json.dumps(data), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "gunicorn", "-c", str(ROOT / "etc/gunicorn-files.conf.py"), f"--bind=unix:{address}"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "tests.support.endless_work:app"], cwd=ROOT, stdout=log, stderr=log, env=environment
        )
    found = Unit(provider, process, address)
    try:
        wait_until("the task has begun", lambda: found.task().lease_until is not None, seconds=30)
        yield found
    finally:
        process.kill()
        process.wait(30)
        provider.close()


def test_a_stop_gives_back_what_lasts_before_the_process_ends(unit: Unit) -> None:
    unit.process.terminate()
    assert unit.process.wait(30) == 0
    assert (unit.task().ended_at, unit.task().lease_until) == (None, None)


def test_a_transfer_that_ends_slowly_does_not_keep_what_lasts_from_the_next_process(unit: Unit) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(unit.address))
        client.sendall(b"POST /ucloud/example/files/transfer/upload HTTP/1.1\r\nContent-Length: 5\r\n\r\n1")
        unit.process.terminate()
        wait_until("the task is given back", lambda: unit.task().lease_until is None, seconds=12)
        assert unit.process.poll() is None
        client.sendall(b"2345")
        assert client.recv(100).startswith(b"HTTP/1.1 404")
    assert unit.process.wait(30) == 0
