"""What serves on this host, by what the kernel lists: nothing is connected to, so that nothing is started by a look."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

WEB_SOCKET = Path("/run/ucloud-slurm/web.sock")  # ListenStream of ucloud-slurm.socket
FILES_SOCKET = Path("/run/ucloud-slurm-files/files.sock")  # ListenStream of ucloud-slurm-files.socket
WSGI = b"ucloud_slurm.wsgi"  # in the command line of the web service
PROC = Path("/proc")
ACCEPTS = 0x10000  # flag of a socket that listens, in unix(7)'s table


def own_processes(words: bytes, proc: Path = PROC) -> Iterator[Path]:
    """The folders in ``/proc`` of the processes of this account that have these words in their command line.

    :param words: separated by NUL, as proc_pid_cmdline(5) has them
    """
    for process in proc.glob("[0-9]*"):
        with suppress(OSError):  # another account's, or it has ended
            if process.stat().st_uid == os.geteuid() and words in (process / "cmdline").read_bytes():
                yield process


def listens(path: Path, proc: Path = PROC) -> bool:
    """Whether systemd or a process listens on a unix socket of that path."""
    try:
        table = (proc / "net/unix").read_text(errors="replace")
    except OSError:
        return False
    rows = [line.split(None, 7) for line in table.splitlines()[1:]]
    return any(len(row) == 8 and int(row[3], 16) & ACCEPTS and row[7] == str(path) for row in rows)
