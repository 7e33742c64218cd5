"""Opening the parts of the product for a command, with sentences instead of stack traces."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from ucloud_slurm.config import read
from ucloud_slurm.errors import Misconfigured, NotNow, Problem
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.users.service import refuse_root

EX_CONFIG = 78  # sysexits.h


@contextmanager
def opened(path: Path | None) -> Iterator[Provider]:
    """The parts of the product, or one clear line for each thing that is wrong, and exit status 78."""
    with explained():
        refuse_root()
        provider = Provider.open(read(path))
        try:
            yield provider
        finally:
            provider.close()


@contextmanager
def explained() -> Iterator[None]:
    """Says what is wrong in a sentence instead of a stack trace."""
    try:
        yield
    except Misconfigured as error:
        for sentence in error.sentences:
            click.echo(f"ucloud-slurm: {sentence}", err=True)
        sys.exit(EX_CONFIG)
    except (Problem, NotNow) as error:
        click.echo(f"ucloud-slurm: {error}", err=True)
        sys.exit(1)
