"""The distribution's packages that the private cluster is made of, and how missing ones are installed."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.sandbox.errors import SandboxError
from ucloud_slurm.errors import one_line

SLURM = ("slurmctld", "slurmd", "slurm-client", "slurm-wlm-basic-plugins", "munge")
DATABASE = ("slurmdbd", "slurm-wlm-mysql-plugin", "mariadb-server")
LIVING = ("systemd", "sudo", "nginx")
BROWSER = ("chromium", "chromium-driver")
FILES = ("nginx", *BROWSER)
APPLICATIONS = ("busybox-static", "charliecloud", "environment-modules")
SESSIONS = (
    "nginx",
    *BROWSER,
    "jupyter-notebook",
    "novnc",
    "websockify",
    "tigervnc-standalone-server",
    "tigervnc-tools",
    "xterm",
)
OF_TESTS = tuple(dict.fromkeys((*SLURM, *DATABASE, *LIVING, *FILES, *APPLICATIONS, *SESSIONS)))

CONTROLLER = "/usr/sbin/slurmctld"

POLICY = Path("/usr/sbin/policy-rc.d")
NOTHING_MAY_START = "#!/bin/sh\nexit 101\n"


def needed(*, accounting: bool) -> tuple[str, ...]:
    """Name the packages of a cluster; those of the database only when it keeps accounts."""
    return SLURM + DATABASE if accounting else SLURM


def missing(packages: Sequence[str]) -> tuple[str, ...]:
    """Name those of the packages that are not fully installed, in the given order.

    :raises SandboxError: when this machine does not keep its packages with dpkg
    """
    query = shutil.which("dpkg-query")
    if query is None:
        raise SandboxError(
            "This machine has no dpkg-query; the sandbox installs Slurm on Debian and Ubuntu only, "
            "so run it there or in such a container."
        )
    answer = subprocess.run(
        [query, "-W", "-f", "${Package} ${db:Status-Status}\n", *packages],
        capture_output=True,
        text=True,
        check=False,  # it is 1 as soon as one of the names is unknown
        timeout=60,
    )
    present = {line.split()[0] for line in answer.stdout.splitlines() if line.endswith(" installed")}
    return tuple(package for package in packages if package not in present)


def install(packages: Sequence[str], log: Path, say: Callable[[str], None]) -> None:
    """Install packages without starting any of their services. Does nothing for an empty list.

    :param log: file that gets everything apt-get says
    :raises SandboxError: when not root, without apt-get, or when apt-get fails
    """
    if not packages:
        return
    names = " ".join(packages)
    if os.geteuid() != 0:
        raise SandboxError(f"Packages are missing and only root can install them; run as root: apt-get install {names}")
    apt = shutil.which("apt-get")
    if apt is None:
        raise SandboxError(f"Packages are missing and there is no apt-get here; install by hand: {names}")
    say(f"installing {names}")
    with log.open("ab") as sink, _nothing_started():
        # a broken entry among many sources need not matter: the installation decides
        _apt(apt, ["update", "-q"], sink, seconds=300)
        done = _apt(apt, ["install", "-y", "-q", "--no-install-recommends", *packages], sink, seconds=1800)
    if not done:
        raise SandboxError(f"apt-get could not install {names}; its own words are in {log}")


def unpack(package: str, program: str, folder: Path) -> Path:
    """Unpacks a package without installing it, so that nothing of it starts and no other package is needed.

    :param program: the path of a program in the package
    :param folder: what is kept of the package; what an earlier call has left there is used
    :returns: the program
    :raises SandboxError: without apt-get, or when the package cannot be had or does not have the program
    """
    found = folder / program
    if found.exists():
        return found
    apt, dpkg = shutil.which("apt-get"), shutil.which("dpkg-deb")
    if apt is None or dpkg is None:
        raise SandboxError(f"{program} is not here, and there is no apt-get; install the package {package} by hand.")
    with TemporaryDirectory(prefix="ucloud-slurm-") as new:
        Path(new).chmod(0o755)  # apt-get downloads as an account of its own
        with Path(new, "log").open("ab") as sink:
            command = ["download", "-q", package]
            done = _apt(apt, command, sink, seconds=600, folder=new)
            if not done:  # the lists of packages may be old, or there are none yet
                _apt(apt, ["update", "-q"], sink, seconds=300)
                done = _apt(apt, command, sink, seconds=600, folder=new)
        if not done:
            said = one_line(Path(new, "log").read_text(errors="replace"), 1000)
            raise SandboxError(f"apt-get could not download {package}: {said}")
        (file,) = Path(new).glob("*.deb")
        subprocess.run([dpkg, "-x", str(file), f"{new}/root"], check=True, timeout=600)
        if not Path(new, "root", program).exists():
            raise SandboxError(f"the package {package} has no {program}")
        found.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(Path(new, "root", program), f"{found}.new")
    return Path(f"{found}.new").replace(found)


def release() -> tuple[int, int]:
    """Give the release of the installed Slurm, by year and month.

    :raises SandboxError: when slurmctld does not say one
    """
    said = subprocess.run([CONTROLLER, "-V"], capture_output=True, text=True, check=False, timeout=60).stdout
    match = re.search(r"\b([0-9]{2})\.([0-9]{2})\b", said)
    if match is None:
        raise SandboxError(f"{CONTROLLER} -V does not name a release of Slurm; it says: {one_line(said, 80)}")
    return int(match[1]), int(match[2])


def _apt(apt: str, arguments: Sequence[str], sink: object, *, seconds: int, folder: str | None = None) -> bool:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    command = [apt, "-o", "DPkg::Lock::Timeout=120", *arguments]
    try:
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,  # type: ignore[call-overload]
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=folder,
            check=False,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired as slow:
        raise SandboxError(
            f"apt-get {arguments[0]} did not end within {seconds} s; look at the network and try again."
        ) from slow
    return bool(ended.returncode == 0)


@contextmanager
def _nothing_started() -> Iterator[None]:
    """Keep package scripts from starting services, by Debian's own policy file, unless the site has one."""
    try:
        with POLICY.open("x") as policy:
            policy.write(NOTHING_MAY_START)
    except FileExistsError:
        yield
        return
    try:
        POLICY.chmod(0o755)
        yield
    finally:
        POLICY.unlink(missing_ok=True)


def main() -> None:
    """Installs what all tests together need, while pip installs the rest; a test alone installs what it needs itself."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    with TemporaryDirectory(prefix="ucloud-slurm-") as folder:
        log = Path(folder, "apt-get.log")
        try:
            install(missing(OF_TESTS), log, print)
        except SandboxError as error:
            said = log.read_text(errors="replace")[-1000:] if log.exists() else ""
            sys.exit(f"{error}\n{said}")


if __name__ == "__main__":
    main()
