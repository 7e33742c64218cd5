"""Opening the provider for a command, with sentences instead of stack traces."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ucloud_slurm.config import Config
from ucloud_slurm.config.kept import read
from ucloud_slurm.config.reader import read_text
from ucloud_slurm.errors import Misconfigured, NotNow, Problem
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.system import journal
from ucloud_slurm.system.config_file import location
from ucloud_slurm.users.service import refuse_root

EX_TEMPFAIL = 75  # sysexits.h
EX_CONFIG = 78


@contextmanager
def opened(path: Path | None) -> Iterator[Provider]:
    """The provider; or one line for each mistake in the configuration, and exit status 78."""
    with configured(path) as config:
        provider = Provider.open(config)
        try:
            yield provider
        finally:
            provider.close()


@contextmanager
def configured(path: Path | None) -> Iterator[Config]:
    """The configuration; or one line for each mistake in it, and exit status 78."""
    with explained():
        try:
            refuse_root()
        except Misconfigured:
            read_text(path or location())  # a host without a configuration has no daemon user either
            raise
        config = read(path)
        journal.write_as(config.journal.format)
        yield config


@contextmanager
def explained() -> Iterator[None]:
    """Prints expected errors as sentences, and exits with 78 or 1."""
    try:
        yield
    except Misconfigured as error:
        for sentence in error.sentences:
            journal.say(sentence)
        sys.exit(EX_CONFIG)
    except (Problem, NotNow) as error:
        journal.say(str(error))
        sys.exit(1)
