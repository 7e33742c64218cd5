"""``mapping = "service"``: every job runs as one account, the one that runs this program."""

import os
import pwd
from pathlib import Path

from ucloud_slurm.bridge.batch import Person
from ucloud_slurm.config import Config, own_account
from ucloud_slurm.errors import Misconfigured, StorageFull

WARNING = (
    "All jobs run as {user}, the account of this program: any job can read its secrets and its database. "
    "Use it for trying, or where every user is trusted."
)


def refuse_root() -> None:
    """This program never runs as root.

    :raises Misconfigured: when it does
    """
    if os.geteuid() == 0:
        raise Misconfigured(
            ["ucloud-slurm does not run as root. Start it as an account of its own, for example with the units in "
             "systemd/ or: runuser -u ucloud-slurm -- ucloud-slurm ..."]
        )  # fmt: skip


def person(config: Config) -> Person:
    """The account that jobs run as.

    :raises Misconfigured: when it does not exist or is not the account of this program
    """
    user = config.service_account()
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        raise Misconfigured([f"users.service_user: there is no account {user} on this host."]) from None
    if user != own_account():
        raise Misconfigured(
            [f"users.service_user: is {user}, but this program runs as {own_account()}; this release runs jobs as "
             "its own account only."]
        )  # fmt: skip
    return Person(user, account.pw_dir, account.pw_shell or "/bin/sh")


def make_folder(path: str) -> None:
    """Makes a job's folder, 0700. One that is there already must be a folder of ours, not a link to one.

    :raises StorageFull: no space, no quota, or no right to write there
    """
    folder = Path(path)
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise StorageFull(f"The job's folder cannot be made ({error.strerror}); please tell the provider.") from None
    try:
        if os.fstat(descriptor).st_uid != os.geteuid():
            raise StorageFull("The job's folder belongs to somebody else; please tell the provider.")
    finally:
        os.close(descriptor)
