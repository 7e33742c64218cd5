"""``mapping = "service"``: every job runs as one account, the one that runs this program."""

import os
import pwd

from ucloud_slurm.bridge.batch import Person
from ucloud_slurm.config import Config, own_account
from ucloud_slurm.errors import Misconfigured

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
