"""Homes of its own for a run beside others that use the same accounts: new folders lie over them in its view of the files."""

import ctypes
import os
import pwd
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.sandbox.commands import run
from tests.sandbox.errors import SandboxError

_CLONE_NEWNS = 0x00020000


def unshare() -> None:
    """What is mounted from now on is seen by this thread and what it starts only (mount_namespaces(7)).

    :raises SandboxError: this process may not; root may
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS):
        raise SandboxError(f"no mount namespace can be made ({os.strerror(ctypes.get_errno())}); run this as root.")
    run(["mount", "--make-rprivate", "/"])


@contextmanager
def covered(folder: Path, accounts: Iterable[str]) -> Iterator[None]:
    """While the block runs, accounts have new homes in the places of theirs. Called after :func:`unshare`.

    :param folder: where they really are; it is made
    """
    entries = [pwd.getpwnam(name) for name in accounts]
    places = sorted({str(Path(entry.pw_dir).parent) for entry in entries})
    for number, place in enumerate(places):
        source = folder / str(number)
        source.mkdir(parents=True, mode=0o755)
        run(["mount", "--bind", str(source), place])
    for entry in entries:
        home = Path(entry.pw_dir)
        home.mkdir(mode=0o700)
        os.chown(home, entry.pw_uid, entry.pw_gid)
    yield
    for place in places:
        run(["umount", "--lazy", place])
