"""Lines of a status text that UCloud's page of a job does not print, but reads (contract: JobUpdate.status).

Today's page splits a text into lines. It shows the command of the last line that begins with ``SSH:`` as a box of its own.
"""


def ssh_line(command: str, user: str) -> str:
    """The line of the box with which a user logs in to the cluster.

    :param command: ``jobs.ssh``
    :param user: the Unix user that the job runs as
    """
    return f"SSH: Connected! Available at: {command.replace('{user}', user)}"
