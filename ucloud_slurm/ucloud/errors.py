"""How a question to UCloud can fail."""

from ucloud_slurm.errors import NotNow


class CoreUnavailableError(NotNow):
    """UCloud could not be asked: no connection, no answer in time, a server error, or no JSON."""


class CoreRefusedError(Exception):
    """UCloud answered, and the answer is no. Asking again the same way is of no use.

    :ivar explained: the answer had UCloud's own form; one that has not may come from something in between
    """

    def __init__(self, status: int, why: str, *, explained: bool = True) -> None:
        super().__init__(f"UCloud answered {status}: {why}")
        self.status = status
        self.why = why
        self.explained = explained
