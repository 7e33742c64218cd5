"""The mapping from UCloud to this cluster: the user that a job runs as, and the Slurm account of its project."""

import grp
import logging
import os
import pwd
import re
from typing import NamedTuple, Protocol

from ucloud_slurm.bridge.naming import LocalUser
from ucloud_slurm.config import Config, UsersSection
from ucloud_slurm.errors import Forbidden, Misconfigured, Problem, one_line
from ucloud_slurm.store.people import People
from ucloud_slurm.system.accounts import RULE_FILE, Account, ineligible, read_rule, root_group
from ucloud_slurm.system.bulkhead import StuckError
from ucloud_slurm.users import name_service

log = logging.getLogger(__name__)

_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+\\-]{0,127}")


class Identity(NamedTuple):
    """The user that a job runs as, and its Slurm account; None for that of the product."""

    person: LocalUser
    account: str | None


class Mapping(Protocol):
    """From users of UCloud to users of this host."""

    def identity(self, username: str, project: str | None, within: float | None = None) -> Identity:
        """The user that a new job of that owner runs as. It may take long: never asked in a write transaction.

        :param within: seconds that a mapping which asks others has for its answer; None: as the site configures
        :raises Forbidden: there is none; the text is for the researcher
        :raises Problem: the mapping does not answer at the moment
        """

    def person(self, local_user: str) -> LocalUser:
        """The user of an existing job.

        :raises Forbidden: the user does not exist any more, or jobs may not run as it any more
        """


class IneligibleUserError(Forbidden):
    """No job may run as that user; ``reason`` is for the administrator."""

    def __init__(
        self, reason: str, why: str = "Your account on this cluster may not run jobs. Please tell the provider's support."
    ) -> None:
        """Keeps the reason.

        :param why: the sentence for the researcher
        """
        super().__init__(why)
        self.reason = reason


class AdministratorError(IneligibleUserError):
    """The user can become root through a group."""

    def __init__(self, user: str, group: str) -> None:
        super().__init__(
            f"{user} is in the group {group}, whose members can become root (refused_groups in {RULE_FILE})",
            f"Your account on this cluster can become its administrator, through the group {group}, and jobs of UCloud "
            "do not run under such an account. Please ask the provider's support for another account.",
        )


class IdentityUnavailableError(Problem):
    """The mapping does not answer at the moment, which says nothing about the user."""

    def __init__(self) -> None:
        super().__init__("The provider cannot tell at the moment who you are on the cluster; please try again later.")


def account_of(local_user: str, users: UsersSection, uid: int | None = None) -> Account:
    """The account of that name, if jobs may run as it.

    :param uid: that it must have
    :raises IneligibleUserError: jobs may not run as it
    :raises Misconfigured: the rule about people cannot be used
    """
    rule = read_rule().narrowed(users.names, users.uid_floor)
    try:
        entry = pwd.getpwnam(local_user)
    except (KeyError, ValueError):
        raise IneligibleUserError(f"there is no account {local_user[:40]!r} on this host") from None
    # The name that the name service returns counts: some services accept other spellings.
    account = Account(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_shell, entry.pw_dir)
    if account.name != local_user:
        raise IneligibleUserError(f"{local_user[:40]!r} is another spelling of {account.name}")
    if uid is not None and uid != account.uid:
        raise IneligibleUserError(f"{local_user} had the uid {uid} when it was connected and has {account.uid} now")
    reason = ineligible(account, rule, own_uid=os.geteuid())
    if reason is not None:
        raise IneligibleUserError(reason)
    group = root_group(name_service.groups_of(account.name, account.gid), rule)
    if group is not None:
        raise AdministratorError(account.name, group)
    return account


def is_member(account: Account, group: str) -> bool:
    """Whether an account is a member of a group; False if there is no such group."""
    try:
        return grp.getgrnam(group).gr_gid in name_service.groups_of(account.name, account.gid)
    except KeyError:
        return False


def slurm_account(users: UsersSection, people: People, project: str | None, local_user: str) -> str | None:
    """The Slurm account of the jobs of a project or a user; None for that of the product.

    :raises Forbidden: the configured pattern gives no valid name
    """
    known = people.account(project) if project is not None else None
    if known is not None:
        return known
    if project is None:
        return personal_account(users, local_user)
    name = users.account and users.account.replace("{project}", project).replace("{user}", local_user)
    if name is not None and not _WORD.fullmatch(name):
        raise Forbidden(f"Your project {one_line(project, 40)} has no account here. Please tell the provider's support.")
    return name


def personal_account(users: UsersSection, local_user: str) -> str | None:
    """The Slurm account of a user's jobs without a project; None for that of the product.

    :raises Forbidden: the configured pattern gives no valid name
    """
    name = users.personal_account and users.personal_account.replace("{project}", "").replace("{user}", local_user)
    if name is not None and not _WORD.fullmatch(name):
        raise Forbidden("You have no account of your own here. Please tell the provider's support.")
    return name


def eligible_user(local_user: str, users: UsersSection, uid: int | None = None) -> LocalUser:
    """The user of that name, if jobs may run as it; the reason why not is logged.

    :raises IneligibleUserError: see :func:`account_of`
    :raises IdentityUnavailableError: the rule about people cannot be used, or the name service does not answer
    """
    try:
        account = name_service.ask(lambda: account_of(local_user, users, uid))
    except StuckError as error:
        log.error("no job runs as %s: %s", one_line(local_user, 40), error)
        raise IdentityUnavailableError from None
    except Misconfigured as error:
        log.error("no job runs as a user: %s", one_line(str(error), 300))
        raise IdentityUnavailableError from None
    except IneligibleUserError as error:
        log.warning("no job runs as %s: %s", one_line(local_user, 40), error.reason)
        raise
    return LocalUser(account.name, account.home, account.shell, account.uid)


class Table:
    """``mapping = "table"``: the table that ``ucloud-slurm users`` and ``link`` edit. See :class:`Mapping`."""

    def __init__(self, config: Config, people: People) -> None:
        self._users = config.users
        self._people = people

    def identity(self, username: str, project: str | None, within: float | None = None) -> Identity:
        if within is not None and within <= 0:
            raise IdentityUnavailableError  # the name service may take as long for each as for those before
        link = self._people.of(username)
        if link is None:
            raise Forbidden(
                "Your account at UCloud is not connected with an account on this cluster. Connect it "
                "first: in UCloud, under Providers, choose this provider and Connect."
            )
        person = eligible_user(link.local_user, self._users, link.uid)
        return Identity(person, slurm_account(self._users, self._people, project, person.user))

    def person(self, local_user: str) -> LocalUser:
        return eligible_user(local_user, self._users)
