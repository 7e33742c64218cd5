"""The threads that submit jobs."""

import threading
from functools import partial

from ucloud_slurm.provider.context import Provider

PATIENCE = 30.0


def let_threads_finish(provider: Provider) -> None:
    """Returns when each submission that had begun has ended: every thread has taken one more task, and all of these meet."""
    threads = provider.config.slurm.submit_at_once
    meeting = threading.Barrier(threads)
    # Of accounts of their own, because one account may not take all of the threads.
    tasks = [provider.executor.submit(f"nobody-{number}", partial(meeting.wait, PATIENCE)) for number in range(threads)]
    for task in tasks:
        task.result(PATIENCE)
