"""A systemd that lives: the first process of a world of its own, in which the units are installed and started.

The world has this machine's files, but for the places where an administrator installs the product and where systemd
looks for units: those are its own, and nothing is left of them when it ends. Its processes end with it.
"""

import grp
import os
import pwd
import shlex
import shutil
import socket
import subprocess
import sys
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.sandbox import nginx, packages
from tests.sandbox.cluster import Cluster
from tests.sandbox.core import SimulatedCore
from tests.sandbox.installation import Installation
from tests.sandbox.processes import find, wait_until
from tests.sandbox.site import free_port, toml
from tests.sandbox.unix_http import get
from ucloud_slurm.users import bundle

ROOT = Path(__file__).parents[2]
SYSTEMD = Path("/lib/systemd/systemd")
# What ours lean on, without what those would do to this machine.
TARGETS = ("sysinit", "basic", "shutdown", "multi-user", "timers", "sockets", "network-online", "umount", "final")
JOURNAL = ("systemd-journald.service", "systemd-journald.socket", "systemd-journald-dev-log.socket")
SERVICES = tuple(
    f"ucloud-slurm{part}.service" for part in ("", "-worker", "-listener", "-link", "-backup", "-files", "-standby")
)
WANTED = (
    "ucloud-slurm.socket",
    "ucloud-slurm.service",
    "ucloud-slurm-worker.timer",
    "ucloud-slurm-listener.service",
    "ucloud-slurm-backup.timer",
    "ucloud-slurm-runner.socket",
    "ucloud-slurm-link.socket",
    "ucloud-slurm-files.socket",
)
WEB_SOCKET = "/run/ucloud-slurm/web.sock"
PROXY_GROUP = "ucloud-slurm-proxy"
PROXY_USER = "www-data"
NGINX_UNIT = """
[Unit]
Description=nginx
DefaultDependencies=no
[Service]
ExecStart=/usr/sbin/nginx -c /run/world/nginx/nginx.conf
KillMode=mixed
LimitNOFILE=65536
"""
OWN_PLACES = (
    *("/usr/lib/systemd/system", "/etc/systemd", "/var/lib/systemd", "/etc/sudoers.d", "/etc/ucloud-slurm"),
    *("/var/lib/ucloud-slurm", "/opt"),
)
PROGRAMS = {
    "ucloud-slurm": "from ucloud_slurm.cli.main import main\nmain()",
    "gunicorn": "from gunicorn.app.wsgiapp import run\nrun()",
}

ENTER = """
set -e
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock /run/world
mount --bind "$1" /run/world
mkdir /run/cluster /run/homes
mount --bind "$2" /run/cluster
mount --bind "$3" /run/homes
for place in /tmp /var/tmp; do
    mount -t tmpfs -o mode=1777 tmpfs "$place"
done
mkdir -p "$2" "$3"
mount --bind /run/cluster "$2"
mount --bind /run/homes "$3"
mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
cp -a /etc /run/etc
mount --bind /run/etc /etc
for place in {places}; do
    mkdir -p "$place"
    mount -t tmpfs -o mode=755 tmpfs "$place"
done
echo '{proxy}' >> /etc/group
umask 022
cp -r /run/world/root/. /
chmod 0440 /etc/sudoers.d/*
chown root:{account} /etc/ucloud-slurm/*
chmod 0640 /etc/ucloud-slurm/*
systemd-tmpfiles --create ucloud-slurm.conf
container=other exec {systemd} --system --unit=ours.target --log-target=null --show-status=no
"""


class Living:
    """A systemd with the product installed as the guide says, and a Core that it serves. Needs root.

    :ivar jobs: the folder of jobs that run as the service's own account
    :ivar first: its first process, as this machine numbers it
    """

    def __init__(self, cluster: Cluster, installation: Installation, core: SimulatedCore) -> None:
        self._cluster = cluster
        self._installation = installation
        self._core = core
        self._folder = cluster.folder / "living"
        self._process: subprocess.Popen[bytes] | None = None
        self.first = 0
        self._address = f"127.0.0.1:{free_port()}"
        self.jobs = cluster.folder / "living-jobs"

    def start(self, **tables: Mapping[str, Any]) -> None:
        """Installs, starts and waits until the units can be started.

        :param tables: added to the configuration
        """
        packages.install(packages.missing(packages.LIVING), self._cluster.folder / "apt-get.log", print)
        shutil.rmtree(self._folder, ignore_errors=True)
        account = pwd.getpwnam(self._cluster.service_user)
        self.jobs.mkdir(mode=0o700, exist_ok=True)
        os.chown(self.jobs, account.pw_uid, account.pw_gid)
        self._install()
        self._configure(tables)
        self._prepare_nginx()
        taken = {group.gr_gid for group in grp.getgrall()}
        gid = next(number for number in range(64_000, 65_000) if number not in taken)
        proxy = f"{PROXY_GROUP}:x:{gid}:{PROXY_USER}"
        enter = ENTER.format(places=" ".join(OWN_PLACES), account=account.pw_name, systemd=SYSTEMD, proxy=proxy)
        # Another cluster, which was there first, may have made the accounts of the people.
        places = (self._folder, self._cluster.folder, Path(pwd.getpwnam("alice").pw_dir).parent)
        namespaces = ["--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "--cgroup"]
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                ["unshare", *namespaces, "bash", "-c", enter, "bash", *map(str, places)], stdout=log, stderr=log
            )
        wait_until("systemd", self._is_up, seconds=30)

    def _is_up(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise AssertionError((self._folder / "log").read_text())
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        self.first = int(children[0]) if children else 0
        return bool(children) and self.systemctl("is-active", "ours.target", check=False) == "active"

    def stop(self) -> None:
        """Ends all of it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            first = find(self.first)
            wait_until("its processes are gone", lambda: first is None or not first.alive(), seconds=30)
        shutil.rmtree(self._folder, ignore_errors=True)
        shutil.rmtree(self.jobs, ignore_errors=True)

    # -- installing -----------------------------------------------------------------------------------------

    def _install(self) -> None:
        root = self._folder / "root"
        targets, units = root / "usr/lib/systemd/system", root / "etc/systemd/system"
        for folder in (targets, units, root / "etc/sudoers.d", root / "run/tmpfiles.d"):
            folder.mkdir(parents=True)
        for name in TARGETS:
            (targets / f"{name}.target").write_text(f"[Unit]\nDescription={name}\nDefaultDependencies=no\n")
        (targets / "ours.target").write_text("[Unit]\nDefaultDependencies=no\nWants=systemd-journald.service\n")
        for name in JOURNAL:
            shutil.copy(SYSTEMD.parent / "system" / name, targets)
        for unit in (ROOT / "systemd").iterdir():
            if unit.suffix in (".service", ".socket", ".timer"):
                shutil.copy(unit, units)
        for service in SERVICES:
            # Slurm's configuration and the folder of jobs are in a place that PrivateTmp= hides.
            dropin = units / f"{service}.d" / "site.conf"
            dropin.parent.mkdir()
            dropin.write_text(f"[Service]\nBindPaths={self._cluster.folder}\n")
        (units / "nginx.service").write_text(NGINX_UNIT)
        timer = units / "ucloud-slurm-worker.timer.d" / "site.conf"
        timer.parent.mkdir()
        timer.write_text("[Timer]\nOnActiveSec=\nOnActiveSec=1s\nOnUnitActiveSec=3s\n")  # an empty one clears all
        shutil.copy(ROOT / "systemd/ucloud-slurm.tmpfiles", root / "run/tmpfiles.d/ucloud-slurm.conf")
        shutil.copy(ROOT / "etc/sudoers", root / "etc/sudoers.d/ucloud-slurm")
        self._install_programs(root / "opt/ucloud-slurm")

    def _prepare_nginx(self) -> None:
        """The shipped configuration, without TLS."""
        folder = self._folder / "nginx"
        folder.mkdir(mode=0o755)
        text = nginx.shipped(
            "nginx.conf",
            {
                "listen 443 ssl;": f"listen {self._address};",
                "    listen [::]:443 ssl;\n": "",
                "listen 80;": f"listen 127.0.0.1:{free_port()};",
                "    listen [::]:80;\n": "",
                "    ssl_certificate /etc/ssl/certs/hpc.example.org.pem;\n": "",
                "    ssl_certificate_key /etc/ssl/private/hpc.example.org.key;\n": "",
            },
        )
        (folder / "nginx.conf").write_text(nginx.main(Path("/run"), text, user=PROXY_USER, connections=20_000))

    def _install_programs(self, folder: Path) -> None:
        venv.EnvBuilder(symlinks=True).create(folder)
        python = folder / "bin" / "python"
        for link in (folder / "bin").glob("python*"):
            link.unlink()
        python.symlink_to(self._installation.interpreter)
        (folder / "bin" / "python3").symlink_to("python")
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        (folder / "lib" / version / "site-packages" / "ours.pth").write_text(f"{self._installation.folder}\n")
        (folder / "pyvenv.cfg").write_text(
            f"home = {Path(self._installation.interpreter).parent}\ninclude-system-site-packages = false\n"
        )
        for name, lines in PROGRAMS.items():
            (folder / "bin" / name).write_text(f"#!/opt/ucloud-slurm/bin/python -I\n{lines}\n")
            (folder / "bin" / name).chmod(0o755)
        bundle.write(folder / "bin" / bundle.NAME, self._installation.folder)
        for name in ("etc", "systemd"):  # as pip puts them; the checkout may be in a place that this world does not see
            shutil.copytree(ROOT / name, folder / "share/ucloud-slurm" / name)

    def _configure(self, tables: Mapping[str, Mapping[str, Any]]) -> None:
        folder = self._folder / "root/etc/ucloud-slurm"
        folder.mkdir(parents=True)
        for name in ("gunicorn.conf.py", "gunicorn-files.conf.py"):
            shutil.copy(ROOT / "etc" / name, folder)
        (folder / "refresh-token").write_text(self._core.refresh_token)
        (folder / "ucloud.pub").write_text(self._core.public_key)
        usual: dict[str, dict[str, Any]] = {
            "provider": {"id": self._core.provider, "url": f"http://{self._address}"},
            "ucloud": {
                "url": self._core.url,
                "era": self._core.era.name,
                "refresh_token_file": "/etc/ucloud-slurm/refresh-token",
                "public_key_file": "/etc/ucloud-slurm/ucloud.pub",
            },
            "slurm": {"conf": str(self._cluster.conf)},
            "jobs": {"folder": str(self.jobs), "grace": "5s", "quiet": "6s"},
            "accounting": {"every": "0s"},
        }
        products = [{"id": "example-compute-1", "category": "example-compute", "partition": "cpu"}]
        all_ = {name: usual.get(name, {}) | dict(tables.get(name, {})) for name in (*usual, *tables)}
        (folder / "config.toml").write_text(toml(all_ | {"products": products}))
        self._core.connect(f"http://{self._address}")

    # -- using ----------------------------------------------------------------------------------------------

    def argv(self, *argv: str, user: str = "root") -> list[str]:
        """The words that run a command in there."""
        enter = ["nsenter", f"--target={self.first}", "--mount", "--pid", "--uts", "--ipc", "--cgroup"]
        return [*enter, "runuser", "-u", user, "--", *argv] if user != "root" else [*enter, *argv]

    def run(self, *argv: str, user: str = "root", check: bool = True, stdin: str = "") -> str:
        """Runs a command in there; returns what it printed."""
        done = subprocess.run(
            self.argv(*argv, user=user), input=stdin, capture_output=True, text=True, check=False, timeout=90, cwd="/"
        )
        text = (done.stdout + done.stderr).strip()
        assert done.returncode == 0 or not check, f"{shlex.join(argv)} ended with {done.returncode}: {text}"
        return text

    def systemctl(self, *words: str, check: bool = True) -> str:
        """What systemctl(1) says."""
        return self.run("systemctl", "--no-pager", *words, check=check)

    def journal(self, unit: str) -> list[str]:
        """The messages of a unit, oldest first."""
        return self.run("journalctl", "--no-pager", "--output=cat", f"--unit={unit}").splitlines()

    def commands(self) -> list[str]:
        """The command lines of the processes in there."""
        return self.run("ps", "-eo", "args", "--no-headers").splitlines()

    def read(self, path: str) -> str:
        """A file in there."""
        return self.run("cat", path) + "\n"

    def write(self, path: str, text: str) -> None:
        """Writes a file that is there."""
        draft = self._folder / "draft"
        draft.write_text(text)
        self.run("cp", "--no-preserve=all", "/run/world/draft", path)

    def ask(self, path: str, timeout: float = 30.0) -> tuple[int, str]:
        """What the service itself answers to root, past nginx: status and text.

        :raises OSError: nobody answers
        """
        return get(f"/proc/{self.first}/root{WEB_SOCKET}", path, timeout)

    def connect(self) -> socket.socket:
        """A connection of root's to the service that has sent nothing."""
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(f"/proc/{self.first}/root{WEB_SOCKET}")
        return sock

    @property
    def url(self) -> str:
        """Where nginx answers."""
        return f"http://{self._address}"
