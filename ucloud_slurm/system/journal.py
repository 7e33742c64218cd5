"""Log lines for the journal: one record is one line, whatever it contains, and holds no secret."""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ucloud_slurm.errors import StorageError, one_line, place

log = logging.getLogger(__name__)

LONGEST_CHARACTERS = 1000
RARE_SECONDS = 60.0  # between two records about the same
RARE_SUBJECTS = 1000  # that are remembered

# sd-daemon(3): the prefix is the priority of the line.
_PRIORITIES = ((logging.ERROR, "<3>"), (logging.WARNING, "<4>"), (logging.INFO, "<6>"), (0, "<7>"))


class OneLine(logging.Formatter):
    """Formats a record as one line; a stack trace is reduced to the name of the exception."""

    def __init__(self, *, priorities: bool) -> None:
        super().__init__("%(message)s")
        self._priorities = priorities

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.exc_info and record.exc_info[0] is not None:
            text += f" ({record.exc_info[0].__name__})"
        line = one_line(text, LONGEST_CHARACTERS)
        if not self._priorities:
            return line
        return next(prefix for level, prefix in _PRIORITIES if record.levelno >= level) + line


def begin(*, verbose: bool = False, journal: bool = True) -> None:
    """Sends the log of this package to standard error.

    :param journal: prefix the lines with their priorities
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine(priorities=journal))
    logger = logging.getLogger("ucloud_slurm")
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)


class Rarely:
    """Writes about each subject once a minute at most. Safe for several threads."""

    def __init__(self, write: Callable[[str, str], object]) -> None:
        """Writes nothing yet.

        :param write: a method of a logger, which gets a format and a sentence
        """
        self._write = write
        self._lock = threading.Lock()
        self._written: dict[str, float] = {}

    def __call__(self, about: str, sentence: str) -> None:
        """Writes, unless there was something about the subject a moment ago."""
        with self._lock:
            now = time.monotonic()
            if now - self._written.get(about, -RARE_SECONDS) < RARE_SECONDS:
                return
            if len(self._written) >= RARE_SUBJECTS:
                self._written.clear()
            self._written[about] = now
        self._write("%s", sentence)


@contextmanager
def isolate_errors(job_id: str, doing: str) -> Iterator[None]:
    """Logs an error in the work for one job as one line, so that the work for other jobs goes on.

    :param doing: the work, such as "submitting it"
    :raises StorageError: it is not about the job: nothing can be written for the others either
    """
    try:
        yield
    except StorageError:
        raise
    except Exception as error:  # noqa: BLE001  one job must not stop the others
        log.error(
            "job %s: %s failed (%s at %s: %s); please report it",
            job_id,
            doing,
            type(error).__name__,
            place(error),
            one_line(str(error), 200),
        )
