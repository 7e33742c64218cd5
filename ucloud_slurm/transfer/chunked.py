"""Uploads of one file in chunks, one POST for each (contract: CHUNKED). The file appears when all of it is there."""

import os
from collections.abc import Iterable
from typing import NamedTuple

from ucloud_slurm.errors import Conflict, NotFound, Problem, Refused
from ucloud_slurm.store.transfers import Transfer, TransferKind, TransferOutcome
from ucloud_slurm.transfer.exchange import ClientGoneError, Exchange, number
from ucloud_slurm.transfer.unit import GoneError, Unit
from ucloud_slurm.users.asked_files import FilesNotAnsweringError
from ucloud_slurm.users.file_problems import problem_of
from ucloud_slurm.users.files import ConflictPolicy, FileEntry, FileKind, FilesAs, OpenedPart, Place

LARGEST_CHUNK_BYTES = 20 * 1000 * 1000  # browsers send 16 000 000; nginx takes no more than this
FAILED_KEEP_SECONDS = 3600.0  # for which what came is kept where there is no space for more: it takes space, too
ALLOWED_HEADERS = "chunked-upload-token, chunked-upload-offset, chunked-upload-total-size, ucloud-username"
PREFLIGHT_SECONDS = 600
NOTHING_CAME = "Nothing of it has come within a minute. The file of this name, which is not empty, stays until something comes."


class Chunk(NamedTuple):
    """What the headers of a chunk say.

    :ivar total: bytes of the whole file
    """

    offset: int
    length: int
    total: int

    @classmethod
    def of(cls, exchange: Exchange) -> "Chunk":
        """Reads them.

        :raises Refused: they do not fit together
        """
        offset, total = number(exchange.header("Chunked-Upload-Offset")), number(exchange.header("Chunked-Upload-Total-Size"))
        if offset is None or total is None:
            raise Refused("Chunked-Upload-Offset and Chunked-Upload-Total-Size should be numbers of bytes.")
        if exchange.length is None:
            raise Refused("A chunk needs a Content-Length.", status=411)
        if exchange.length > LARGEST_CHUNK_BYTES:
            raise Refused(f"A chunk may have at most {LARGEST_CHUNK_BYTES} bytes.", status=413)
        if offset + exchange.length > total:
            raise Refused("The chunk ends beyond the end of the file.")
        return cls(offset, exchange.length, total)

    @property
    def is_last(self) -> bool:
        """Whether the file ends with it."""
        return self.offset + self.length == self.total


def preflight(exchange: Exchange) -> list[bytes]:
    """Answers what a browser asks before it sends a chunk."""
    exchange.head(
        204,
        [
            ("Access-Control-Allow-Methods", "POST"),
            ("Access-Control-Allow-Headers", ALLOWED_HEADERS),
            ("Access-Control-Max-Age", str(PREFLIGHT_SECONDS)),
        ],
    )
    return []


def upload(unit: Unit, exchange: Exchange) -> list[bytes]:
    """Takes one chunk.

    :raises Problem: it is not taken; what came before stays
    """
    exchange.check_origin()
    token = exchange.header("Chunked-Upload-Token") or ""
    transfer = unit.provider.transfers.find(token)
    if transfer is None or transfer.kind is not TransferKind.UPLOAD:
        raise NotFound("There is no such upload. Please begin it again at UCloud.")
    chunk = Chunk.of(exchange)
    with unit.admission.admit(transfer.username):
        if not unit.parts.enter(transfer.token):
            raise Conflict("Another chunk of this file is being written; please try again.")
        try:
            now = unit.provider.transfers.again(transfer) or transfer
            _ChunkedUpload(unit, now).take(chunk, exchange.body())
        finally:
            unit.parts.leave(transfer.token)
    return exchange.answer(200, "application/json", "{}")


class _ChunkedUpload:
    """One upload, to which this thread alone writes."""

    def __init__(self, unit: Unit, transfer: Transfer) -> None:
        self._unit = unit
        self._transfer = transfer
        self._transfers = unit.provider.transfers
        self._now = unit.provider.now()

    def take(self, chunk: Chunk, body: Iterable[memoryview]) -> None:
        transfer = self._transfer
        if transfer.outcome is TransferOutcome.DONE and transfer.size == chunk.total:
            return  # the answer to the last chunk was lost
        ended = transfer.ended_at is not None
        if transfer.expires_at < self._now or (ended and transfer.outcome is not TransferOutcome.EMPTY):
            raise GoneError("This upload cannot be continued any more. Please begin it again at UCloud.")
        if transfer.size is not None and transfer.size != chunk.total:
            raise Conflict(f"The file had {transfer.size} bytes when its upload began, and has {chunk.total} now.")
        part = self._opened(chunk)
        keep = False
        try:
            if chunk.offset > part.size:
                raise Conflict(f"Only {part.size} bytes of the file are here; the next chunk must begin there.")
            written = self._write(part, chunk, body)
            done = max(part.size, chunk.offset + written)
            whole = written == chunk.length and chunk.is_last and done == chunk.total
            if whole:
                self._finish(part, chunk)
            else:
                until = self._now + self._unit.provider.config.transfers.resume
                self._transfers.progress(self._transfer, done, until)
            keep = not whole
        finally:
            if keep:
                self._unit.parts.keep(transfer.token, part.descriptor, transfer.local_user)
            else:
                self._unit.parts.close(part.descriptor, transfer.local_user)
        if written < chunk.length:
            raise ClientGoneError("the chunk ends before its end")

    def _opened(self, chunk: Chunk) -> OpenedPart:
        transfer = self._transfer
        goes_on = transfer.part is not None and transfer.ended_at is None
        kept = self._unit.parts.take(transfer.token)
        if kept is not None and goes_on:
            return OpenedPart(kept, str(transfer.part), os.fstat(kept).st_size)
        place, files = self._unit.checked(transfer), self._unit.files(transfer)
        part: OpenedPart | None = None
        if goes_on:
            try:
                part = files.resume(place, str(transfer.part))
            except NotFound:  # somebody has deleted it
                if chunk.offset:
                    raise Conflict("What came of this file is not there any more. Please begin the upload again.") from None
        if part is None:
            part = files.begin(place, self._policy(place), parents=False)
        if not goes_on or transfer.part != part.name or transfer.size is None:
            try:
                self._transfer = self._transfers.begin(transfer, part.name, chunk.total, self._now)
            except BaseException:
                self._unit.parts.close(part.descriptor, transfer.local_user)
                raise
        return part

    def _policy(self, place: Place) -> ConflictPolicy:
        """A file of which nothing came for a while is an empty one by now, which what came late replaces."""
        if self._transfer.outcome is TransferOutcome.EMPTY:
            found = _found(self._unit.files(self._transfer), place)
            if found is not None and _is_empty(found):
                return ConflictPolicy.REPLACE
        return ConflictPolicy(self._transfer.policy or ConflictPolicy.RENAME)

    def _write(self, part: OpenedPart, chunk: Chunk, body: Iterable[memoryview]) -> int:
        """Writes what comes of a chunk; returns how many bytes that were.

        :raises StorageFullError: there is no space, or no quota
        """
        written = 0
        try:
            for piece in body:
                write_at(part.descriptor, piece, chunk.offset + written)
                written += len(piece)
        except OSError as error:
            self._failed(f"failed ({error.strerror})", chunk.offset + written)
            raise problem_of(error, self._transfer.parts) from None
        return written

    def _finish(self, part: OpenedPart, chunk: Chunk) -> None:
        transfer = self._transfer
        place, files = Place(transfer.root, transfer.parts), self._unit.files(transfer)
        try:
            name = finished(files, place, part.name, self._policy(place), chunk.total)
        except Problem as problem:
            self._failed(f"failed ({problem.why})", chunk.total)
            raise
        self._transfers.end(transfer, TransferOutcome.DONE, self._unit.provider.now(), chunk.total, name)
        self._unit.record(transfer, "done" if name == place.name else f"done as {name!r}", chunk.total)

    def _failed(self, what: str, done: int) -> None:
        self._transfers.progress(self._transfer, done, self._now + FAILED_KEEP_SECONDS)
        self._unit.record(self._transfer, what, done)


def write_at(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """Writes all of it.

    :raises OSError: it cannot be written
    """
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def finished(files: FilesAs, place: Place, part: str, policy: ConflictPolicy, size: int, modified_ms: int | None = None) -> str:
    """Makes a part the file; returns its name. Where no answer comes, it is asked for once more.

    :raises Problem: it is not done, and the part stays
    """
    try:
        return files.finish(place, part, policy, size=size, modified_ms=modified_ms)
    except FilesNotAnsweringError:
        try:
            return files.finish(place, part, policy, size=size, modified_ms=modified_ms)
        except NotFound:
            return place.name  # the first one was done


def finish_empty(unit: Unit, transfer: Transfer) -> None:
    """Ends an upload of which nothing came as an empty file: browsers send nothing for one.

    That nothing came is no reason to replace what somebody has written: such a file stays, and the upload is still open.

    :raises Problem: it cannot be made; with a status of 500 or more the upload stays as it is, so does it with :class:`NotNow`
    :raises NotNow: it cannot be made at the moment
    """
    transfers, now = unit.provider.transfers, unit.provider.now()
    if not unit.parts.enter(transfer.token):
        return
    try:
        found = transfers.again(transfer)
        if found is None or found.part is None or found.used_at is not None or found.ended_at is not None:
            return
        try:
            files, place, policy = unit.files(found), unit.checked(found), ConflictPolicy(found.policy or ConflictPolicy.RENAME)
            there = _found(files, place) if policy is ConflictPolicy.REPLACE else None
            if there is not None and not _is_empty(there):
                transfers.use(found, now, found.expires_at)
                unit.record(found, "nothing came, and the file that is there stays", 0)
                unit.report_failure(found, NOTHING_CAME)
                return
            name = finished(files, place, found.part, policy, 0)
        except Problem as problem:
            if problem.status < 500:
                transfers.use(found, now, now)  # what is left is deleted
            raise
        transfers.use(found, now, found.expires_at)
        transfers.end(found, TransferOutcome.EMPTY, now, 0, name)
        unit.record(found, "empty", 0)
    finally:
        unit.parts.leave(transfer.token)


def _found(files: FilesAs, place: Place) -> FileEntry | None:
    try:
        return files.stat(place)
    except NotFound:
        return None


def _is_empty(entry: FileEntry) -> bool:
    return entry.kind is FileKind.FILE and entry.size == 0
