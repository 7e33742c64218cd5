"""What the sandbox tells while it works, and when it cannot."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click


def say(sentence: str) -> None:
    """Tells what happens to the machine, as it happens."""
    click.echo(f"sandbox: {sentence}")


@contextmanager
def explained() -> Iterator[None]:
    """Says what cannot be done in a sentence instead of a stack trace, and exits with 1."""
    from tests.sandbox.errors import SandboxError

    # Somebody who ends us by kill wants what we started to be ended too.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        yield
    except SandboxError as error:
        click.echo(f"ucloud-slurm: {error}", err=True)
        sys.exit(1)
