"""Who types a command, and where: what the kernel and the environment say of this process."""

import os
import pwd
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ucloud_slurm.errors import one_line
from ucloud_slurm.system.accounts import own_account

LOGIN_UID = Path("/proc/self/loginuid")
NOBODY = 2**32 - 1  # proc_pid_loginuid(5): nobody has logged in, as in a unit
LONGEST_CHARACTERS = 100  # of what the environment says, which the person may set


class Origin(NamedTuple):
    """Where an act comes from.

    :ivar account: the Unix user that the process runs as
    :ivar login: the Unix user who has logged in, as the kernel keeps it through su and sudo; None for a unit
    :ivar sudo_user: the Unix user who has called sudo(8), as the environment says
    :ivar host: the name of this host
    :ivar terminal: such as ``/dev/pts/3``
    :ivar client: the address that the ssh connection comes from, as the environment says
    """

    account: str
    login: str | None
    sudo_user: str | None
    host: str
    terminal: str | None
    client: str | None

    @property
    def who(self) -> str:
        """The person, as far as that is known: what the kernel says before what the environment says."""
        return self.login or self.sudo_user or self.account


def here() -> Origin:
    """The origin of what this process does. It asks the name service."""
    return origin(os.environ, LOGIN_UID)


def origin(environment: Mapping[str, str], login_uid: Path) -> Origin:
    """The origin, by an environment and what the kernel says.

    :param login_uid: the file with the uid of who has logged in, as proc_pid_loginuid(5) has it
    """
    terminal = None
    for descriptor in (0, 1, 2):
        with suppress(OSError):
            terminal = terminal or os.ttyname(descriptor)
    return Origin(
        account=own_account(),
        login=_login(login_uid),
        sudo_user=_said(environment.get("SUDO_USER")),
        host=os.uname().nodename,
        terminal=terminal,
        client=_said((environment.get("SSH_CONNECTION") or environment.get("SSH_CLIENT") or "").split(" ")[0]),
    )


def _login(path: Path) -> str | None:
    try:
        uid = int(path.read_text())
    except (OSError, ValueError):
        return None
    if uid == NOBODY:
        return None
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _said(text: str | None) -> str | None:
    return one_line(text, LONGEST_CHARACTERS) if text else None
