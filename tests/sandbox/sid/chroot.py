"""Running something inside another Debian, so that nothing of it is left afterwards.

Mounts, processes and, if wanted, the network belong to namespaces that end with their first process, and that one is
killed when we end: there is nothing to unmount, and no server outlives its run.
"""

import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from tests.sandbox.commands import PLAIN

# The first process must stay: it collects what its descendants leave behind.
ENTER = """
set -e
root=$1 folder=$2 network=$3
shift 3
mount --make-rprivate /
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/dev/shm"
if [ "$network" = own ]; then
    chroot "$root" ip link set lo up
    # names are not looked up where 127.0.0.1 is the only address
    chroot "$root" ip address add 192.0.2.1/32 dev lo
fi
code=0
chroot "$root" env --chdir="$folder" "$@" || code=$?
exit $code
"""


class Chroot:
    """A folder with a Debian in it. Entering it needs root."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def argv(self, command: Sequence[str], *, folder: str = "/", online: bool) -> list[str]:
        """The command of this machine that runs a command inside.

        :param folder: inside, to run it in
        :param online: whether it has this machine's network; else one of its own that leads nowhere
        """
        namespaces = ["--mount", "--pid", "--fork", "--kill-child", *([] if online else ["--net"])]
        network = "shared" if online else "own"
        return ["unshare", *namespaces, "bash", "-c", ENTER, "bash", str(self.root), folder, network, *command]

    def run(
        self,
        command: Sequence[str],
        *,
        folder: str = "/",
        online: bool,
        environment: Mapping[str, str],
        log: IO[bytes] | None = None,
        timeout: float | None = None,
    ) -> int:
        """Runs a command inside, and gives its exit status. See :meth:`argv`.

        :param environment: comes on top of a plain one; nothing of ours gets inside
        :param log: gets all that is said, and then nothing can be asked; None is the terminal
        :param timeout: seconds after which everything inside is killed
        :raises subprocess.TimeoutExpired: when it was
        """
        self._name_this_machine()
        done = subprocess.run(
            self.argv(command, folder=folder, online=online),
            env=PLAIN | {"HOME": "/root"} | dict(environment),
            stdin=None if log is None else subprocess.DEVNULL,
            stdout=log,
            stderr=None if log is None else subprocess.STDOUT,
            check=False,
            timeout=timeout,
        )
        return done.returncode

    def slurm(self) -> str | None:
        """The release of Slurm that is installed inside."""
        argv = ["chroot", str(self.root), "/usr/sbin/slurmctld", "-V"]
        done = subprocess.run(argv, env=PLAIN, capture_output=True, text=True, check=False)
        return done.stdout.split()[-1] if done.returncode == 0 and done.stdout.strip() else None

    def _name_this_machine(self) -> None:
        # resolv.conf is a link in some places
        for name, text in (("hosts", f"127.0.0.1 localhost {socket.gethostname()}\n"), ("resolv.conf", _resolver())):
            path = self.root / "etc" / name
            path.unlink(missing_ok=True)
            path.write_text(text)

    def mounts(self) -> list[str]:
        """What is mounted below the folder here, outside of all namespaces: by hand, since nothing of ours is."""
        inside = f"{self.root.resolve()}/"
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return [place for place in (line.split()[4] for line in lines) if place.startswith(inside)]

    def delete(self) -> None:
        """Deletes it all. Make sure that :meth:`mounts` has none."""
        shutil.rmtree(self.root, ignore_errors=False)


def _resolver() -> str:
    try:
        return Path("/etc/resolv.conf").read_text()
    except OSError:
        return ""
