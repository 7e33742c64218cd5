"""Log lines for the journal: one record is one line, whatever it contains, and holds no secret.

A line is text, or a JSON object (``journal.format`` of the configuration). A record whose format begins with ``job %s``
is about the job with that id of UCloud's.
"""

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ucloud_slurm.errors import StorageError, one_line, place
from ucloud_slurm.system.request_id import served

log = logging.getLogger(__name__)

PACKAGE = "ucloud_slurm"  # the logger of all modules
LONGEST_CHARACTERS = 2000
LONGEST_NAME = 100  # characters of a job's id, or of a user
RARE_SECONDS = 60.0  # between two records about the same
RARE_SUBJECTS = 1000  # that are remembered

# sd-daemon(3): the prefix is the priority of the line.
_PRIORITIES = ((logging.ERROR, "<3>"), (logging.WARNING, "<4>"), (logging.INFO, "<6>"), (0, "<7>"))
_ABOUT_A_JOB = "job %s"


class OneLine(logging.Formatter):
    """Formats a record as one line; a stack trace is reduced to the name of the exception."""

    def __init__(self, *, priorities: bool) -> None:
        super().__init__("%(message)s")
        self.priorities = priorities

    def format(self, record: logging.LogRecord) -> str:
        line = self.line(record)
        if not self.priorities:
            return line
        return next(prefix for level, prefix in _PRIORITIES if record.levelno >= level) + line

    def line(self, record: logging.LogRecord) -> str:
        """The line, without its priority; what is written for a request ends with the request's id."""
        request = served()
        return _sentence(record) + (f" [{request.id}]" if request else "")


class OneObject(OneLine):
    """Formats a record as a JSON object in one line. Fields that are not known are left out."""

    def line(self, record: logging.LogRecord) -> str:
        request = served()
        fields = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _sentence(record),
            "job": _job(record),
            "request": request and request.id,
            "user": one_line(request.user, LONGEST_NAME) if request and request.user else None,
        }
        return json.dumps({name: value for name, value in fields.items() if value is not None}, ensure_ascii=False)


def _job(record: logging.LogRecord) -> str | None:
    if isinstance(record.msg, str) and record.msg.startswith(_ABOUT_A_JOB) and isinstance(record.args, tuple):
        return one_line(str(record.args[0]), LONGEST_NAME)
    return None


def _sentence(record: logging.LogRecord) -> str:
    text = record.getMessage()
    if record.exc_info and record.exc_info[0] is not None:
        text += f" ({record.exc_info[0].__name__})"
    return one_line(text, LONGEST_CHARACTERS)


def objects() -> OneObject:
    """Formats for standard error: where systemd's journal receives the lines, it takes the priority before an object off."""
    return OneObject(priorities="JOURNAL_STREAM" in os.environ)


def write_as(form: str) -> None:
    """Lines of this package are written in that form from now on, if they have begun.

    :param form: text or json (``journal.format``)
    """
    for handler in _begun():
        if form == "json":
            handler.setFormatter(objects())
        elif isinstance(handler.formatter, OneObject):
            handler.setFormatter(OneLine(priorities=not sys.stderr.isatty()))


def say(sentence: str) -> None:
    """Writes a sentence for the administrator to standard error: an object where the other lines are objects."""
    if any(isinstance(handler.formatter, OneObject) for handler in _begun()):
        log.error("%s", sentence)
    else:
        sys.stderr.write(f"ucloud-slurm: {one_line(sentence, LONGEST_CHARACTERS)}\n")


def _begun() -> list[logging.Handler]:
    return [each for each in logging.getLogger(PACKAGE).handlers if isinstance(each.formatter, OneLine)]


def begin(*, verbose: bool = False, journal: bool = True) -> None:
    """Sends the log of this package to standard error.

    :param journal: prefix the lines with their priorities
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine(priorities=journal))
    logger = logging.getLogger(PACKAGE)
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
