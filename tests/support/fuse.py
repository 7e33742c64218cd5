"""A file system in user space (fuse(4)) with one file, which answers some requests only when it is told to. Needs root."""

import ctypes
import os
import stat
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# Of the kernel's include/uapi/linux/fuse.h.
LOOKUP, FORGET, GETATTR, OPEN, READ, RELEASE, FLUSH, INIT, OPENDIR, INTERRUPT, BATCH_FORGET = (
    1,
    2,
    3,
    14,
    15,
    18,
    25,
    26,
    27,
    36,
    42,
)
_MNT_FORCE, _MNT_DETACH = 1, 2
_HEADER, _REPLY = struct.Struct("IIQQIIII"), struct.Struct("IiQ")
_ATTRIBUTES = struct.Struct("QQQQQQIIIIIIIIII")
_FILE_NODE = 2


class SlowFiles:
    """The file system.

    :ivar asked: the requests that wait
    """

    def __init__(self, folder: Path, name: str, text: bytes, held: set[int]) -> None:
        self.folder = folder
        self.file = folder / name
        self.asked: set[int] = set()
        self._text = text
        self._held = held
        self._device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        self._libc = ctypes.CDLL(None, use_errno=True)
        options = f"fd={self._device},rootmode=40000,user_id={os.geteuid()},group_id={os.getegid()},allow_other"
        if self._libc.mount(b"slow", os.fsencode(folder), b"fuse", 0, options.encode()) != 0:
            os.close(self._device)
            raise OSError(ctypes.get_errno(), "the file system cannot be mounted")
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends it: whoever waits for it gets an error."""
        self._libc.umount2(os.fsencode(self.folder), _MNT_FORCE | _MNT_DETACH)
        self._thread.join(10)
        os.close(self._device)

    def _serve(self) -> None:
        with suppress(OSError):  # ENODEV: it is not mounted any more
            while True:
                data = os.read(self._device, 1 << 18)
                _, code, unique, node, _, _, _, _ = _HEADER.unpack_from(data)
                if code in (FORGET, BATCH_FORGET, INTERRUPT):
                    continue
                if code in self._held and node == _FILE_NODE:
                    self.asked.add(code)
                    continue
                answer = self._answer(code, node, data[_HEADER.size :])
                error, body = (answer, b"") if isinstance(answer, int) else (0, answer)
                with suppress(FileNotFoundError):  # it was interrupted
                    os.write(self._device, _REPLY.pack(_REPLY.size + len(body), -error, unique) + body)

    def _answer(self, code: int, node: int, body: bytes) -> bytes | int:
        if code == INIT:
            return struct.pack("IIIIHHIIHHI7I", 7, 31, 1 << 17, 0, 12, 10, 1 << 17, 1, 0, 0, 0, *[0] * 7)
        if code == LOOKUP:
            if body.rstrip(b"\0") != os.fsencode(self.file.name):
                return 2  # ENOENT
            return struct.pack("QQQQII", _FILE_NODE, 0, 60, 0, 0, 0) + self._attributes(_FILE_NODE)
        if code == GETATTR:
            return struct.pack("QII", 0, 0, 0) + self._attributes(node)
        if code in (OPEN, OPENDIR):
            return struct.pack("QII", 1, 0, 0)
        if code == READ:
            return self._text
        return 0 if code in (RELEASE, FLUSH) else 38  # ENOSYS

    def _attributes(self, node: int) -> bytes:
        kind = stat.S_IFREG | 0o644 if node == _FILE_NODE else stat.S_IFDIR | 0o755
        return _ATTRIBUTES.pack(node, len(self._text), 0, 0, 0, 0, 0, 0, 0, kind, 1, os.geteuid(), os.getegid(), 0, 4096, 0)


@contextmanager
def slow_files(folder: Path, name: str, text: bytes = b"text\n", *, held: set[int]) -> Iterator[SlowFiles]:
    """Mounts such a file system on a folder.

    :param held: the requests about the file that get no answer
    """
    files = SlowFiles(folder, name, text, held)
    try:
        yield files
    finally:
        files.close()
