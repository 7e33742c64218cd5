"""One job that breaks something must not stop the others."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from ucloud_slurm.errors import StorageError, one_line, place

log = logging.getLogger(__name__)


@contextmanager
def isolate_errors(job_id: str, doing: str) -> Iterator[None]:
    """Keeps what goes wrong with one job to that job, as one line in the journal.

    :raises StorageError: that is not about the job; nothing can be written for the others either
    """
    try:
        yield
    except StorageError:
        raise
    except Exception as error:  # noqa: BLE001
        log.error(
            "job %s: %s failed (%s at %s: %s); please report it",
            job_id,
            doing,
            type(error).__name__,
            place(error),
            one_line(str(error), 200),
        )
