"""Where everything of the private cluster is: its settings, ports, nodes, folders and files."""

import os
import pwd
import shutil
import socket
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.sandbox import database, packages, slurm_conf
from tests.sandbox.errors import SandboxError
from tests.sandbox.servers import ALL_MINE, PACKAGED
from tests.sandbox.slurm_conf import GPUS, ClusterFacts, Node

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """What kind of cluster, and where.

    :ivar folder: everything it writes is in here; other accounts must be able to reach it
    :ivar base_port: its TCP ports are between this one and the one 100 + ``nodes`` above it
    :ivar nodes: number of plain nodes, n1 and on; g1 with fake GPUs comes on top where devices can be made
    :ivar cpus: CPUs that each node claims to have
    :ivar accounting: whether there is a database
    :ivar min_job_age: seconds that slurmctld remembers ended jobs
    """

    folder: Path = Path("/var/tmp/ucloud-slurm-sandbox")  # Folder.prepare looks whose it is
    base_port: int = 17000
    nodes: int = 4
    cpus: int = 16
    accounting: bool = True
    min_job_age: int = 10


class Layout:
    """The facts and files of one sandbox, as the calling account sees them."""

    def __init__(self, settings: ClusterSettings) -> None:
        self.settings = settings
        self.folder = settings.folder
        self.conf = settings.folder / "etc" / "slurm.conf"
        self.root = os.geteuid() == 0
        self.caller = pwd.getpwuid(os.geteuid()).pw_name
        self.owners = PACKAGED if self.root else ALL_MINE
        self._host = socket.gethostname().partition(".")[0]
        self.address = LOOPBACK

    def facts(self) -> ClusterFacts:
        """Gather what the configuration depends on."""
        base = self.settings.base_port
        nodes = [Node(f"n{number}", base + 100 + number) for number in range(1, self.settings.nodes + 1)]
        if self._has_gpus():
            nodes.append(Node("g1", base + 100, GPUS))
        return ClusterFacts(
            folder=self.folder,
            name=f"sandbox{base}",
            host=self._host,
            address=self.address,
            bind_address=_leads_to_loopback(self._host),
            controller_port=base + 17,
            accounting_port=base + 19,
            database_port=base + 6,
            nodes=tuple(nodes),
            cpus=self.settings.cpus,
            accounting=self.settings.accounting,
            min_job_age=self.settings.min_job_age,
            daemon_user=self.owners.slurm or self.caller,
            node_user=self.caller,
        )

    def _has_gpus(self) -> bool:
        if not (self.folder / "dev").exists():
            return self.root  # to be made; without root the kernel refuses devices
        return all(_is_device(device) for device in self._gpu_devices())

    def _gpu_devices(self) -> list[Path]:
        return [self.folder / "dev" / f"gpu{number}" for number in range(GPUS)]

    def make_folders(self) -> None:
        """Make the folders that are not there, for the accounts that write into them, and the fake GPUs."""
        owners = self.owners
        folders: list[tuple[str, str | None, int]] = [
            ("dev", None, 0o755),
            ("etc", None, 0o755),
            ("log", owners.slurm, 0o755),
            ("munge", owners.munge, 0o711),
            ("out", None, 0o755),
            ("pid", owners.slurm, 0o755),
            ("run", None, 0o755),
            ("scratch", None, 0o755),
            ("spool", None, 0o755),
            ("state", owners.slurm, 0o700),
        ]
        if self.settings.accounting:
            folders += [("mysql", owners.database, 0o700), ("sorting", owners.database, 0o700)]
        for name, owner, mode in folders:
            folder = self.folder / name
            folder.mkdir(exist_ok=True)
            folder.chmod(mode)
            _give(folder, owner)
        self._make_gpus()

    def _make_gpus(self) -> None:
        for device in self._gpu_devices():
            if not device.exists():
                with suppress(PermissionError):  # then it is a cluster without GPUs
                    os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))  # a second /dev/null
                    device.chmod(0o666)

    def check_unchanged(self, *, alive: bool) -> None:
        """Refuse to steer a cluster that was made with other settings.

        :param alive: whether servers run that have read the configuration that is there
        :raises SandboxError: when it is not the one that these settings give
        """
        if alive and self.conf.exists() and self.conf.read_text() != slurm_conf.slurm_conf(self.facts()):
            raise SandboxError(f"A sandbox with other settings runs in {self.folder}; stop it or choose another folder.")

    def write_files(self) -> None:
        """Write the configuration, and the secrets that are not there yet."""
        facts = self.facts()
        etc = self.conf.parent
        self.conf.write_text(slurm_conf.slurm_conf(facts))
        (etc / "gres.conf").write_text(slurm_conf.gres_conf(facts))
        (etc / "plugstack.conf").touch()
        for name in ("slurm.conf", "gres.conf", "plugstack.conf"):
            (etc / name).chmod(0o644)
        self._write_cgroup_conf(etc / "cgroup.conf")
        key = self.folder / "munge" / "key"
        if not key.exists():
            _write_secret(key, os.urandom(1024), self.owners.munge)
        if self.settings.accounting:
            (etc / "my.cnf").write_text(slurm_conf.my_cnf(facts))
            (etc / "my.cnf").chmod(0o644)
            secret = slurm_conf.slurmdbd_conf(facts, database.password(self.folder))
            _write_secret(etc / "slurmdbd.conf", secret.encode(), self.owners.slurm)

    def _write_cgroup_conf(self, file: Path) -> None:
        text = slurm_conf.cgroup_conf(packages.release())
        if text is None:
            file.unlink(missing_ok=True)
        else:
            file.write_text(text)
            file.chmod(0o644)

    def forget_state(self) -> None:
        """Delete what slurmctld and the nodes remember of jobs."""
        for name in ("state", "spool"):
            shutil.rmtree(self.folder / name)
        self.make_folders()


def _write_secret(file: Path, content: bytes, owner: str | None) -> None:
    file.unlink(missing_ok=True)
    file.touch(mode=0o600)
    file.write_bytes(content)
    _give(file, owner)


def _give(path: Path, owner: str | None) -> None:
    if owner is not None:
        entry = pwd.getpwnam(owner)
        os.chown(path, entry.pw_uid, entry.pw_gid)


def _is_device(path: Path) -> bool:
    try:
        return stat.S_ISCHR(path.stat().st_mode)
    except OSError:
        return False


def _leads_to_loopback(host: str) -> bool:
    """Tell whether a name leads to 127.0.0.1, so that Slurm may bind what its name leads to.

    Debian's usual 127.0.1.1 will not do: srun 22.05 then listens there, and is looked for at 127.0.0.1.
    """
    try:
        return socket.gethostbyname(host) == LOOPBACK
    except OSError:
        return False
