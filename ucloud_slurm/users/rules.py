"""Which accounts jobs may run as. Only the standard library is used: the small program imports this."""

import re
from dataclasses import dataclass

FLOOR = 1000
NAMES = r"[a-z_][a-z0-9_-]{0,31}"


@dataclass(frozen=True, slots=True)
class Account:
    """An account of this host."""

    name: str
    uid: int
    gid: int
    shell: str
    home: str


def unfit(account: Account, *, floor: int, pattern: str, own_uid: int) -> str | None:
    """Why jobs may not run as an account, or None."""
    if account.uid == 0 or account.uid < floor:
        return "low"
    if account.uid == own_uid or not re.fullmatch(pattern, account.name):
        return "x"
    return None
