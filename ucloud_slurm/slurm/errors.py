"""How a call to Slurm can fail, and telling Slurm's no from its silence. Pure."""

import re

from ucloud_slurm.errors import NotNow

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


class SchedulerUnavailableError(NotNow):
    """Slurm could not be asked, or did not give a whole answer."""


class OutcomeUnknownError(NotNow):
    """The submission may or may not have reached Slurm. It must be looked up before it is tried again."""


class SubmissionRefusedError(Exception):
    """Slurm took no job, and said why; ``reason`` is Slurm's own text."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ActionRefusedError(Exception):
    """Slurm answered, and does not do that to the job; ``reason`` is Slurm's own text."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
