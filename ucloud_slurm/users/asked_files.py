"""Files of a user by the verbs of :mod:`ucloud_slurm.users.file_verbs`: what is asked, and what is believed.

The answers could have been written by the user's own processes. Each field is checked for its type and its size, and each
descriptor for what it is. What remains is that users can be shown what is not so, about their own files.
"""

import fcntl
import hashlib
import os
import socket
import stat
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from ucloud_slurm.errors import Refused, one_line
from ucloud_slurm.system import ipc, terminal
from ucloud_slurm.system.parts import PART
from ucloud_slurm.users import file_verbs
from ucloud_slurm.users.file_failures import KINDS
from ucloud_slurm.users.file_problems import problem
from ucloud_slurm.users.files import (
    FINISH_SECONDS,
    QUICK_SECONDS,
    TRASH,
    ConflictPolicy,
    FileEntry,
    FileKind,
    Listing,
    OpenedFile,
    OpenedPart,
    Place,
    SortBy,
    Work,
)
from ucloud_slurm.users.impersonation import ImpersonationUnavailableError, packets

Answer = Mapping[str, Any]
_LIMIT = 1 << 63


class FilesNotAnsweringError(ImpersonationUnavailableError):
    """No answer came, or none that can be read: the user's file system or program hangs. A change may have been made."""


class AskedFiles(ABC):
    """See :class:`ucloud_slurm.users.files.FilesAs`."""

    @abstractmethod
    def ask(self, verb: str, within: float, theirs: socket.socket | None, arguments: Mapping[str, Any]) -> Answer:
        """Has a request served.

        :param within: seconds
        :param theirs: a socket that is passed on, and closed here
        """

    @abstractmethod
    def uid(self) -> int:
        """The user's number."""

    def list(
        self,
        folder: Place,
        *,
        after: str | None,
        most: int,
        by: SortBy,
        descending: bool,
        hidden: bool,
        within: float = QUICK_SECONDS,
    ) -> Listing:
        most = min(max(most, 1), file_verbs.MOST_ROWS)
        if not file_verbs.is_cursor(after):
            raise problem("cursor", folder.parts)
        order: dict[str, Any] = {"after": after, "most": most, "by": by.value, "descending": descending, "hidden": hidden}
        answer = self._answer("list", within, folder, **order)
        rows, next_page = answer.get("rows"), answer.get("after")
        if not isinstance(rows, list) or len(rows) > most or not file_verbs.is_cursor(next_page):
            raise _unreadable()
        if next_page is not None and next_page == after:
            raise _unreadable()
        return Listing(tuple(_entry(row) for row in rows), next_page, _number(answer.get("unreadable")))

    def stat(self, place: Place, *, within: float = QUICK_SECONDS) -> FileEntry:
        return _entry(self._answer("stat", within, place).get("row"), of_root=not place.parts)

    def read(self, place: Place, *, within: float = QUICK_SECONDS) -> OpenedFile:
        descriptor, _ = self._opened("read", within, place)
        status = _status(descriptor)
        if status is None:
            raise _unreadable()
        return OpenedFile(descriptor, status.st_size, status.st_mtime_ns)

    def begin(self, place: Place, policy: ConflictPolicy, *, parents: bool, within: float = QUICK_SECONDS) -> OpenedPart:
        descriptor, answer = self._opened("begin", within, place, policy=policy.value, parents=parents)
        return self._part(descriptor, answer.get("part"))

    def resume(self, place: Place, part: str, *, within: float = QUICK_SECONDS) -> OpenedPart:
        descriptor, _ = self._opened("resume", within, place, part=part)
        return self._part(descriptor, part)

    def finish(
        self,
        place: Place,
        part: str,
        policy: ConflictPolicy,
        *,
        size: int,
        modified_ms: int | None,
        within: float = FINISH_SECONDS,
    ) -> str:
        facts: dict[str, Any] = {"part": part, "policy": policy.value, "size": size, "modified": modified_ms}
        return _name(self._answer("finish", within, place, **facts))

    def drop(self, place: Place, part: str, *, within: float = QUICK_SECONDS) -> None:
        self._answer("drop", within, place, part=part)

    def make_folder(self, place: Place, policy: ConflictPolicy, *, parents: bool, within: float = QUICK_SECONDS) -> str:
        return _name(self._answer("make-folder", within, place, policy=policy.value, parents=parents))

    def move(self, source: Place, target: Place, policy: ConflictPolicy, *, within: float = QUICK_SECONDS) -> str:
        return _name(self._answer("move", within, source, target, policy=policy.value))

    def trash(self, place: Place, *, within: float = QUICK_SECONDS) -> str:
        return _name(self._answer("trash", within, place))

    def work(
        self,
        verb: Work,
        source: Place,
        target: Place | None,
        policy: ConflictPolicy,
        *,
        key: str,
        within: float = QUICK_SECONDS,
    ) -> socket.socket:
        digits = hashlib.sha256(key.encode()).hexdigest()[:16]
        nowhere: dict[str, Any] = {"to_root": None, "to_parts": None} if target is None else {}
        facts: dict[str, Any] = {"work": verb.value, "policy": policy.value, "key": digits, **nowhere}
        ours, theirs = packets()
        try:
            self._answer("work", within, source, target, theirs, **facts)
        except BaseException:
            ours.close()
            raise
        return ours

    def shell(self, folder: Place, cols: int, rows: int, *, within: float = QUICK_SECONDS) -> terminal.Terminal:
        size = {key: min(max(value, 1), terminal.LARGEST_SIZE) for key, value in (("cols", cols), ("rows", rows))}
        ours, theirs = packets()
        try:
            self._answer("shell", within, folder, None, theirs, **size)
        except BaseException:
            ours.close()
            raise
        return terminal.RemoteTerminal(ours)

    def _answer(
        self,
        verb: str,
        within: float,
        place: Place,
        target: Place | None = None,
        theirs: socket.socket | None = None,
        **arguments: Any,
    ) -> Answer:
        arguments |= {"root": place.root, "parts": [*place.parts]}
        if target is not None:
            arguments |= {"to_root": target.root, "to_parts": [*target.parts]}
        try:
            for each in (place, *([target] if target else [])):
                if not file_verbs.is_root(each.root) or not file_verbs.are_parts([*each.parts]):
                    raise Refused("The path has a name that is not allowed.")
        except BaseException:
            if theirs is not None:
                theirs.close()
            raise
        answer = self.ask(verb, within, theirs, arguments)
        if "failed" in answer:
            kind = answer["failed"] if isinstance(answer["failed"], str) and answer["failed"] in KINDS else "storage"
            about = (target or Place(place.root, (TRASH,))) if answer.get("target") is True else place
            raise problem(kind, about.parts)
        for key in ("unknown", "trouble", "problem"):
            if key in answer:
                raise FilesNotAnsweringError(one_line(str(answer[key]), 200))
        return answer

    def _opened(self, verb: str, within: float, place: Place, **arguments: Any) -> tuple[int, Answer]:
        ours, theirs = packets()
        with ours:
            answer = self._answer(verb, within, place, None, theirs, **arguments)
            # It was sent before the answer. Where this call ends before it is taken, the kernel drops it.
            descriptor = ipc.receive_descriptor(ours)
        if descriptor is None:
            raise _unreadable()
        return descriptor, answer

    def _part(self, descriptor: int, name: object) -> OpenedPart:
        status = _status(descriptor)
        if status is None:
            raise _unreadable()
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        own = status.st_uid == self.uid() and status.st_nlink == 1
        writable = flags & os.O_ACCMODE in (os.O_WRONLY, os.O_RDWR) and not flags & os.O_APPEND
        if not own or not writable or not isinstance(name, str) or not PART.fullmatch(name):
            os.close(descriptor)
            raise _unreadable()
        return OpenedPart(descriptor, name, status.st_size)


def _status(descriptor: int) -> os.stat_result | None:
    """The status of a regular file; else the descriptor is closed."""
    try:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode):
            return status
    except OSError:
        pass
    ipc.close([descriptor])
    return None


def _entry(row: object, *, of_root: bool = False) -> FileEntry:
    if not isinstance(row, (list, tuple)) or len(row) != 9:
        raise _unreadable()
    name, kind, size, modified, accessed, mode, uid, gid, target = row
    if name != "" if of_root else not file_verbs.is_name(name):
        raise _unreadable()
    kinds: Sequence[str] = [*FileKind]
    if kind not in kinds or (target is not None and target not in kinds):
        raise _unreadable()
    return FileEntry(
        name,
        FileKind(kind),
        _number(size),
        _number(modified, -_LIMIT),
        _number(accessed, -_LIMIT),
        _number(mode) & 0o7777,
        _number(uid),
        _number(gid),
        None if target is None else FileKind(target),
    )


def _number(value: object, least: int = 0) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < _LIMIT:
        raise _unreadable()
    return value


def _name(answer: Answer) -> str:
    name = answer.get("name")
    if not isinstance(name, str) or not file_verbs.is_name(name):
        raise _unreadable()
    return name


def _unreadable() -> FilesNotAnsweringError:
    return FilesNotAnsweringError("the answer about files cannot be read")
