"""Lines of a status text that UCloud's page of a job does not print, but reads (contract: JobUpdate.status).

Today's page splits a text into lines. It shows the command of the last line that begins with ``SSH:`` as a box of its own,
and a button for each line that begins with ``Target:``.
"""

import json


def ssh_line(command: str, user: str) -> str:
    """The line of the box with which a user logs in to the cluster.

    :param command: ``jobs.ssh``
    :param user: the Unix user that the job runs as
    """
    return f"SSH: Connected! Available at: {command.replace('{user}', user)}"


def target_line(rank: int, name: str, port: int) -> str:
    """The line of a button that opens a further web page of a job (contract: DynamicTarget)."""
    target = {"rank": rank, "type": "WEB", "target": name, "port": port, "defaultName": None}
    return f"Target: {json.dumps(target)}"
