"""A login shell of the account of this process, in a folder below a root, on a terminal behind a socket of packets."""

import os
import pwd
import socket
from collections.abc import Callable, Sequence

from ucloud_slurm.system import beneath, terminal
from ucloud_slurm.system.accounts import user_environment
from ucloud_slurm.system.trees import opened
from ucloud_slurm.users import pump


def check(root: int, names: Sequence[bytes]) -> None:
    """Finds out whether a shell could begin in a folder, while there is somebody to whom an error can be returned.

    :raises OSError: it is not there, is no folder, cannot be entered, or a link leads out of the root
    """
    with opened(beneath.open_beneath(root, names, folder=True)) as folder:
        beneath.status(folder, b".")


def begin(root: str, names: Sequence[bytes], cols: int, rows: int) -> pump.Begin:
    """The shell, to be given to :func:`ucloud_slurm.users.pump.detach`. The folder is found once more below the root.

    It is the shell of the account's entry, as a login shell: its profiles are read, and nothing else is taken from here.
    """

    def start(channel: socket.socket) -> Callable[[], None]:
        entry = pwd.getpwuid(os.geteuid())
        shell = entry.pw_shell or "/bin/sh"
        env = user_environment(entry.pw_name, entry.pw_dir, shell, "/usr/bin") | {"TERM": "xterm-256color"}
        with opened(beneath.open_root(root)) as place, opened(beneath.open_beneath(place, names, folder=True)) as folder:
            command = terminal.start([shell, "-l"], env, cols, rows, folder)
        return lambda: pump.serve_terminal(channel, command)

    return start
