"""Databases of earlier releases, and from backups."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ucloud_slurm.store import migrations
from ucloud_slurm.store.generation import Generation
from ucloud_slurm.store.sqlite import Store


@contextmanager
def earlier_release(monkeypatch: pytest.MonkeyPatch, steps: int) -> Iterator[None]:
    """A release that knows only the first migrations."""
    with monkeypatch.context() as earlier:
        earlier.setattr(migrations, "STEPS", migrations.STEPS[:steps])
        earlier.setattr(Generation, "claim", lambda _: None)  # its table came with m015
        yield


def mark_restored(store: Store, now: float) -> None:
    """The database has come from a backup, and nobody has reconciled it since then.

    :param now: seconds since the epoch
    """
    store.change("update generation set restored_at = ?", [now])
