"""The backends of the Scheduler, as the service account uses them on the running cluster."""

import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.cluster import Cluster
from tests.sandbox.commands import identity_of
from tests.sandbox.errors import SandboxError
from tests.sandbox.installation import Installation
from tests.sandbox.processes import wait_until

DRIVER = Path(__file__).parent / "driver.py"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The tests of a site with pyslurm need a Slurm for which it was built."""
    demanded = config.getoption("--backend", default=None) == "pyslurm"
    return True if collection_path.name.startswith("test_real_pyslurm") and not demanded else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The contract holds for the commands always, and for pyslurm where it can be loaded or is demanded."""
    if "backend" in metafunc.fixturenames:
        wanted = metafunc.config.getoption("--backend")
        both = wanted == "pyslurm" or (wanted is None and _loads())
        metafunc.parametrize("backend", ["commands", "pyslurm"] if both else ["commands"], scope="session")


@functools.cache
def _loads() -> bool:
    env = os.environ | {"PYSLURM_DISABLE_AUTO_INIT": "1"}
    load = [sys.executable, "-c", "import pyslurm; pyslurm.JobSubmitDescription"]
    return subprocess.run(load, env=env, capture_output=True, check=False, timeout=60).returncode == 0


class Failed(Exception):
    """What a call of the Scheduler raised, by name."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind
        self.text = text


class Backend:
    """A backend in a process of the service account's. A record is a dictionary here, and a state its name."""

    def __init__(
        self, cluster: Cluster, installation: Installation, name: str, runner: Path | None = None, user: str = ""
    ) -> None:
        """Starts the process.

        :param runner: socket of a runner, through which jobs are submitted as ``user``
        """
        who = identity_of(cluster.service_user)
        self.name = name
        # The account may not be able to read the checkout, so it is given the text.
        self._process = subprocess.Popen(
            [
                *(installation.python, "-c", DRIVER.read_text(), name, str(cluster.commands), str(cluster.conf)),
                *([str(runner), user] if runner else []),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
            env=installation.environment(),
            user=who.uid,
            group=who.gid,
            extra_groups=who.groups,
        )

    def __call__(self, call: str, *arguments: Any) -> Any:
        """Calls a method of the Scheduler.

        :raises Failed: when it raises
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps([call, *arguments]), file=self._process.stdin, flush=True)
        answer = json.loads(self._process.stdout.readline())
        if "raised" in answer:
            raise Failed(answer["raised"], answer["text"])
        return answer["done"]

    def ready(self) -> None:
        """Waits until pyslurm is used, where it is to be."""
        try:
            wait_until("pyslurm can be used", lambda: bool(self("ready", 5.0)), seconds=120)
        except SandboxError:
            pytest.fail(f"pyslurm cannot be used: {self('reason')}")

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


@pytest.fixture(scope="session")
def commands(cluster: Cluster, installation: Installation) -> Iterator[Backend]:
    """Slurm's commands, each of which is started for its call."""
    backend = Backend(cluster, installation, "plain")
    yield backend
    backend.close()


@pytest.fixture(scope="session")
def chosen(cluster: Cluster, installation: Installation, backend: str) -> Iterator[Backend]:
    """The backend of this run of the contract."""
    one = Backend(cluster, installation, backend)
    yield one
    one.close()


@pytest.fixture
def slurm(chosen: Backend, cluster: Cluster) -> Iterator[Backend]:
    """The backend of this run, ready; its jobs are cancelled afterwards."""
    chosen.ready()
    yield chosen
    cluster.run("scancel", f"--user={cluster.service_user}")
