"""``mapping = "service"``: every job runs as one user, by default the account of this program."""

import os
import pwd
import sys
from collections.abc import Mapping as Contents
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ucloud_slurm.bridge.naming import LocalUser
from ucloud_slurm.config import Config
from ucloud_slurm.errors import Misconfigured
from ucloud_slurm.system.accounts import own_account
from ucloud_slurm.system.files import make_folder, open_file, remove_folder
from ucloud_slurm.system.process import Command, Preparation, Started
from ucloud_slurm.users import name_service
from ucloud_slurm.users.mapping import Identity, IneligibleUserError, account_of

if TYPE_CHECKING:
    import socket  # a pass has no terminals, and starts without it

    from ucloud_slurm.system.terminal import Terminal

WARNING = (
    "All jobs run as {user}, the account of this program: any job can read its secrets and its database. "
    "Use it for tests, or where every user is trusted."
)


def refuse_root() -> None:
    """Refuses to run as root.

    :raises Misconfigured: this process runs as root
    """
    if os.geteuid() == 0:
        raise Misconfigured(
            [f"this does not run as root; start it as the daemon user: runuser -u ucloud-slurm -- {sys.argv[0]} ..."]
        )


def person(config: Config) -> LocalUser:
    """The user that jobs run as.

    :raises Misconfigured: it does not exist, or jobs may not run as it
    """
    user = config.service_account()
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        raise Misconfigured([f"users.service_user: there is no account {user} on this host."]) from None
    if user != own_account():
        try:
            account_of(user, config.users)
        except IneligibleUserError as error:
            raise Misconfigured([f"users.service_user: {error.reason}."]) from None
    return LocalUser(user, account.pw_dir, account.pw_shell or "/bin/sh", account.pw_uid)


class Service:
    """See :class:`Mapping`. Jobs from outside UCloud keep their users."""

    def __init__(self, config: Config) -> None:
        self._person = person(config)

    def identity(self, username: str, project: str | None, within: float | None = None) -> Identity:
        """See :class:`Mapping`. The same for every owner."""
        return Identity(self._person, None)

    def person(self, local_user: str) -> LocalUser:
        if local_user == self._person.user:
            return self._person
        try:
            account = name_service.ask(lambda: pwd.getpwnam(local_user))
        except KeyError:
            return LocalUser(local_user, "/nonexistent", "/bin/sh")
        return LocalUser(local_user, account.pw_dir, account.pw_shell or "/bin/sh", account.pw_uid)


class OwnPreparation:
    """See :class:`ucloud_slurm.system.process.Preparation`.

    The folder is made when the job's row is there: nobody would remove it if this process were killed before.
    """

    def __init__(self, folder: str, files: Contents[str, str]) -> None:
        self._folder = folder
        self._files = files

    def start(self, argv: Sequence[str], env: Contents[str, str], by_library: Contents[str, Any] | None = None) -> Started:
        """See :class:`ucloud_slurm.system.process.Preparation`. This process loads no library of Slurm's."""
        return Command(argv, env)

    def ready(self) -> None:
        make_folder(self._folder, self._files)


class OwnAccount:
    """See :class:`ucloud_slurm.users.impersonation.Impersonation`."""

    def start(self, argv: Sequence[str], env: Contents[str, str], by_library: Contents[str, Any] | None = None) -> Started:
        """See :class:`Impersonation`. This process loads no library of Slurm's."""
        return Command(argv, env)

    def preparation(self, folder: str, files: Contents[str, str], within: float) -> Preparation:
        return OwnPreparation(folder, files)

    def wake(self) -> None:
        """See :class:`Impersonation`. This process is there."""

    def open(self, path: str) -> int | None:
        return open_file(path)

    def listen(self, folder: str) -> "socket.socket | None":
        """See :class:`Impersonation`. This process watches its own folders with one descriptor for all."""
        return None

    def terminal(self, argv: Sequence[str], env: Contents[str, str], cols: int, rows: int) -> "Terminal":
        from ucloud_slurm.system import terminal

        return terminal.start(argv, env, cols, rows)

    def self_test(self, folder: str) -> None:
        make_folder(folder)
        remove_folder(folder)
