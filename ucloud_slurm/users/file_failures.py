"""Why something could not be done with a user's files: one word, from the program that acts as the user to the service.

:mod:`ucloud_slurm.users.file_problems` has the sentences. The program starts often, so that nothing slow is loaded here.
"""

import errno
from typing import Any

from ucloud_slurm.system.beneath import LeadsOutError
from ucloud_slurm.system.listing import CursorError, TooSlowError
from ucloud_slurm.system.parts import NotAPartError, WrongSizeError
from ucloud_slurm.system.trees import TooDeepError

_OF_ERRNO = {
    errno.ENOENT: "missing",
    errno.ESTALE: "missing",
    errno.EACCES: "denied",
    errno.EPERM: "denied",
    errno.EROFS: "read-only",
    errno.EEXIST: "exists",
    errno.ENOTEMPTY: "exists",
    errno.EISDIR: "is-folder",
    errno.ENOTDIR: "no-folder",
    errno.EXDEV: "other-device",
    errno.ENOSPC: "full",
    errno.EDQUOT: "quota",
    errno.EFBIG: "too-large",
    errno.EINVAL: "impossible",
    errno.ENAMETOOLONG: "too-long",
    errno.EAGAIN: "busy",
    errno.EBUSY: "busy",
    errno.ETXTBSY: "busy",
}
_OF_CLASS: dict[type[Exception], str] = {
    LeadsOutError: "leads-out",
    TooSlowError: "too-slow",
    CursorError: "cursor",
    NotAPartError: "no-part",
    WrongSizeError: "wrong-size",
    TooDeepError: "too-deep",
}
# Others that are raised by what is done: the folder of the drive is not there; the drive itself, the trash or something in
# it cannot be changed so; a name that would not be shown; a pipe, a device or a folder where a file should be; something in
# a tree that cannot be copied, or deleted; anything else.
OTHERS = ("no-root", "root", "trash", "reserved", "no-file", "inside", "not-copied", "not-deleted", "storage")
KINDS = frozenset({*_OF_ERRNO.values(), *_OF_CLASS.values(), *OTHERS})


class FailureError(Exception):
    """It could not be done.

    :ivar kind: of ``KINDS``
    :ivar target: whether it is about the target of a copy or move, not about what is copied
    """

    def __init__(self, kind: str, *, target: bool = False) -> None:
        super().__init__(kind)
        self.kind = kind
        self.target = target


FAILURES: tuple[type[Exception], ...] = (FailureError, OSError, *_OF_CLASS)


def failure(error: Exception, *, target: bool = False) -> FailureError:
    """An exception of ``FAILURES`` as one word."""
    if isinstance(error, FailureError):
        return error
    for known, kind in _OF_CLASS.items():
        if isinstance(error, known):
            return FailureError(kind, target=target)
    return FailureError(_OF_ERRNO.get(getattr(error, "errno", None) or 0, "storage"), target=target)


def answer(error: FailureError) -> dict[str, Any]:
    """The answer that says so."""
    return {"failed": error.kind, "target": error.target}
