"""The sandbox's folder: nobody else can put something into it, one at a time changes it."""

import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.sandbox.errors import SandboxError

MARKER = ".ucloud-slurm-sandbox"
LONGEST = 80
"""Bytes of a path to which a name can still be added for a Unix socket (the kernel allows 107)."""


class Folder:
    """A folder that only the sandbox uses."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def prepare(self, *, shared: bool) -> None:
        """Make the folder, or make sure that the one that is there is ours.

        :param shared: whether other accounts must be able to reach it
        :raises SandboxError: when it cannot be trusted, reached or used
        """
        if not self.path.is_absolute() or len(os.fsencode(self.path)) > LONGEST:
            raise SandboxError(f"The sandbox cannot live in {self.path}: choose a full path of at most {LONGEST} bytes.")
        try:
            self.path.mkdir(mode=0o755, parents=True)
        except FileExistsError:
            self._check_ours()
        except OSError as refused:
            raise SandboxError(f"The folder {self.path} cannot be made ({refused.strerror}); choose another.") from refused
        else:
            self.path.chmod(0o755)  # whatever the umask says
            (self.path / MARKER).touch()
        if shared:
            self._check_reachable()

    def ours(self) -> bool:
        """Tell whether a sandbox lives here."""
        return (self.path / MARKER).is_file()

    def _check_ours(self) -> None:
        status = self.path.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise SandboxError(
                f"{self.path} is there but is not a folder that only you can write to; "
                "look at what is in it and delete it, or choose another folder."
            )
        # in this order: somebody may be making it a sandbox at this moment
        if any(self.path.iterdir()) and not self.ours():
            raise SandboxError(f"{self.path} holds something else than a sandbox; choose another folder.")
        self.path.chmod(0o755)
        (self.path / MARKER).touch()

    def _check_reachable(self) -> None:
        for folder in self.path.parents:
            if not folder.stat().st_mode & stat.S_IXOTH:
                raise SandboxError(
                    f"Other accounts cannot pass through {folder}, so jobs would not reach {self.path}; "
                    "choose a folder under /var/tmp."
                )

    @contextmanager
    def lock(self) -> Iterator[bool]:
        """Be the only one who starts, stops or removes. Yields False, unlocked, when there is no sandbox.

        :raises SandboxError: when the sandbox is somebody else's
        """
        while self.ours():
            try:
                handle = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            except FileNotFoundError:
                break
            except PermissionError as other:
                raise SandboxError(f"The sandbox in {self.path} belongs to another account.") from other
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                if self._is_current(handle):
                    yield True
                    return
            finally:
                os.close(handle)
        yield False

    def _is_current(self, handle: int) -> bool:
        try:
            return os.path.samestat(os.fstat(handle), (self.path / "lock").stat())
        except FileNotFoundError:
            return False  # removed while we waited

    def delete(self) -> None:
        """Delete the folder with all that is in it, if it is a sandbox."""
        if self.ours():
            shutil.rmtree(self.path)
