"""A pass starts every few seconds, mostly to find that nothing has changed: it loads only what that takes."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conftest import START
from tests.sandbox.core import SimulatedCore
from tests.support.config_file import write_config
from tests.support.factories import accept_live, job, new_job
from ucloud_slurm.app import create_app
from ucloud_slurm.config import VARIABLE, read
from ucloud_slurm.config.kept import FOLDER_VARIABLE
from ucloud_slurm.errors import Misconfigured
from ucloud_slurm.slurm import parse
from ucloud_slurm.store.caches import Cache
from ucloud_slurm.store.jobs import Jobs
from ucloud_slurm.store.observations import Observations
from ucloud_slurm.store.sqlite import Store
from ucloud_slurm.system.accounts import own_account
from ucloud_slurm.ucloud.products import ComputeProduct

# What is slow to load, and what an unchanged job needs of it: nothing.
SLOW = (
    "asyncio",
    "click",
    "concurrent.futures",
    "cryptography",
    "email",
    "flask",
    "gunicorn",
    "importlib.metadata",
    "inotify_simple",
    "jinja2",
    "jwt",
    "prometheus_client",
    "pydantic",
    "pydantic_core",
    "requests",
    "simple_websocket",
    "sqlite_utils",
    "tenacity",
    "tomllib",
    "urllib3",
    "wsproto",
    "ucloud_slurm.bridge.script",
    "tests.sandbox",
    "ucloud_slurm.ucloud.applications",
    "ucloud_slurm.ucloud.core",
    "ucloud_slurm.provider.identities",
    "ucloud_slurm.provider.submission",
    "ucloud_slurm.store.codes",
    "ucloud_slurm.store.sessions",
    "ucloud_slurm.store.transfers",
    "ucloud_slurm.ucloud.wire",
    "ucloud_slurm.users.files",
    "ucloud_slurm.users.linking",
    "ucloud_slurm.web",
)

# The pass as the timer starts it; a test may run as root.
PASS = """
import json, sys, time
time.time = lambda: {start}
from ucloud_slurm.__main__ import main
from ucloud_slurm.users import service
service.refuse_root = lambda: None
sys.argv[1:] = ["worker"]
try:
    main()
except SystemExit as end:
    print(json.dumps([end.code, sorted(sys.modules)]))
"""


def idle_pass(folder: Path) -> tuple[int, list[str]]:
    """The exit status of a pass in a process of its own, and the modules that it has loaded."""
    done = subprocess.run(
        [sys.executable, "-c", PASS.format(start=START)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        env=os.environ | {VARIABLE: str(folder / "config.toml"), FOLDER_VARIABLE: str(folder)},
    )
    status, modules = json.loads(done.stdout)
    assert done.stderr == ""
    return status, modules


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site with one live job, and a squeue that lists it as it is known."""
    store, me = Store(tmp_path / "test.db"), own_account()
    (tmp_path / "token").write_text("token")
    jobs, body = Jobs(store), job().model_dump_json(by_alias=True)
    accept_live(jobs, new_job("1", local_user=me, body=body, accepted_at=START), 7, 5)
    Observations(store).confirmed(["1"], START)
    store.change(
        "update jobs set run_submitted = 5, slurm_state = 'PENDING', time_limit = 60, shape = 'cpu 1/1/0 ucloud-1', "
        "waits_for = 'line'"
    )
    store.change("insert into caches (kind, key, value, stored_at) values ('compared', '', 'done', ?)", [START])
    for part in ("slurm", "ucloud"):
        store.change("insert into health (part, answering_since, ask_again_at) values (?, ?, 0)", [part, START])
    store.close()
    fields = ["7", "PENDING", "5", "N/A", "0:00", "1", "1", str(os.geteuid()), me]
    fields += ["Priority", "", "1:00:00", "a", "cpu", "0", "cpu=1", "ucloud-1"]
    squeue = tmp_path / "squeue"
    squeue.write_text(
        '#!/bin/sh\nfor word in "$@"; do case $word in --Format=*) mark=${word##*' + parse.END + "};; esac; done\n"
        f"printf '%s{parse.SEPARATOR}{parse.END}%s\\n' '{parse.SEPARATOR.join(fields)}' \"$mark\"\n"
    )
    os.chmod(squeue, 0o755)  # noqa: PTH101
    write_config(tmp_path)
    return tmp_path


def test_an_idle_pass_loads_nothing_that_is_for_asking_or_building(site: Path) -> None:
    status, modules = idle_pass(site)  # the first one checks the configuration, and keeps it
    assert (status, "pydantic" in modules) == (0, True)
    status, modules = idle_pass(site)
    assert status == 0
    assert [name for name in modules if f"{name}.".startswith(tuple(f"{slow}." for slow in SLOW))] == []
    assert "ucloud_slurm.worker.poll" in modules


def command(site: Path, *words: str, options: Sequence[str] = ()) -> "subprocess.CompletedProcess[str]":
    """The command as an administrator starts it."""
    environment = os.environ | {VARIABLE: str(site / "config.toml"), FOLDER_VARIABLE: str(site)}
    code = "from ucloud_slurm.users import service; service.refuse_root = lambda: None\n"
    code += "from ucloud_slurm.__main__ import main; main()"
    argv = [sys.executable, *options, "-c", code, *words]
    return subprocess.run(argv, capture_output=True, text=True, check=False, env=environment, cwd=Path(__file__).parents[2])


def test_the_pass_of_the_timer_says_the_same_of_a_wrong_file_as_every_command(site: Path) -> None:
    assert idle_pass(site)[0] == 0  # a configuration is kept
    with (site / "config.toml").open("a") as file:
        file.write("[jobs]\ngrace = 30\n[colours]\nx = 1\n")
    said = [command(site, *words) for words in (["worker"], ["worker", "--verbose"], ["jobs"])]
    assert [done.returncode for done in said] == [78, 78, 78]
    assert {done.stderr for done in said} == {said[0].stderr}
    assert [line.partition("config.toml: ")[2][:12] for line in said[0].stderr.splitlines()] == ["jobs.grace: ", "colours is n"]


@pytest.mark.parametrize("words", [["jobs"], ["show", "1"], ["outbox"]])
def test_commands_that_show_the_database_load_no_models_of_messages(site: Path, words: list[str]) -> None:
    assert idle_pass(site)[0] == 0
    product = {"name": "example-compute-1", "category": {"name": "example-compute", "provider": "example"}, "cpu": 64}
    kept, store = ComputeProduct.model_validate(product).model_dump_json(by_alias=True), Store(site / "test.db")
    Cache(store, "product").put("example-compute\nexample-compute-1", kept, time.time())
    store.close()
    done = command(site, *words, options=["-X", "importtime"])
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert done.returncode == 0
    assert "ucloud_slurm.provider.billing" in loaded
    assert not {"pydantic", "tomllib", "requests", "jinja2", "ucloud_slurm.ucloud.wire"} & loaded


def test_the_service_does_not_start_with_a_key_or_a_token_that_cannot_be_read(
    site: Path, core: SimulatedCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ucloud_slurm.app.refuse_root", lambda: None)
    with pytest.raises(Misconfigured, match=r"ucloud.public_key_file: .*cannot be read"):
        create_app(read(site / "config.toml"))
    (site / "key").write_text(core.public_key)
    (site / "token").unlink()
    with pytest.raises(Misconfigured, match=r"ucloud.refresh_token_file: .*cannot be read"):
        create_app(read(site / "config.toml"))
