"""The lease in the standby folder, which both hosts see: who works, and copies of the database of who does.

Each lease is a file of its own with the next number, which is made by link(2): of two hosts that want the same number one
gets it, also on NFS. Only its host writes to it again. What is read is opened anew, which NFS answers with what the server
has (nfs(5): close-to-open).
"""

import json
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

from ucloud_slurm.errors import Misconfigured
from ucloud_slurm.store.backup import sync
from ucloud_slurm.store.generation import host_key
from ucloud_slurm.system.replace import replace as replace_file

KEPT = 2  # copies
_LEASE, _COPY = re.compile(r"lease-(\d{6,})"), re.compile(r"copy-(\d{6,})-(\d{9,})\.db")


class Host(NamedTuple):
    """A host is the same only with the same machine id and name: virtual machines are copied with their id.

    :ivar key: see :func:`.generation.host_key`
    """

    key: str | None
    name: str

    @classmethod
    def this(cls) -> Self:
        """This one."""
        return cls(host_key(), socket.gethostname())


class Lease(NamedTuple):
    """What a lease file says.

    :ivar token: of its making: an answer that was lost is recognized by it
    :ivar renewals: how many there were; a lease that goes on differs by it
    :ivar released: its host has ended its work, and has left a copy of all of it
    """

    number: int
    host: Host
    token: str
    renewals: int = 0
    released: bool = False


class StandbyFolder:
    """The folder ``database.standby``. Every method may take as long as its file system does.

    :raises OSError: from every method, where the file system fails
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def newest(self) -> Lease | None:
        """The lease with the highest number; None where there was never one.

        :raises Misconfigured: it cannot be read
        """
        numbers = [int(found[1]) for path in self.path.iterdir() if (found := _LEASE.fullmatch(path.name))]
        return self._read(max(numbers)) if numbers else None

    def take(self, number: int, host: Host) -> Lease | None:
        """Makes the lease with that number; None where another host has made it."""
        lease = Lease(number, host, secrets.token_hex(8))
        new = self.path / f".lease-{lease.token}"
        replace_file(new, _text(lease), mode=0o600)
        try:
            with suppress(FileExistsError):  # also where the first answer of an NFS server was lost
                os.link(new, self._file(number))
            sync(self.path)
        finally:
            new.unlink(missing_ok=True)
        return lease if self._read(number).token == lease.token else None

    def renew(self, lease: Lease, *, released: bool = False) -> Lease:
        """Writes that the lease goes on, or that it ends. Only its host does this."""
        renewed = lease._replace(renewals=lease.renewals + 1, released=released)
        replace_file(self._file(lease.number), _text(renewed), mode=0o600)
        return renewed

    def copies(self) -> list[Path]:
        """The copies of the database, oldest first: by the number of the lease, and not by a clock."""
        return [path for *_, path in sorted(self._copies())]

    def add_copy(self, source: Path, number: int) -> None:
        """Adds a copy of the database, and deletes the oldest ones.

        :param source: a verified backup
        :param number: of the lease under which it was made
        """
        last = max((each for of, each, _ in self._copies() if of == number), default=0)
        new = self.path / f".copy-{number:06}.new"
        for part in self.path.glob(".copy-*.new"):  # of a host that has failed
            part.unlink(missing_ok=True)
        os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        shutil.copyfile(source, new)
        sync(new)
        new.rename(self.path / f"copy-{number:06}-{last + 1:09}.db")
        sync(self.path)
        for old in self.copies()[:-KEPT]:
            old.unlink(missing_ok=True)

    def _copies(self) -> Iterator[tuple[int, int, Path]]:
        for path in self.path.iterdir():
            if found := _COPY.fullmatch(path.name):
                yield int(found[1]), int(found[2]), path

    def _read(self, number: int) -> Lease:
        path = self._file(number)
        try:
            data = json.loads(path.read_bytes())
            return Lease(**data | {"host": Host(**data["host"])})
        except (ValueError, TypeError, KeyError):
            raise Misconfigured([f"database.standby: {path} is no lease; delete it if no host works."]) from None

    def _file(self, number: int) -> Path:
        return self.path / f"lease-{number:06}"


def _text(lease: Lease) -> str:
    return json.dumps(lease._asdict() | {"host": lease.host._asdict()}) + "\n"
