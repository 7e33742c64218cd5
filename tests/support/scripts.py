"""Batch scripts for tests: built as the product builds them, and really run, with programs that tell what they got."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.factories import job_data
from ucloud_slurm.bridge.naming import LocalUser
from ucloud_slurm.bridge.script.build import batch_job
from ucloud_slurm.bridge.script.resources import Plan
from ucloud_slurm.bridge.template.render import render
from ucloud_slurm.config import ApplicationsSection, ContainersSection, FilesRoot, Product, parse_table
from ucloud_slurm.slurm.records import Submission
from ucloud_slurm.ucloud.jobs import Job
from ucloud_slurm.ucloud.wire import from_data

PLAN = Plan(nodes=1, cpus=1, memory=1024, gres=None, minutes=60)

# Written by hand, so that only bash and cat are between the script and the test.
TELL = """#!/bin/bash
printf '%s\\0' "$@" > {seen}/arguments
cat /proc/self/environ > {seen}/environment
"""


def build(
    plan: Plan = PLAN,
    *,
    folder: str = "{home}/ucloud-jobs",
    home: str = "/home/someone",
    user: str = "someone",
    account: str | None = None,
    project: str | None = None,
    roots: Sequence[Mapping[str, Any]] = (),
    containers: Mapping[str, Any] | None = None,
    applications: Mapping[str, Any] | None = None,
    modules_init: str | None = None,
    url: str | None = None,
    **more: Any,
) -> Submission:
    """A batch job. ``more`` goes to the product where it has such a key, else to the job."""
    own = {key: more.pop(key) for key in list(more) if key in Product.__dataclass_fields__ and key != "id"}
    base = {"id": "example-compute-1", "category": "example-compute", "partition": "cpu", "account": "proj-a"}
    data = job_data(**more)
    data["owner"]["project"] = project
    made = from_data(Job, data)
    app = made.status.resolved_application
    assert app is not None
    return batch_job(
        made,
        app,
        parse_table(Product, base | own),
        plan,
        LocalUser(user, home, "/bin/bash"),
        provider="example",
        folder=folder,
        account=account,
        sessions_url=url,
        roots=[parse_table(FilesRoot, root) for root in roots],
        containers=parse_table(ContainersSection, containers or {}),
        applications=parse_table(ApplicationsSection, applications or {}),
        render=render,
        modules_init=modules_init,
    )


@dataclass
class Seen:
    """What became of a script: its end, and what the program got."""

    status: int
    errors: str
    arguments: list[bytes] | None
    environment: dict[bytes, bytes]


class Node:
    """A folder that plays a compute node: job folders, and programs in front of those of the machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.jobs = folder / "jobs"
        self.seen = folder / "seen"
        self.programs = folder / "programs"
        for path in (self.jobs / "54112", self.seen, self.programs):
            path.mkdir(parents=True)

    def program(self, name: str, text: str | None = None) -> str:
        """Installs a program; without a text it is one that tells what it got."""
        path = self.programs / name
        path.write_text(text or TELL.format(seen=self.seen))
        path.chmod(0o755)
        return str(path)

    def run(self, submission: Submission, **environment: str) -> Seen:
        """Runs the script of a job as Slurm would."""
        for path in self.seen.iterdir():
            path.unlink()
        given = {"PATH": f"{self.programs}:{os.environ['PATH']}", "SLURM_JOB_NODELIST": "n1", "LANG": "C.UTF-8"}
        script = self.folder / "script"
        script.write_text(submission.script, encoding="utf-8")
        done = subprocess.run(
            ["/bin/bash", str(script)],
            env=given | environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=30,
        )
        arguments, variables = self.seen / "arguments", self.seen / "environment"
        return Seen(
            done.returncode,
            done.stderr.decode(errors="replace"),
            arguments.read_bytes().split(b"\0")[:-1] if arguments.exists() else None,
            dict(pair.split(b"=", 1) for pair in variables.read_bytes().split(b"\0")[:-1]) if variables.exists() else {},
        )
