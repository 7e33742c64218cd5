"""Log lines for the journal: one record is one line, whatever it contains, and holds no secret."""

import logging
import sys

from ucloud_slurm.errors import one_line

LONGEST_CHARACTERS = 1000

# sd-daemon(3): the prefix is the priority of the line.
_PRIORITIES = ((logging.ERROR, "<3>"), (logging.WARNING, "<4>"), (logging.INFO, "<6>"), (0, "<7>"))


class OneLine(logging.Formatter):
    """Formats a record as one line; a stack trace is reduced to the name of the exception."""

    def __init__(self, *, priorities: bool) -> None:
        super().__init__("%(message)s")
        self._priorities = priorities

    def format(self, record: logging.LogRecord) -> str:
        """See :class:`logging.Formatter`."""
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
