"""The threads that answer requests: some for each class of callers, so that none of them waits for another."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future

from ucloud_slurm.system.executor import FairExecutor
from ucloud_slurm.web.server.budgets import Share
from ucloud_slurm.web.server.requests import Caller, RequestClass


class Pool:
    """A :class:`FairExecutor` for each class. It takes the place of gunicorn's pool of threads."""

    def __init__(self, shares: Mapping[RequestClass, Share]) -> None:
        self._executors = {kind: FairExecutor(share.threads, share.each) for kind, share in shares.items()}

    def submit(self, caller: Caller, work: Callable[[], bool]) -> Future[bool]:
        """Queues a request behind the others of its caller.

        :raises RuntimeError: no thread can be started, and there is none
        """
        return self._executors[caller.kind].submit(caller.key, work)

    def shutdown(self, *, wait: bool = False) -> None:
        """Cancels what has not begun."""
        for executor in self._executors.values():
            executor.close()
