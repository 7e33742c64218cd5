"""How often somebody has asked the controller, as ``sdiag`` counts it."""

import re

USERS = "Remote Procedure Call statistics by user"


def calls(text: str, user: str) -> int:
    """Calls of an account since the controller began to count; 0 for one that it has not heard of.

    :param text: what sdiag printed
    :raises ValueError: it says nothing of users
    """
    _, there, rest = text.partition(f"{USERS}\n")
    if not there:
        raise ValueError("sdiag printed no statistics by user")
    section = rest.partition("\n\n")[0]
    found = re.search(rf"^\s*{re.escape(user)}\s*\(\s*\d+\) count:(\d+)", section, re.MULTILINE)
    return int(found[1]) if found else 0
