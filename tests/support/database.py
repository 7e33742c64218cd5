"""Databases of earlier releases."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ucloud_slurm.store import migrations
from ucloud_slurm.store.generation import Generation


@contextmanager
def earlier_release(monkeypatch: pytest.MonkeyPatch, steps: int) -> Iterator[None]:
    """A release that knows only the first migrations."""
    with monkeypatch.context() as earlier:
        earlier.setattr(migrations, "STEPS", migrations.STEPS[:steps])
        earlier.setattr(Generation, "claim", lambda _: None)  # its table came with m015
        yield
