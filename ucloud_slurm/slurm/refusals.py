"""Telling Slurm's no from its silence: only a plain no allows to conclude that nothing was done. Pure."""

import re

# These words say that the controller was not reached or did not finish; a request of which they are said may have
# been done all the same.
_NOT_REFUSALS = re.compile(
    r"unable to contact|connection|connect failure|timed out|time out|zero bytes|unexpected message|communication"
    r"|protocol|transport endpoint|temporarily|authentication credential|munge|socket|try again|slurmctld"
    r"|backup|standby|host is down|no route|header length|insane message|interrupted|shutdown",
    re.IGNORECASE,
)


def is_refusal(text: str) -> bool:
    """Whether that text of Slurm's can be a plain no."""
    return _NOT_REFUSALS.search(text) is None
