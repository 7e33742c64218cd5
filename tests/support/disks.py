"""Small disks of memory (tmpfs(5)), and disks that nobody may write to. Only root can mount them."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def disk(folder: Path, options: str) -> Iterator[Path]:
    """A disk in a folder that is made for it.

    :param options: of the mount, such as ``size=4m``
    """
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
