"""Accounts of this host (passwd(5)), and which of them jobs may run as."""

import os
import pwd
import re
from dataclasses import dataclass

FLOOR = 1000  # smaller uids are system accounts
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
    """Why no job may run as an account, in a sentence for an administrator; None if jobs may.

    :param floor: the smallest uid of a user; smaller ones are system accounts
    :param pattern: regular expression that the name of a user matches
    :param own_uid: uid of the account that this service runs as
    """
    name = account.name
    if account.uid == 0 or account.gid == 0:
        return f"{name[:40]!r} is root or in its group; jobs never run as root"
    if account.uid < floor:
        return f"{name[:40]!r} has the uid {account.uid}; users have {floor} or more, and jobs run only as users"
    if not re.fullmatch(pattern, name):
        return f"{name[:40]!r} is not a name that users have here ({pattern})"
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
