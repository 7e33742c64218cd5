"""Reading a file that grows: from where one left off, through truncation and rotation, in whole characters."""

import codecs
import os
import threading
from collections.abc import Callable

CHUNK = 64 * 1024  # bytes that are read at a time

Opener = Callable[[], int | None]


class Tail:
    """One file, read piece by piece. Memory does not grow with the file.

    A file that is there at the first look is read from its end minus ``most`` bytes, from the beginning of a line;
    one that appears later from its beginning. Bytes that are not UTF-8 are skipped.
    """

    def __init__(self, opener: Opener, most: int) -> None:
        """Describes it; nothing is read.

        :param opener: opens the file as it is now; None when there is none
        """
        self._opener = opener
        self._most = most
        # Whoever waits for a read may give up before the read does.
        self._lock = threading.Lock()
        self._closed = False
        self._descriptor: int | None = None
        self._offset = 0
        self._looked = False
        self._decoder = codecs.getincrementaldecoder("utf-8")("ignore")

    def read(self, *, look_again: bool = False) -> str | None:
        """The next piece, None when there is no more for now. A piece may be empty.

        :param look_again: at the end, see whether another file has taken its place
        """
        with self._lock:
            if self._closed or (self._descriptor is None and not self._open()):
                return None
            data = self._next()
            if not data and look_again and self._replaced():
                data = self._next()
            return self._decoder.decode(data) if data else None

    def close(self) -> None:
        """Lets go of the file, when a read that is under way has ended."""
        with self._lock:
            self._closed = True
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def _open(self) -> bool:
        first, self._looked = not self._looked, True
        self._descriptor = self._opener()
        if self._descriptor is None:
            return False
        self._begin(0)
        size = os.fstat(self._descriptor).st_size
        if first and size > self._most:
            self._begin(self._line_start(size - self._most))
        return True

    def _line_start(self, offset: int) -> int:
        """The first line that begins at or after the offset, if one does soon."""
        data = os.pread(self._held(), CHUNK, offset - 1)
        end = data.find(b"\n")
        return offset + end if end >= 0 else offset

    def _next(self) -> bytes:
        data = os.pread(self._held(), CHUNK, self._offset)
        if not data and os.fstat(self._held()).st_size < self._offset:
            self._begin(0)  # it was cut off, and is written anew
            data = os.pread(self._held(), CHUNK, 0)
        self._offset += len(data)
        return data

    def _replaced(self) -> bool:
        """Opens the file again. On a network file system that is also how new bytes are seen."""
        other = self._opener()
        if other is None:
            return False
        old, new = os.fstat(self._held()), os.fstat(other)
        if (old.st_dev, old.st_ino) != (new.st_dev, new.st_ino):
            self._begin(0)
        os.close(self._held())
        self._descriptor = other
        return True

    def _begin(self, offset: int) -> None:
        self._offset = offset
        self._decoder.reset()

    def _held(self) -> int:
        if self._descriptor is None:
            raise ValueError("the file is not open")
        return self._descriptor
