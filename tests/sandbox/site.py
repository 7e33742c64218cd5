"""A site as an administrator would install it: configuration, keys, gunicorn and the worker, as their own account."""

import grp
import json
import os
import pwd
import re
import socket
import sqlite3
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from tests.sandbox import packages, sudo
from tests.sandbox.accounts import GROUP
from tests.sandbox.cluster import Cluster
from tests.sandbox.core import SimulatedCore
from tests.sandbox.errors import SandboxError
from tests.sandbox.installation import Installation
from tests.sandbox.processes import answers, wait_until

PRODUCTS: tuple[dict[str, Any], ...] = (
    {"id": "example-compute-1", "category": "example-compute", "partition": "cpu"},
    {"id": "example-compute-4", "category": "example-compute", "partition": "cpu"},
)
START_SECONDS = 20.0
GUNICORN = Path(__file__).parents[2] / "etc/gunicorn.conf.py"
GUNICORN_FILES = GUNICORN.with_name("gunicorn-files.conf.py")
FILES_UNIT = Path(__file__).parents[2] / "systemd/ucloud-slurm-files.service"


@dataclass(frozen=True, slots=True)
class SiteSettings:
    """What differs from site to site.

    :ivar tables: adds to or replaces tables of the configuration
    :ivar links: local users by users of UCloud; with some, jobs run as those, through the runner
    """

    folder: Path
    workers: int = 1
    threads: int = 16
    products: Sequence[Mapping[str, Any]] = PRODUCTS
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    outside: Sequence[Mapping[str, Any]] = ()
    files: Sequence[Mapping[str, Any]] = ()
    drives: Sequence[Mapping[str, Any]] = ()
    conf: Path | None = None
    commands: Path | None = None
    database: Path | None = None
    links: Mapping[str, str] = field(default_factory=dict)


class Site:
    """A provider that runs. Everything of it is in one folder that belongs to the service account."""

    def __init__(self, cluster: Cluster, core: SimulatedCore, installation: Installation, settings: SiteSettings) -> None:
        self._cluster = cluster
        self._core = core
        self._installation = installation
        self._settings = settings
        self._account = pwd.getpwnam(cluster.service_user)
        self.processes: list[subprocess.Popen[bytes]] = []
        self.folder = settings.folder
        self.config = self.folder / "config.toml"
        self.database = settings.database or self.folder / "ucloud-slurm.db"
        self.log = self.folder / "log"
        self.url = ""

    # -- installing -----------------------------------------------------------------------------------------

    def install(self) -> None:
        """Makes the folder, the keys and the configuration."""
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.folder.mkdir(parents=True, mode=0o700)
        files = {
            "refresh-token": self._core.refresh_token + "\n",
            "ucloud.pub": self._core.public_key + "\n",
            "config.toml": toml(self._tables()),
            "gunicorn.conf.py": GUNICORN.read_text(),
            "gunicorn-files.conf.py": GUNICORN_FILES.read_text(),
        }
        for name, text in files.items():
            path = self.folder / name
            path.touch(mode=0o600)
            path.write_text(text, encoding="utf-8")
        self.log.touch(mode=0o600)
        for path in (self.folder, *self.folder.iterdir()):
            os.chown(path, self._account.pw_uid, self._account.pw_gid)
        self._core.connect(self.url)

    def _tables(self) -> dict[str, Any]:
        tables: dict[str, Any] = {
            "provider": {"id": self._core.provider, "url": self.url},
            "ucloud": {
                "url": self._core.url,
                "refresh_token_file": str(self.folder / "refresh-token"),
                "public_key_file": str(self.folder / "ucloud.pub"),
                "era": self._core.era.name,
            },
            "database": {"path": str(self.database)},
            "slurm": {
                "backend": "commands",
                "commands": str(self._settings.commands or self._cluster.commands),
                "conf": str(self._settings.conf or self._cluster.conf),
            },
            "jobs": {"folder": str(self.folder / "jobs"), "grace": "5s", "quiet": "6s"},
            "accounting": {"every": "0s"},
        }
        for name, table in self._settings.tables.items():
            tables[name] = tables.get(name, {}) | dict(table)
        if self._settings.links:
            tables["users"] = {
                "mapping": "table",
                "runner": str(self.folder / "runner.sock"),
                "program": str(self._installation.program),
                "group": GROUP,
            } | tables.get("users", {})
            tables["jobs"] = {"grace": "5s", "quiet": "6s"} | dict(self._settings.tables.get("jobs", {}))
        if self._settings.outside:
            tables["outside"] = [dict(rule) for rule in self._settings.outside]
        if self._settings.files:
            tables["files"] = [dict(root) for root in self._settings.files]
        if self._settings.drives:
            tables["drives"] = [dict(rule) for rule in self._settings.drives]
        return tables | {"products": [dict(product) for product in self._settings.products]}

    # -- running --------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts gunicorn and waits until it answers.

        :raises SandboxError: with the end of its log when it does not
        """
        if self._settings.links:
            self._start_runner()
        self.serve()

    def serve(self) -> subprocess.Popen[bytes]:
        """Starts gunicorn alone, and waits until it answers.

        :raises SandboxError: with the end of its log when it does not
        """
        settings = self._settings
        process = self.spawn(
            "-m",
            "gunicorn",
            "-c",
            str(self.folder / "gunicorn.conf.py"),
            # A TCP port, as a site may ask for: nobody holds it for the service, and everybody on this host may connect.
            "--bind",
            self.url.removeprefix("http://"),
            "--workers",
            str(settings.workers),
            "--threads",
            str(settings.threads),
            "--graceful-timeout",
            "5",
            "ucloud_slurm.wsgi:app",
        )
        wait_until("the service", lambda: self._alive() or process.poll() is not None, seconds=START_SECONDS)
        if process.poll() is not None:
            raise SandboxError(f"the service does not start: {self.log.read_text()[-2000:]}")
        return process

    def serve_files(self, *, unix: bool = False) -> str:
        """Starts the file unit, as low in priority as its unit of systemd; gives its address as nginx has it.

        :param unix: listen at a unix socket, as installed, which only nginx can reach
        :raises SandboxError: with the end of its log when it does not start
        """
        port, path = free_port(), self.folder / "files.sock"
        address = f"unix:{path}" if unix else f"127.0.0.1:{port}"
        config = str(self.folder / "gunicorn-files.conf.py")
        process = self.spawn("-m", "gunicorn", "-c", config, "--bind", address, "ucloud_slurm.transfer.wsgi:app")
        os.setpriority(os.PRIO_PROCESS, process.pid, nice(FILES_UNIT))

        def is_up() -> bool:
            return path.exists() if unix else answers("127.0.0.1", port)

        wait_until("the file unit", lambda: is_up() or process.poll() is not None, seconds=START_SECONDS)
        if process.poll() is not None:
            raise SandboxError(f"the file unit does not start: {self.log.read_text()[-2000:]}")
        return f"http://{address}"

    def _start_runner(self) -> None:
        packages.install(packages.missing(("sudo",)), self._cluster.folder / "apt-get.log", print)
        sudo.allow(self._cluster, self._installation.program, GROUP)
        for person, account in self._settings.links.items():
            self.cli("users", "add", person, account)
        self.run_runner()

    def run_runner(self) -> subprocess.Popen[bytes]:
        """Starts the runner alone."""
        process = self.spawn("-m", "ucloud_slurm", "runner")
        wait_until("the runner", (self.folder / "runner.sock").exists, seconds=START_SECONDS)
        return process

    def loop(self, seconds: float) -> subprocess.Popen[bytes]:
        """Starts the worker, with a pass every so many seconds."""
        return self.spawn("-m", "ucloud_slurm", "worker", "--loop", str(seconds))

    def listen(self) -> subprocess.Popen[bytes]:
        """Starts the listener."""
        return self.spawn("-m", "ucloud_slurm", "listener")

    def cli(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs ``ucloud-slurm`` as the service account."""
        return subprocess.run(
            [self._installation.python, "-m", "ucloud_slurm", *arguments],
            env=self.environment(),
            cwd="/",
            capture_output=True,
            text=True,
            timeout=120,
            check=check,
            **self._identity(),
        )

    def rows(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        """What the database says. It costs less than a command, which has to start."""
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=30)) as db:
            db.row_factory = sqlite3.Row
            return [dict(row) for row in db.execute(sql, values)]

    def spawn(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Starts a Python program of the product as the service account; its output goes to the log."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [self._installation.python, *arguments],
                env=self.environment(),
                cwd=self.folder,  # as the units begin in a folder of their own
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._identity(),
            )
        self.processes.append(process)
        return process

    def stop(self) -> None:
        """Ends all processes of the site."""
        for process in self.processes:
            process.terminate()
        for process in [*self.processes]:
            self.end(process)

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """Ends one of them."""
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self.processes.remove(process)

    def environment(self) -> dict[str, str]:
        """The environment of the site's processes."""
        return self._installation.environment() | {
            "UCLOUD_SLURM_CONFIG": str(self.config),
            "CACHE_DIRECTORY": str(self.folder),
            "PATH": "/usr/bin:/bin",
            "HOME": self._account.pw_dir,
            "LANG": "C.UTF-8",
        }

    def _identity(self) -> dict[str, Any]:
        if os.geteuid() != 0:
            return {}
        groups = [group.gr_gid for group in grp.getgrall() if self._account.pw_name in group.gr_mem]
        return {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": groups, "umask": 0o077}

    def _alive(self) -> bool:
        try:
            return requests.get(f"{self.url}/healthz", timeout=1).ok
        except requests.RequestException:
            return False


def toml(tables: Mapping[str, Any]) -> str:
    """A configuration file; JSON's strings and numbers are TOML's."""
    lines: list[str] = []
    for name, table in tables.items():
        for entry in table if isinstance(table, list) else [table]:
            lines.append(f"[[{name}]]" if isinstance(table, list) else f"[{name}]")
            lines += [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in entry.items()]
            lines.append("")
    return "\n".join(lines)


def nice(unit: Path) -> int:
    """What a unit of systemd has as ``Nice=``."""
    found = re.search(r"^Nice=(-?\d+)$", unit.read_text(), re.MULTILINE)
    return int(found[1]) if found else 0


def free_port() -> int:
    """A TCP port of the loopback address that is free at the moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
