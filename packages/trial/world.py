"""A distribution that runs: its own systemd, processes and files, on this machine's network. Needs root."""

import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tests.sandbox.processes import find, wait_until

# What would change this machine, needs a terminal, or fetches something.
MASKED = (
    *("systemd-sysctl.service", "systemd-modules-load.service", "systemd-binfmt.service", "systemd-remount-fs.service"),
    *("getty.target", "console-getty.service", "systemd-networkd.service", "systemd-timesyncd.service", "munge.service"),
    *("apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "dpkg-db-backup.timer", "motd-news.timer"),
)
ENTER = """
set -e
lower=$1 scratch=$2 megabytes=$3
shift 3
mount --make-rprivate /
mount -t tmpfs -o "size=${megabytes}m" tmpfs "$scratch"
root=$scratch/root
mkdir "$scratch/upper" "$scratch/work" "$root"
mount -t overlay -o "lowerdir=$lower,upperdir=$scratch/upper,workdir=$scratch/work" overlay "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup"
mount -t cgroup2 none "$root/sys/fs/cgroup"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
for place; do
    mkdir -p "$root$place"
    mount --bind "$place" "$root$place"
done
for unit in @MASKED@; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
exec chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=other \\
    /lib/systemd/systemd --system --log-target=null --show-status=no
""".replace("@MASKED@", " ".join(MASKED))
ENVIRONMENT = ("env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8")


class World:
    """A copy of a root folder, in which a systemd is the first process. Nothing of it is left at the end.

    :ivar first: its first process, as this machine numbers it
    """

    def __init__(self, root: Path, scratch: Path, places: Sequence[Path] = (), *, megabytes: int = 400) -> None:
        """Describes it.

        :param scratch: an empty folder for what it changes
        :param places: folders of this machine that are there as well, under the same paths
        :param megabytes: the size of its disk, beyond what the root folder has
        """
        self._scratch = scratch
        self._log = scratch.with_name(f"{scratch.name}.log")
        words = [str(root), str(scratch), str(megabytes), *map(str, places)]
        namespaces = ["--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "--cgroup"]
        self._argv = ["unshare", *namespaces, "bash", "-c", ENTER, "bash", *words]
        self._process: subprocess.Popen[bytes] | None = None
        self.first = 0

    def __enter__(self) -> "World":
        self._scratch.mkdir(parents=True)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until("systemd", self._is_up, seconds=60)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._process is not None:
            first = find(self.first)
            self._process.kill()
            self._process.wait()
            wait_until("its processes are gone", lambda: first is None or not first.alive(), seconds=30)
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _is_up(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise SystemExit(f"systemd did not start: {self._log.read_text()}")
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        self.first = int(children[0]) if children else 0
        state = self.said("systemctl", "is-system-running") if children else ""
        return state in ("running", "degraded")

    def run(self, *argv: str, offline: bool = False) -> tuple[int, str]:
        """Runs a command in there: its status, and all that it printed.

        :param offline: without any network
        """
        enter = ["nsenter", f"--target={self.first}", "--mount", "--pid", "--uts", "--ipc", "--cgroup", "--root", "--wd"]
        alone = ["unshare", "--net"] if offline else []
        done = subprocess.run(
            [*enter, *ENVIRONMENT, *alone, *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=300,
        )
        return done.returncode, done.stdout.strip()

    def said(self, *argv: str) -> str:
        """What a command prints, whatever its status is."""
        return self.run(*argv)[1]

    def do(self, *argv: str, offline: bool = False) -> str:
        """What a command prints.

        :raises AssertionError: it failed
        """
        status, text = self.run(*argv, offline=offline)
        assert status == 0, f"{shlex.join(argv)} ended with {status}: {text}"
        return text

    def path(self, path: str) -> Path:
        """A file in there, as this machine names it."""
        return Path(f"/proc/{self.first}/root{path}")
