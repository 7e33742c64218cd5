"""How a call to Slurm can fail, and which of its error texts are refusals. Pure."""

import re

from ucloud_slurm.errors import NotNow

# These words mean that the controller was not reached or did not answer; it may have served the request all the same.
_NOT_REFUSALS = re.compile(
    r"unable to contact|connection|connect failure|timed out|time out|zero bytes|unexpected message|communication"
    r"|protocol|transport endpoint|temporarily|authentication credential|munge|socket|try again|slurmctld"
    r"|backup|standby|host is down|no route|header length|insane message|interrupted|shutdown",
    re.IGNORECASE,
)


def is_refusal(text: str) -> bool:
    """Whether an error text of Slurm can be a refusal."""
    return _NOT_REFUSALS.search(text) is None


class SchedulerUnavailableError(NotNow):
    """Slurm could not be asked, or did not give a whole answer."""


class OutcomeUnknownError(NotNow):
    """The submission may have reached Slurm or not. It must be looked up before a retry."""


class SubmissionRefusedError(Exception):
    """Slurm refused the submission; ``reason`` is Slurm's own text."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ActionRefusedError(Exception):
    """Slurm refused an action on a job; ``reason`` is Slurm's own text."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
