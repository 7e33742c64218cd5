"""Every call of UCloud is answered within three seconds, also while its thread hangs in a disk or in the name service."""

import json
import pickle
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import configuration
from tests.promises.test_deadline import LIMIT_SECONDS, calls
from tests.sandbox.core import SimulatedCore
from tests.sandbox.core.provider import encoded_username
from tests.sandbox.processes import wait_until
from tests.support.factories import application, job_data, word
from tests.support.server import Server, running
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.store.people import UserLink

WRITE = ("jobs", "jobs/terminate", "integration/connect")
ASK_WHO = ("jobs", "jobs/terminate")


@pytest.fixture
def core() -> Iterator[SimulatedCore]:
    """A Core by the clock of the host, as that of the service is."""
    core = SimulatedCore(provider="example")
    core.start()
    yield core
    core.stop()


@pytest.fixture
def server(core: SimulatedCore, tmp_path: Path) -> Iterator[Server]:
    config = configuration(core, tmp_path, users={"mapping": "table"}, jobs={"submit_within": "1s"})
    provider = Provider.open(config)
    provider.people.add([UserLink("user", "ada", 54321, 0.0, "a test")])
    provider.close()
    (tmp_path / "config").write_bytes(pickle.dumps(config))
    with running(tmp_path, app="tests.support.stalled_app:app", STALLED=str(tmp_path)) as server:
        yield server


def is_live(database: Path, job_id: str) -> bool:
    """Whether Slurm has a job, and the database knows it."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        return bool(db.execute("select phase from jobs where id = ?", [job_id]).fetchone() == ("live",))


@pytest.mark.parametrize(("stalled", "refused"), [("disk", WRITE), ("names", ASK_WHO)])
def test_every_call_is_answered_in_time_while_threads_hang(
    server: Server, core: SimulatedCore, tmp_path: Path, stalled: str, refused: tuple[str, ...]
) -> None:
    name = encoded_username("user", core.era).decode()
    token, headers = f"Bearer {core.tokens.core_token()}", f"UCloud-Username: {name}\r\n"

    def ask(verb: str, path: str, body: Any) -> tuple[str, int, float]:
        begun = time.monotonic()
        data = b"" if body is None else json.dumps(body).encode()
        status, _ = server.ask(f"/ucloud/example/{path}", token, data, headers, verb)
        return path, status, time.monotonic() - begun

    def create(job_id: str) -> int:
        return ask("POST", "jobs", {"items": [job_data(job_id, app=application(word("true")))]})[1]

    assert create("1") == 200
    wait_until("nothing is written any more", lambda: is_live(tmp_path / "test.db", "1"), seconds=60)
    (tmp_path / stalled).touch()
    every = [call for call in calls("1") if call[1] != "integration/unlinked" for _ in range(4)]
    with ThreadPoolExecutor(len(every)) as pool:
        answers = list(pool.map(lambda call: ask(*call), every))
    assert [answer for answer in answers if answer[2] >= LIMIT_SECONDS] == []
    assert {path for path, status, _ in answers if status == 500} >= {*refused}
    wait_until("other calls succeed", lambda: ask("GET", "integration/retrieveManifest", None)[1] == 200, seconds=20)
    (tmp_path / stalled).unlink()
    wait_until("calls succeed again", lambda: create("5") == 200, seconds=20)
