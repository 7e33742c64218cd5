"""The ready hook on the real cluster: accounts, memberships and limits are made, and what is sent by hand stops."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.cluster import Cluster
from tests.sandbox.processes import wait_until
from tests.support.slurm_accounts import PATH

pytestmark = pytest.mark.beside
PROJECT = "hook-7f3a"


def event(kind: str, **body: Any) -> dict[str, Any]:
    return {"id": "1", "event": kind, "at": 1.0, "provider": "example", **body}


def of_project(*users: str) -> dict[str, Any]:
    members = [{"username": f"{user}#1", "user": user, "uid": 1} for user in users]
    return event("project-changed", project=PROJECT, title="Physics", account=None, members=members)


def of_wallet(*, locked: bool) -> dict[str, Any]:
    of = {"owner_kind": "project", "owner": PROJECT, "account": None, "user": None}
    return event("wallet-changed", category="example-compute", locked=locked, quota=1000, usage=0, **of)


def test_the_ready_hook_makes_accounts_members_and_limits_of_slurm(cluster: Cluster, tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text('[limits.example-compute]\ntres = "cpu"\nminutes = 2\n')

    def run(what: dict[str, Any], *words: str) -> str:
        done = subprocess.run(
            [sys.executable, PATH, f"--settings={settings}", f"--state={tmp_path / 'state'}", *words],
            input=json.dumps(what),
            env=os.environ | cluster.environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def shown() -> list[str]:
        names = "format=account,user,grptresmins"
        return cluster.run("sacctmgr", "-nP", "show", "assoc", f"account={PROJECT}", names).splitlines()

    def by_hand() -> str:
        words = ("sbatch", "--parsable", f"--account={PROJECT}", "--time=1", "--chdir=/tmp", "--output=/dev/null")
        return cluster.run(*words, "--wrap=true", user="alice").strip()

    try:
        assert run(of_project("alice"), "--dry-run").splitlines()[1] == f"sacctmgr -i add user alice account={PROJECT}"
        assert shown() == []
        run(of_project("alice", "bob"))
        run(of_wallet(locked=False))
        made = [f"{PROJECT}||cpu=2000", f"{PROJECT}|alice|", f"{PROJECT}|bob|"]
        assert shown() == made
        for what in (of_project("alice", "bob"), of_wallet(locked=False)):
            assert run(what, "--dry-run") == "", "the same event twice changes nothing"
            run(what)
        assert shown() == made
        run(of_project("alice"))
        run(of_wallet(locked=True))
        assert shown() == [f"{PROJECT}||cpu=0", f"{PROJECT}|alice|"]
        job = by_hand()
        reason = ("squeue", "--noheader", f"--jobs={job}", "--format=%r")
        wait_until("it waits", lambda: cluster.run(*reason).strip() not in ("", "None", "Priority"), seconds=60)
        assert cluster.run(*reason).strip() == "AssocGrpCPUMinutesLimit"
        cluster.run("scancel", job)
        wait_until("it has ended", lambda: not cluster.run("squeue", "--noheader", "--account", PROJECT).strip(), seconds=60)
        run(event("person-left", username="alice#1", user="alice", uid=1, projects=[]))
        assert shown() == [f"{PROJECT}||cpu=0"]
        known = cluster.run("sacctmgr", "-nP", "show", "assoc", "user=alice", "format=account").split()
        assert "proj-a" in known, "what it has not made stays"
    finally:
        cluster.run("sacctmgr", "-i", "delete", "account", PROJECT)
