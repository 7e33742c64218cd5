"""Replacing a file as a whole: a crash leaves the old one or the new one, and nobody reads a part or a secret meanwhile."""

import os
import secrets
from contextlib import suppress
from pathlib import Path


def replace(
    path: Path, text: str, *, mode: int, uid: int = -1, gid: int = -1, backup: Path | None = None, new: bool = False
) -> None:
    """Writes a file under another name, flushes it to the disk, and gives it its name.

    :param mode: of the new file; it has 0600 until it is whole
    :param uid: of the owner; -1: this account
    :param gid: likewise
    :param backup: another name of the old file, if there is one
    :param new: there should be none; FileExistsError where another process has made one meanwhile
    :raises OSError: nothing has changed
    """
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    part = f".{path.name}.{secrets.token_hex(6)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(part, flags, 0o600, dir_fd=folder), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            if (uid, gid) != (-1, -1):
                os.fchown(file.fileno(), uid, gid)
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        if backup is not None:
            os.link(path, backup, follow_symlinks=False)
        if new:
            os.link(part, path.name, src_dir_fd=folder, dst_dir_fd=folder)
            os.unlink(part, dir_fd=folder)
        else:
            os.rename(part, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(part, dir_fd=folder)
        raise
    finally:
        os.close(folder)
