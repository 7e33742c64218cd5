"""Running other programs, as oneself or as somebody else, with an environment that is known."""

import os
import pwd
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.sandbox.errors import CommandFailed, SandboxError

PLAIN = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
"""The environment that everything gets, whatever the caller's own one holds."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a process is: None for everything means the caller.

    :ivar groups: all groups of the account, its own included
    """

    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] | None = None


MYSELF = Identity()


def identity_of(user: str | None) -> Identity:
    """Give the identity of an account; None is the caller.

    :raises SandboxError: when there is no such account
    """
    if user is None:
        return MYSELF
    try:
        entry = pwd.getpwnam(user)
    except KeyError as unknown:
        raise SandboxError(f"There is no account {user} on this machine; start the sandbox first.") from unknown
    if entry.pw_uid == os.geteuid():
        return MYSELF
    return Identity(entry.pw_uid, entry.pw_gid, tuple(os.getgrouplist(user, entry.pw_gid)))


def run(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    user: str | None = None,
    stdin: str = "",
    folder: Path | None = None,
    timeout: float = 60,
) -> str:
    """Run a program and give what it prints.

    :param environment: comes on top of :data:`PLAIN`
    :param timeout: seconds after which it is killed
    :raises CommandFailed: when it ends with an error
    :raises subprocess.TimeoutExpired: when it was killed
    """
    identity = identity_of(user)
    done = subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=timeout,
        cwd=folder,
        env=PLAIN | dict(environment or {}),
        user=identity.uid,
        group=identity.gid,
        extra_groups=identity.groups,
    )
    if done.returncode != 0:
        raise CommandFailed(done.returncode, list(command), done.stdout, done.stderr)
    return done.stdout


def succeeds(command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> bool:
    """Tell whether a program ends well, and within three seconds."""
    try:
        run(command, environment=environment, timeout=3)
    except (CommandFailed, subprocess.TimeoutExpired):
        return False
    return True
