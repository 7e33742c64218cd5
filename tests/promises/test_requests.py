"""P10: a call of UCloud's is followed by its id: in the answer, the journal of every daemon, and the row of its job."""

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner

from tests.conftest import World, configuration
from tests.sandbox.core import SimulatedCore
from tests.sandbox.processes import wait_until
from tests.sandbox.site import PRODUCTS, free_port, toml
from tests.support.factories import accept_live, job_data, new_job
from tests.support.runner_site import runner_site
from ucloud_slurm.cli import passes
from ucloud_slurm.cli.inspect import show
from ucloud_slurm.store.jobs import Jobs
from ucloud_slurm.store.sqlite import Store
from ucloud_slurm.system.config_file import VARIABLE
from ucloud_slurm.system.journal import OneObject
from ucloud_slurm.system.request_id import HEADER, Served, serving
from ucloud_slurm.users.impersonation import ImpersonationDeniedError

ROOT = Path(__file__).parents[2]
OWNER = job_data("7")["owner"]["createdBy"]
ID = "0123456789abcdef.UCloud_7-x"


class Journal(logging.Handler):
    """Remembers the lines of this process, as objects."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(OneObject(priorities=False))
        self.lines: list[dict[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(json.loads(self.format(record)))

    def of(self, request: str) -> list[dict[str, str]]:
        return [line for line in self.lines if line.get("request") == request]


@pytest.fixture
def written() -> Iterator[Journal]:
    journal, logger = Journal(), logging.getLogger("ucloud_slurm")
    logger.addHandler(journal)
    logger.setLevel(logging.INFO)
    yield journal
    logger.removeHandler(journal)


def create(world: World, job_id: str, headers: dict[str, str]) -> requests.Response:
    """A create as UCloud sends it, with further headers."""
    bearer = {"Authorization": f"Bearer {world.core.tokens.core_token()}", "UCloud-Username": OWNER}
    body = json.dumps({"items": [job_data(job_id)]})
    return requests.post(f"{world.url}/ucloud/example/jobs", body, headers=bearer | headers, timeout=20)


@pytest.mark.parametrize(
    ("headers", "kept"),
    [
        ({"X-Request-ID": ID}, ID),
        ({"Job-Id": ID}, ID),
        ({"X-Request-ID": ID, "Job-Id": "another-one"}, ID),
        ({"X-Request-ID": "sp ace-in-it", "Job-Id": ID}, ID),
        ({}, None),
        ({"X-Request-ID": "short"}, None),
        ({"X-Request-ID": "x" * 65}, None),
        ({"X-Request-ID": 'quote"quote"'}, None),
        ({"X-Request-ID": "\u00e4\u00f6\u00fc\u00e4\u00f6\u00fc\u00e4\u00f6"}, None),
    ],
)
def test_an_answer_has_the_id_that_the_request_came_with_or_a_new_one(
    world: World, headers: dict[str, str], kept: str | None
) -> None:
    sent = {name: value.encode("latin-1") for name, value in headers.items()}
    found = [requests.get(f"{world.url}/{path}", headers=sent, timeout=10).headers[HEADER] for path in ("healthz", "nothing")]
    if kept is None:
        assert all(re.fullmatch(r"[0-9a-f]{32}", each) for each in found)
        assert found[0] != found[1]
    else:
        assert found == [kept, kept]


def test_a_job_its_lines_and_its_row_have_the_id_of_its_create(
    world: World, written: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert create(world, "7", {"X-Request-ID": ID}).headers[HEADER] == ID
    assert world.row("7").request_id == ID
    wait_until("its submission is over", lambda: world.row("7").claimed_until is None, seconds=20)
    world.slurm("7")
    # The line is written by a thread of the pool, not by that of the request; on a busy machine by the worker.
    (line,) = [line for line in written.of(ID) if "is Slurm job" in line["message"]]
    assert (line["job"], line["user"]) == ("7", OWNER)
    assert create(world, "7", {"X-Request-ID": "another-create"}).status_code == 200
    assert world.row("7").request_id == ID, "a repetition changes nothing"
    monkeypatch.setattr("ucloud_slurm.cli.context.refuse_root", lambda: None)
    monkeypatch.setattr("ucloud_slurm.cli.context.read", lambda _path: world.provider.config)
    shown = CliRunner().invoke(show, ["7"], catch_exceptions=False).stdout
    assert f"\nrequest:      {ID}\n" in shown


def test_a_refusal_is_found_by_the_id_that_its_answer_has(world: World, written: Journal) -> None:
    world.provider.store.change("drop table jobs")
    answer = create(world, "7", {})
    assert answer.status_code == 500
    (line,) = written.of(answer.headers[HEADER])
    assert line["level"] == "error"


def test_what_the_worker_does_for_a_job_has_the_id_of_its_create(world: World, written: Journal) -> None:
    world.model.controller = False
    create(world, "7", {"X-Request-ID": ID})
    world.model.controller = True
    assert not world.model.of("7")
    written.lines.clear()
    world.work(60)
    world.work(60)
    (line,) = [line for line in written.lines if "is Slurm job" in line["message"]]
    assert (line["request"], line["job"]) == (ID, "7")
    world.work(60)
    assert not [line for line in written.lines[written.lines.index(line) + 1 :] if "request" in line]


def test_the_runner_writes_for_which_request_it_acted(
    tmp_path: Path, written: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    with runner_site(tmp_path, monkeypatch) as site:
        site.behave("ada", "no such behaviour")  # so that it ends at once
        for request in (Served(ID), None):
            with serving(request), pytest.raises(ImpersonationDeniedError):
                site.client("ada").self_test(str(tmp_path / "ada"))
        lines = [line for line in written.lines if line["logger"] == "ucloud_slurm.users.runner"]
    assert [line.get("request") for line in lines] == [ID, None]


# ---- the journal as objects, of whole processes


def config_file(core: SimulatedCore, folder: Path) -> Path:
    configuration(core, folder)  # writes the key and the token
    tables = {
        "provider": {"id": "example", "url": "http://127.0.0.1:1"},
        "ucloud": {
            "url": core.url,
            "era": core.era.name,
            "refresh_token_file": str(folder / "token"),
            "public_key_file": str(folder / "key"),
        },
        "database": {"path": str(folder / "test.db")},
        "slurm": {"backend": "commands", "commands": str(folder / "none")},
        "journal": {"format": "json"},
        "products": [dict(product) for product in PRODUCTS],
    }
    (folder / "config.toml").write_text(toml(tables))
    return folder / "config.toml"


def test_a_pass_of_the_worker_writes_objects_only(
    core: SimulatedCore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ucloud_slurm.cli.context.refuse_root", lambda: None)
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    monkeypatch.chdir(tmp_path)
    path = config_file(core, tmp_path)
    with closing(Store(tmp_path / "test.db")) as store:
        accept_live(Jobs(store), new_job("7"))  # so that Slurm is asked, which is not there
    with pytest.raises(SystemExit):
        passes.work(path)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert any("squeue" in line["message"] for line in lines)


def test_gunicorn_and_an_application_that_does_not_start_write_objects_only(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[journal]\nformat = "json"\n')  # and nothing else
    command = [sys.executable, "-m", "gunicorn", "--config", str(ROOT / "etc/gunicorn.conf.py"), "--workers", "1"]
    environment = {**os.environ, VARIABLE: str(tmp_path / "config.toml"), "PYTHONPATH": str(ROOT)}
    environment.pop("JOURNAL_STREAM", None)
    done = subprocess.run(
        [*command, "--bind", f"127.0.0.1:{free_port()}", "ucloud_slurm.wsgi:app"],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert {line["logger"].split(".")[0] for line in lines} == {"gunicorn", "ucloud_slurm"}
    assert any("config.toml" in line["message"] or "root" in line["message"] for line in lines)
