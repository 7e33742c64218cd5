"""The messages by which a browser sends files through a WebSocket (contract: upload protocol, version 2). Pure.

Binary, big-endian. What a browser writes is not trusted: paths are taken apart here, and everything has a limit.
"""

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from ucloud_slurm.bridge.drives import MAX_PART_BYTES, MAX_PATH_BYTES

LARGEST_LISTING_BYTES = 256 * 1024  # browsers write at most 64 KiB

_HEAD = struct.Struct(">BI")
_ENTRY = struct.Struct(">iqqi")
_MOST_MILLISECONDS = 253_402_300_800_000  # the year 10000


class UploadOp(IntEnum):
    """The first byte of a message."""

    OK = 0
    CHUNK = 2
    SKIP = 3
    LISTING = 4
    FILES_COMPLETED = 5
    CLOSE = 6


class UploadProtocolError(Exception):
    """The browser does not keep to the protocol. The text is for the journal."""


class ListedFile(NamedTuple):
    """A file that the browser would send.

    :ivar modified_ms: None where the browser gives no usable time
    :ivar path: UTF-8; empty where one file is uploaded, whose path is known
    """

    id: int
    size: int
    modified_ms: int | None
    path: bytes

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of its path. Thousands wait, so that these are not kept."""
        return tuple(self.path.decode().split("/")) if self.path else ()


class ListedFiles(NamedTuple):
    """The browser announces files."""

    files: tuple[ListedFile, ...]


class FileData(NamedTuple):
    """A piece of a file, the next one after the pieces before."""

    id: int
    data: bytes


class FileSkipped(NamedTuple):
    """The browser cannot read the file."""

    id: int


class UploadClosed(NamedTuple):
    """The sender has no more files."""


UploadMessage = ListedFiles | FileData | FileSkipped | UploadClosed


def answer(op: UploadOp, number: int) -> bytes:
    """A message to the browser."""
    return _HEAD.pack(op, number)


class UploadMessages:
    """Takes frames apart as they come, so that the data of a file is never held as a whole."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._chunk: int | None = None  # the file whose data the rest of the frame is

    def feed(self, data: bytes, *, last: bool) -> Iterator[UploadMessage]:
        """The messages in a piece of a frame.

        :param last: the frame ends with it
        :raises UploadProtocolError: it has something else in it
        """
        if self._chunk is not None:
            if data:  # the end of a frame may come alone, after the file was whole
                yield FileData(self._chunk, data)
        else:
            self._buffer += data
            yield from self._taken(last)
        if last:
            if self._buffer:
                raise UploadProtocolError("a frame ends within a message")
            self._chunk = None

    def _taken(self, last: bool) -> Iterator[UploadMessage]:
        while self._buffer:
            op = self._buffer[0]
            if op == UploadOp.LISTING:
                if len(self._buffer) > LARGEST_LISTING_BYTES:
                    raise UploadProtocolError("a list of files is too long")
                if last:
                    listed = bytes(self._buffer[1:])
                    self._buffer.clear()
                    yield ListedFiles(tuple(_entries(listed)))
                return
            if op == UploadOp.CLOSE:
                del self._buffer[:1]
                yield UploadClosed()
                continue
            if op not in (UploadOp.CHUNK, UploadOp.SKIP):
                raise UploadProtocolError(f"an unknown message ({op})")
            if len(self._buffer) < _HEAD.size:
                return
            _, number = _HEAD.unpack_from(self._buffer)
            del self._buffer[: _HEAD.size]
            if op == UploadOp.SKIP:
                yield FileSkipped(number)
                continue
            self._chunk = number
            piece = bytes(self._buffer)
            self._buffer.clear()
            yield FileData(number, piece)  # of an empty file, too
            return


def _entries(listed: bytes) -> Iterator[ListedFile]:
    at = 0
    while at < len(listed):
        if len(listed) - at < _ENTRY.size:
            raise UploadProtocolError("a list of files ends within an entry")
        number, size, modified_ms, length = _ENTRY.unpack_from(listed, at)
        at += _ENTRY.size
        if not 0 <= length <= min(MAX_PATH_BYTES, len(listed) - at):
            raise UploadProtocolError("a list of files has a path of an impossible length")
        if number < 0 or size < 0:
            raise UploadProtocolError("a list of files has a negative number")
        usable = 0 < modified_ms < _MOST_MILLISECONDS
        yield ListedFile(number, size, modified_ms if usable else None, _checked(listed[at : at + length]))
        at += length


def _checked(path: bytes) -> bytes:
    parts = path.split(b"/") if path else []
    if any(part in (b"", b".", b"..") or b"\0" in part or len(part) > MAX_PART_BYTES for part in parts):
        raise UploadProtocolError("a list of files has a path with a part that is not allowed")
    try:
        path.decode()
    except UnicodeDecodeError:
        raise UploadProtocolError("a list of files has a path that is no UTF-8") from None
    return path
