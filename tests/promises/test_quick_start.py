"""A pass starts every few seconds, mostly to find that nothing has changed: it loads only what that takes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import START
from tests.support.config_file import write_config
from tests.support.factories import accept_live, job, new_job
from ucloud_slurm.app import create_app
from ucloud_slurm.config import read
from ucloud_slurm.errors import Misconfigured
from ucloud_slurm.slurm import parse
from ucloud_slurm.store.jobs import Jobs
from ucloud_slurm.store.observations import Observations
from ucloud_slurm.store.sqlite import Store
from ucloud_slurm.system.accounts import own_account

# What is slow to load, and what an unchanged job needs of it: nothing.
SLOW = (
    "cryptography",
    "flask",
    "gunicorn",
    "jinja2",
    "jwt",
    "prometheus_client",
    "requests",
    "simple_websocket",
    "sqlite_utils",
    "tenacity",
    "urllib3",
    "wsproto",
    "ucloud_slurm.bridge.script.build",
    "tests.sandbox",
    "ucloud_slurm.ucloud.applications",
    "ucloud_slurm.ucloud.core",
    "ucloud_slurm.ucloud.jobs",
    "ucloud_slurm.users.linking",
    "ucloud_slurm.web",
)

# The pass as the timer starts it; a test may run as root.
PASS = """
import json, sys, time
time.time = lambda: {start}
from ucloud_slurm.cli import context
from ucloud_slurm.cli.main import main
context.refuse_root = lambda: None
try:
    main(["--config", sys.argv[1], "worker"])
except SystemExit as end:
    print(json.dumps([end.code, sorted(sys.modules)]))
"""


def idle_pass(folder: Path) -> tuple[int, list[str]]:
    """The exit status of a pass in a process of its own, and the modules that it has loaded."""
    done = subprocess.run(
        [sys.executable, "-c", PASS.format(start=START), str(folder / "config.toml")],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
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
    status, modules = idle_pass(site)
    assert status == 0
    assert [name for name in modules if name in SLOW] == []
    assert "ucloud_slurm.worker.poll" in modules


def test_the_service_does_not_start_with_a_key_that_cannot_be_read(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ucloud_slurm.app.refuse_root", lambda: None)
    with pytest.raises(Misconfigured, match=r"ucloud.public_key_file: .*cannot be read"):
        create_app(read(site / "config.toml"))
