"""Uploads of the files of a folder, through one WebSocket (contract: upload protocol, version 2).

The protocol has no message for a failure. What failed is not counted, and when the rest is there the connection is
closed: the browser shows how many came. The reasons are in a task that has failed.
"""

import os
import secrets
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from ucloud_slurm.errors import NotNow, Problem, StorageError, StorageFullError
from ucloud_slurm.store.transfers import PROGRESS_SECONDS, Transfer, TransferKind, Transfers, hashed
from ucloud_slurm.transfer.chunked import finished, write_at
from ucloud_slurm.transfer.folder_contents import FolderContents
from ucloud_slurm.transfer.messages import (
    FileData,
    FileSkipped,
    ListedFile,
    ListedFiles,
    UploadClosed,
    UploadMessage,
    UploadOp,
    UploadProtocolError,
    answer,
)
from ucloud_slurm.users.file_problems import problem_of
from ucloud_slurm.users.files import ConflictPolicy, FilesAs, OpenedPart, Place, names

AT_ONCE = 8  # files that the browser is asked for at a time; each has a descriptor
MOST_LISTED = 20_000  # files that are announced and not done; browsers announce about 5000
MOST_LISTED_BYTES = 8 * 1024 * 1024  # of their paths
MOST_NAMED = 5  # failures in the sentence for the user


@dataclass(slots=True)
class _Coming:
    """A file that the browser was asked for."""

    listed: ListedFile
    target: Place
    received: int = 0
    part: OpenedPart | None = None
    row: Transfer | None = None


class FolderUpload:
    """One upload: takes the messages of the browser, and gives those for it.

    :param until: until when a part that is written now is not one that nobody continues
    :ivar done: bytes of files that are whole
    :ivar completed: files that are whole, or were not needed
    :ivar failures: sentences about files that are not there
    :ivar failed: how many those are
    :ivar full: nothing more can be written
    """

    def __init__(self, transfer: Transfer, files: FilesAs, target: Place, rows: Transfers, until: Callable[[], float]) -> None:
        self._transfer = transfer
        self._files = files
        self._target = target
        self._rows = rows
        self._until = until
        self._policy = ConflictPolicy(transfer.policy or ConflictPolicy.RENAME)
        self._contents = FolderContents(files)
        self._waiting: deque[ListedFile] = deque()
        self._waiting_bytes = 0  # of their paths
        self._coming: dict[int, _Coming] = {}
        self._failed_ids: set[int] = set()
        self._next_id = 0
        self.done = 0
        self.completed = 0
        self.listed = 0
        self.failures: list[str] = []
        self.failed = 0
        self.full = False

    @property
    def idle(self) -> bool:
        """Whether everything that was announced has come, or has failed."""
        return not self._waiting and not self._coming

    def take(self, message: UploadMessage) -> bytes:
        """Does what the browser says; returns what it is answered, empty for nothing.

        :raises UploadProtocolError: it says something impossible
        :raises NotNow: the files cannot be reached at the moment
        """
        before = self.completed
        match message:
            case ListedFiles(files=files):
                self._announced(files)
            case FileData():
                self._data(message)
            case FileSkipped(id=number):
                self._skipped(number)
            case UploadClosed():
                raise UploadProtocolError("it says that it has no more files")
        return b"".join(self._answers(before))

    def _answers(self, before: int) -> Iterator[bytes]:
        while self._waiting and len(self._coming) < AT_ONCE and not self.full:
            listed = self._waiting.popleft()
            self._waiting_bytes -= len(listed.path)
            target = Place(self._target.root, (*self._target.parts, *listed.parts))
            if listed.path and self._policy is not ConflictPolicy.REJECT and self._contents.has(target, listed):
                self.completed += 1
                yield answer(UploadOp.SKIP, listed.id)
            else:
                self._coming[listed.id] = _Coming(listed, target)
                yield answer(UploadOp.OK, listed.id)
        if self.completed != before:
            yield answer(UploadOp.FILES_COMPLETED, self.completed)

    def _announced(self, files: tuple[ListedFile, ...]) -> None:
        for listed in files:
            if listed.id != self._next_id:
                raise UploadProtocolError("the numbers of the files have a gap")
            if bool(listed.path) is not (self._transfer.kind is TransferKind.FOLDER):
                raise UploadProtocolError("a file has a path that does not fit to the upload")
            self._next_id += 1
        self.listed += len(files)
        self._waiting.extend(files)
        self._waiting_bytes += sum(len(listed.path) for listed in files)
        if len(self._waiting) > MOST_LISTED or self._waiting_bytes > MOST_LISTED_BYTES:
            raise UploadProtocolError("too many files are announced")

    def _data(self, message: FileData) -> None:
        coming = self._coming.get(message.id)
        if coming is None:
            if message.id not in self._failed_ids:
                raise UploadProtocolError("there is data of a file that was not asked for")
            return
        try:
            self._write(coming, message.data)
        except OSError as error:
            self._fail(coming, problem_of(error, coming.target.parts))
        except Problem as problem:
            self._fail(coming, problem)

    def _write(self, coming: _Coming, data: bytes) -> None:
        if coming.part is None:
            coming.part = self._files.begin(coming.target, self._policy, parents=True)
            coming.row = self._kept(coming.target, coming.part)
        if coming.received + len(data) > coming.listed.size:
            raise UploadProtocolError("a file is longer than announced")
        write_at(coming.part.descriptor, data, coming.received)
        coming.received += len(data)
        self._keep_alive(coming)
        if coming.received == coming.listed.size:
            self._finish(coming, coming.part)

    def _keep_alive(self, coming: _Coming) -> None:
        until = self._until()
        if coming.row is not None and until - coming.row.expires_at >= PROGRESS_SECONDS:
            self._rows.progress(coming.row, coming.received, until)
            coming.row = coming.row._replace(expires_at=until)

    def _kept(self, target: Place, part: OpenedPart) -> Transfer:
        """Notes the part in the database, from where it is deleted if this process dies."""
        token, until = hashed(secrets.token_hex(16)), self._until()
        row = self._transfer._replace(token=token, kind=TransferKind.PART, parts=target.parts, part=part.name, expires_at=until)
        self._rows.keep_part(row)
        return row

    def _finish(self, coming: _Coming, part: OpenedPart) -> None:
        listed = coming.listed
        finished(self._files, coming.target, part.name, self._policy, listed.size, listed.modified_ms)
        self._closed(coming)
        self._forget(coming)
        self.completed += 1
        self.done += listed.size

    def _skipped(self, number: int) -> None:
        coming = self._coming.get(number)
        if coming is None:
            if number not in self._failed_ids:
                raise UploadProtocolError("a file is skipped that was not asked for")
            return
        self._drop(coming)
        self.completed += 1

    def _fail(self, coming: _Coming, problem: Problem) -> None:
        self._failed_ids.add(coming.listed.id)
        self.failed += 1
        if len(self.failures) < MOST_NAMED:
            self.failures.append(f"{names(coming.listed.parts or coming.target.parts[-1:])}: {problem.why}")
        self.full = self.full or isinstance(problem, StorageFullError)
        self._drop(coming)

    def _drop(self, coming: _Coming) -> None:
        part = self._closed(coming)
        if part is None:
            return
        try:
            self._files.drop(coming.target, part.name)
        except (Problem, NotNow):
            return  # it is deleted later
        self._forget(coming)

    def _closed(self, coming: _Coming) -> OpenedPart | None:
        """Closes what a file was written to, once: the number may soon be that of another file."""
        self._coming.pop(coming.listed.id, None)
        part, coming.part = coming.part, None
        if part is not None:
            with suppress(OSError):  # what counts was written to the disk
                os.close(part.descriptor)
        return part

    def _forget(self, coming: _Coming) -> None:
        if coming.row is not None:
            with suppress(StorageError):  # it is looked for once more, later
                self._rows.forget_part(coming.row)

    def close(self) -> None:
        """The connection has ended: what is not whole is deleted."""
        for coming in list(self._coming.values()):
            self._drop(coming)
