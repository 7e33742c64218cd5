"""Reading a file that grows, in whole characters, across truncation and rotation."""

import codecs
import os
import threading
from collections.abc import Callable

CHUNK_BYTES = 64 * 1024
_WITHIN = bytes(range(0x80, 0xC0))  # the bytes of a character of UTF-8 behind its first

Opener = Callable[[], int | None]


class Tail:
    """One file, read in chunks: memory does not grow with the file.

    Of a file that exists at the first read, reading begins at the first line of its last ``most`` bytes; a file that
    appears later is read from its beginning. Bytes that are not UTF-8 become U+FFFD.
    """

    def __init__(self, opener: Opener, most: int) -> None:
        """Reads nothing yet.

        :param opener: opens the file that has the name now; gives None when there is none
        :param most: bytes
        """
        self._opener = opener
        self._most = most
        # A reader may be cancelled, and closed, before its thread returns from a read.
        self._lock = threading.Lock()
        self._closed = False
        self._descriptor: int | None = None
        self._offset = 0
        self._was_read = False
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def read(self, *, look_again: bool = False, last: bool = False) -> str | None:
        """The next text; None at the present end of the file. The text may be empty.

        :param look_again: at the end, check whether another file has replaced this one
        :param last: nothing more will be written
        """
        with self._lock:
            if self._closed or (self._descriptor is None and not self._open()):
                return None
            data = self._next()
            if not data and look_again and self._replaced():
                data = self._next()
            text = self._decoder.decode(data, final=last and not data)
            return text if data or text else None

    def close(self) -> None:
        """Closes the file, after a read that is under way."""
        with self._lock:
            self._closed = True
            descriptor, self._descriptor = self._descriptor, None
            if descriptor is not None:
                os.close(descriptor)

    def _open(self) -> bool:
        first, self._was_read = not self._was_read, True
        self._descriptor = self._opener()
        if self._descriptor is None:
            return False
        size = os.fstat(self._descriptor).st_size
        if first and size > self._most:
            self._begin(self._line_start(size - self._most))
        return True

    def _line_start(self, offset: int) -> int:
        """Where the first line at or after the offset begins; the first character where the chunk has no line end."""
        data = os.pread(self._held(), CHUNK_BYTES, offset - 1)
        end = data.find(b"\n")
        if end >= 0:
            return offset + end
        first = data[1:4]  # a character has at most three bytes behind its first
        return offset + len(first) - len(first.lstrip(_WITHIN))

    def _next(self) -> bytes:
        data = os.pread(self._held(), CHUNK_BYTES, self._offset)
        if not data and os.fstat(self._held()).st_size < self._offset:
            self._begin(0)  # the file was truncated
            data = os.pread(self._held(), CHUNK_BYTES, 0)
        self._offset += len(data)
        return data

    def _replaced(self) -> bool:
        """Opens the file again; on a network file system that also makes new bytes visible."""
        other = self._opener()
        if other is None:
            return False
        held = self._held()
        try:
            old, new = os.fstat(held), os.fstat(other)
        except OSError:
            os.close(other)
            raise
        self._descriptor = other
        if (old.st_dev, old.st_ino) != (new.st_dev, new.st_ino):
            self._begin(0)
        os.close(held)
        return True

    def _begin(self, offset: int) -> None:
        self._offset = offset
        self._decoder.reset()

    def _held(self) -> int:
        if self._descriptor is None:
            raise ValueError("the file is not open")
        return self._descriptor
