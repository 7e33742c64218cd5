"""This host: where things are, which steps are done, and doing the others."""

import os
import pwd
import re
import shutil
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ucloud_slurm.errors import Misconfigured, one_line
from ucloud_slurm.setup.services import NGINX_CONF
from ucloud_slurm.setup.step import Host, Step
from ucloud_slurm.system.process import CommandMissingError, CommandTimeoutError, Finished, run

INSTALLED = Path("/opt/ucloud-slurm/bin/ucloud-slurm")
SHARED = "share/ucloud-slurm"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LOOK_SECONDS = 90.0  # check takes a minute at most
STEP_SECONDS = 600.0
PROXY_USERS = ("www-data", "nginx", "http", "wwwrun")
INSTALLERS = {"apt-get": "apt-get install --yes", "dnf": "dnf install --assumeyes", "zypper": "zypper install"}


def examine(config: Path, drafts: Path | None, files: Path | None) -> Host:
    """This host.

    :param config: where the configuration belongs
    :param drafts: see :class:`Host`
    :param files: folder with ``etc`` and ``systemd`` of this release; None: where they were installed
    :raises Misconfigured: they are not there
    """
    program = Path(sys.prefix, "bin", INSTALLED.name)
    return Host(
        config=config,
        drafts=drafts,
        shipped=shipped(files),
        program=program if program.is_file() else INSTALLED,
        proxy_user=next((name for name in PROXY_USERS if _is_account(name)), PROXY_USERS[0]),
        installer=next((line for name, line in INSTALLERS.items() if shutil.which(name, path=PATH)), "dnf install --assumeyes"),
        selinux=is_enforced(Path("/sys/fs/selinux/enforce")),
    )


def shipped(files: Path | None) -> Path:
    """The folder with ``etc`` and ``systemd`` of this release.

    :raises Misconfigured: it is not there
    """
    checkout = Path(__file__).parents[2]
    places = [files.absolute()] if files is not None else [Path(sys.prefix, SHARED), checkout]
    for place in places:
        if (place / "systemd/ucloud-slurm.service").is_file() and (place / "etc/nginx.conf").is_file():
            return place
    named = " and ".join(str(place) for place in places)
    raise Misconfigured([f"the folders etc and systemd of this release are not in {named}; name their folder with --files."])


def is_enforced(path: Path) -> bool:
    """Whether SELinux is enforced (selinux(8))."""
    try:
        return path.read_text().strip() == "1"
    except OSError:
        return False


def certificate_of(text: str) -> tuple[str, str] | None:
    """The certificate and its key in a configuration of nginx, if it has them."""
    found = [re.search(rf"^ *{name} +([^;\s]+);", text, re.MULTILINE) for name in ("ssl_certificate", "ssl_certificate_key")]
    return (found[0][1], found[1][1]) if found[0] and found[1] else None


def certificate_here(name: str) -> tuple[str, str]:
    """The certificate that nginx has for us, or that a name will have where certbot makes it."""
    with suppress(OSError):
        found = certificate_of(Path(NGINX_CONF).read_text(encoding="utf-8"))
        if found is not None:
            return found
    folder = f"/etc/letsencrypt/live/{name}"
    return f"{folder}/fullchain.pem", f"{folder}/privkey.pem"


@dataclass
class Outcome:
    """What came of steps.

    :ivar done: those that were done now
    :ivar left: those that remain
    :ivar failed: a sentence for each that failed
    :ivar warnings: lines of the check
    """

    done: list[Step] = field(default_factory=list)
    left: list[Step] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


Run = Callable[[str, float], Finished]


def remaining(steps: Iterable[Step], run_line: Run) -> list[Step]:
    """The steps that are not done. One that needs such a step is one of them, and is not looked at."""
    left: list[Step] = []
    for step in steps:
        if _is_blocked(step, left) or not _is_done(step, run_line):
            left.append(step)
    return left


def doable(steps: Iterable[Step]) -> list[Step]:
    """Of the steps that are not done, those that can be done here and need none that cannot."""
    found: list[Step] = []
    others: list[Step] = []
    for step in steps:
        (others if step.by_hand or _is_blocked(step, others) else found).append(step)
    return found


def apply(steps: Iterable[Step], run_line: Run, show: Callable[[Step], None]) -> Outcome:
    """Does the steps that can be done here and need none that remains.

    :param steps: that are not done
    :param show: is called before each
    """
    outcome = Outcome()
    for step in steps:
        if step.by_hand or _is_blocked(step, outcome.left):
            outcome.left.append(step)
            continue
        show(step)
        ended = run_line(f"set -e\n{step.command}", STEP_SECONDS)
        if ended.status == 0 and (step.look == step.command or _is_done(step, run_line)):
            outcome.done.append(step)
            outcome.warnings += [line for line in ended.output.splitlines() if line.startswith("warning ")]
        else:
            outcome.left.append(step)
            outcome.failed.append(f"{step.title}: {_why(ended)}")
    return outcome


def _is_blocked(step: Step, left: Iterable[Step]) -> bool:
    return any(other.name in step.needs for other in left)


def _is_done(step: Step, run_line: Run) -> bool:
    return run_line(step.look, LOOK_SECONDS).status == 0


def _why(ended: Finished) -> str:
    lines = [line for line in f"{ended.output}\n{ended.errors}".splitlines() if line.strip()]
    failed = [line for line in lines if line.startswith("failed")]
    if failed:  # of the check
        return "; ".join(one_line(line, 300) for line in failed[:3])
    if ended.status == 0:
        return "the commands ended well, but it is not done afterwards"
    return f"ended with {ended.status}: {one_line(lines[-1], 300) if lines else 'without a word'}"


def run_line(line: str, seconds: float) -> Finished:
    """Runs lines for sh(1)."""
    env = {"PATH": PATH, "LANG": "C.UTF-8", "HOME": pwd.getpwuid(os.geteuid()).pw_dir, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        return run(["/bin/sh", "-c", line], env, seconds)
    except (CommandMissingError, CommandTimeoutError) as error:
        return Finished(124, "", str(error))


def _is_account(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
