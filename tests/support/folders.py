"""Folders of a user, in this process or through a runner, on kernels new and old."""

import errno
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.runner_site import Site
from ucloud_slurm.system import beneath
from ucloud_slurm.users.file_work import Finished, read_progress
from ucloud_slurm.users.files import ConflictPolicy, FilesAs, Place, SortBy, Work
from ucloud_slurm.users.own_files import OwnFiles
from ucloud_slurm.users.runner_files import RunnerFiles

PATIENCE = 30.0
WAYS = ("here", "runner", "here, old kernel", "runner, old kernel")


@contextmanager
def old_kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process does not know openat2(2), nor the flags of renameat2(2)."""
    with monkeypatch.context() as patched:
        patched.setattr(beneath, "_openat2", lambda *_: -errno.ENOSYS)
        patched.setattr(beneath, "_renameat2", lambda *_: errno.EINVAL)
        yield


def files_by(way: str, site: Site) -> FilesAs:
    """The files, for :data:`WAYS`."""
    if way.startswith("here"):
        return OwnFiles()
    return RunnerFiles(site.path, "bob" if way.endswith("old kernel") else "ada")


@dataclass
class Drive:
    """A folder that is a drive, with something beside it that nobody may reach."""

    files: FilesAs
    way: str
    root: Path
    outside: Path

    @property
    def follows_links(self) -> bool:
        return not self.way.endswith("old kernel")

    def at(self, *parts: str) -> Place:
        return Place(str(self.root), parts)

    def names(self, *parts: str, hidden: bool = True) -> list[str]:
        """Everything in a folder, page by page."""
        return [name for page in self.pages(*parts, most=100, hidden=hidden) for name in page]

    def pages(
        self, *parts: str, most: int, by: SortBy = SortBy.PATH, descending: bool = False, hidden: bool = True
    ) -> list[list[str]]:
        found, after = [], None
        while True:
            page = self.files.list(self.at(*parts), after=after, most=most, by=by, descending=descending, hidden=hidden)
            found.append([entry.name for entry in page.entries])
            after = page.after
            if after is None:
                return found
            assert len(found) < 1000, "it does not end"

    def upload(
        self, *parts: str, data: bytes = b"new", policy: ConflictPolicy = ConflictPolicy.RENAME, parents: bool = False
    ) -> str:
        part = self.files.begin(self.at(*parts), policy, parents=parents)
        try:
            os.pwrite(part.descriptor, data, 0)
        finally:
            os.close(part.descriptor)
        return self.files.finish(self.at(*parts), part.name, policy, size=len(data), modified_ms=None)

    def read(self, *parts: str) -> bytes:
        opened = self.files.read(self.at(*parts))
        try:
            return os.pread(opened.descriptor, opened.size + 1, 0)
        finally:
            os.close(opened.descriptor)

    def work(
        self,
        verb: Work,
        source: tuple[str, ...],
        target: Place | None = None,
        policy: ConflictPolicy = ConflictPolicy.RENAME,
        key: str = "1",
    ) -> Finished:
        with self.files.work(verb, self.at(*source), target, policy, key=key) as channel:
            return finished(channel, source, target)

    def hidden(self, folder: Path | None = None) -> list[str]:
        """What is left of uploads and copies."""
        # os.walk passes over a folder that is deleted meanwhile.
        names = (name for _, folders, files in os.walk(folder or self.root) for name in (*folders, *files))
        return sorted(name for name in names if name.startswith(".") and name.endswith(".ucloud-part"))


def finished(channel: socket.socket, source: tuple[str, ...] = (), target: Place | None = None) -> Finished:
    """How some work ends."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        found = read_progress(channel, source, target.parts if target else None, 1.0)
        if isinstance(found, Finished):
            return found
    raise AssertionError("it does not end")
