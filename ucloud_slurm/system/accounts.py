"""Which accounts of this host jobs may run as. Only the standard library is used: the small program imports this."""

import os
import pwd
import re
from dataclasses import dataclass

FLOOR = 1000  # accounts below are the system's own
NAMES = r"[a-z_][a-z0-9_-]{0,31}"  # useradd(8)
DISABLED = frozenset({"nologin", "false", "true", "sync", "shutdown", "halt"})


@dataclass(frozen=True, slots=True)
class Account:
    """An account of this host (passwd(5))."""

    name: str
    uid: int
    gid: int
    shell: str
    home: str


def ineligible(account: Account, *, floor: int, pattern: str, own_uid: int) -> str | None:
    """Why no job may run as an account, in a sentence for an administrator; None when jobs may.

    :param floor: the smallest uid; accounts below are the system's
    :param pattern: regular expression of the names
    :param own_uid: the account of the service itself
    """
    name = account.name
    if account.uid == 0 or account.gid == 0:
        return f"{name[:40]!r} is root or in its group; jobs never run so"
    if account.uid < floor:
        return f"{name[:40]!r} has the uid {account.uid}; jobs run as people only, whose uid is {floor} or more"
    if not re.fullmatch(pattern, name):
        return f"{name[:40]!r} is not a name that an account of a person has here ({pattern})"
    if account.uid == own_uid:
        return f"{name} is the account of this service"
    if not os.path.isabs(account.shell) or os.path.basename(account.shell) in DISABLED:
        return f"{name} may not log in: its shell is {account.shell or 'empty'}"
    if not os.path.isabs(account.home) or account.home == "/":
        return f"{name} has no home folder"
    return None


def own_account() -> str:
    """The name of the account that this process runs as."""
    return pwd.getpwuid(os.geteuid()).pw_name
