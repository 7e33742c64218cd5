"""``check``: the Unix users that jobs run as, and whether the provider can act as them."""

import grp
import os
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from zipfile import BadZipFile

from ucloud_slurm.bridge.naming import JobPaths, LocalUser
from ucloud_slurm.cli.output import Level, Line
from ucloud_slurm.config import Config, UsersSection
from ucloud_slurm.errors import NotNow, Problem, StorageFullError
from ucloud_slurm.store.people import People, UserLink
from ucloud_slurm.store.sqlite import Store
from ucloud_slurm.system.accounts import ROOT_GROUPS, RULE_FILE, own_account, read_rule, wider
from ucloud_slurm.system.ownership import distrust
from ucloud_slurm.users import bundle, service
from ucloud_slurm.users.impersonation import Impersonation, ImpersonationDeniedError, RunnerClient
from ucloud_slurm.users.mapping import IneligibleUserError, account_of, is_member, personal_account
from ucloud_slurm.users.script import Script
from ucloud_slurm.users.service import OwnAccount

MOST_NAMED = 10  # users with a problem that are named; the others are counted


def accounts(config: Config) -> Iterator[Line]:
    """The rule about people, the users by the mapping, and a trial with one of them."""
    service.refuse_root()
    yield from _rule(config)
    match config.users.mapping:
        case "table":
            yield from _table(config)
        case "script":
            yield from _script(config)
        case _:
            yield from _service(config)
    for path in (config.ucloud.refresh_token_file, config.database.path):
        if path.exists() and path.stat().st_mode & 0o077:
            yield "failed", f"{path} can be read by other users; chmod 600 {path}"


def others(config: Config) -> bool:
    """Whether jobs run as other users than the provider itself."""
    return config.users.mapping != "service" or config.service_account() != own_account()


def people(config: Config) -> list[LocalUser]:
    """The users as whom jobs may be tried, each once."""
    match config.users.mapping:
        case "service":
            return [service.person(config)]
        case "script":
            return _members(config.users)
    found = {link.local_user: _person(config.users, link) for link in _links(config)}
    return [person for person in found.values() if isinstance(person, LocalUser)]


def slurm_account_of(config: Config, person: LocalUser) -> str | None:
    """The Slurm account of a user's own jobs; None for that of the product."""
    return None if config.users.mapping == "service" else personal_account(config.users, person.user)


def impersonation(config: Config, user: str) -> Impersonation:
    """Impersonation of a user: here, or through the runner."""
    return OwnAccount() if user == own_account() else RunnerClient(config.users.runner, user)


def _rule(config: Config) -> Iterator[Line]:
    rule, users = read_rule(), config.users
    if Path(RULE_FILE).exists() and not Path(RULE_FILE).stat().st_mode & 0o004:
        yield "failed", f"{RULE_FILE}: the program that acts as users cannot read it; chmod 644 {RULE_FILE}"
    if users.uid_floor is not None and users.uid_floor < rule.uid_floor:
        yield (
            "warning",
            f"users.uid_floor = {users.uid_floor} allows uids that the rule about people does not ({RULE_FILE}): no job "
            f"runs below {rule.uid_floor}",
        )
    example = wider(rule, users.names) if users.names is not None else None
    if example is not None:
        yield (
            "warning",
            f"users.names allows {example!r}, for example, which the rule about people does not ({RULE_FILE}): no job runs "
            "under such a name",
        )
    if others(config):
        yield from _administrators(users.group, rule.refused_groups)
        yield from _program(users.program)


def _administrators(group: str, refused: Sequence[str]) -> Iterator[Line]:
    """Members of the group that jobs may run as who are in a group that makes root of its members."""
    members, found = _names(group), []
    for other in dict.fromkeys((*ROOT_GROUPS, *refused)):
        for name in sorted(members & _names(other)):
            so = "no job runs" if other in refused else "jobs run"
            found.append(f"{name} can become root through the group {other}: {so} as {name} (refused_groups in {RULE_FILE})")
    yield from _first("warning", found, "can become root, too")
    if not found:
        yield (
            "ok",
            f"nobody in {group} is in a group that makes root of its members; a rule of sudo for one person cannot be seen "
            "from here: sudo -l -U NAME",
        )


def _names(group: str) -> set[str]:
    try:
        return {*grp.getgrnam(group).gr_mem}
    except KeyError:
        return set()


def _program(path: Path) -> Iterator[Line]:
    """Whether what sudo starts, and the Python beside it, are root's, and of this release."""
    settings = path.parent.parent / "pyvenv.cfg"
    failed = False
    for place in (path, path.parent / "python3", *([settings] if settings.exists() else [])):
        found = distrust(place, lambda uid: uid == 0, "root")
        if found is not None:
            failed = True
            yield "failed", f"users.program: {found.why}: {found.repair}"
    try:
        if bundle.is_outdated(path):
            failed = True
            yield "failed", f"users.program: {path} is of another release than this one; install both with one pip install"
    except (OSError, BadZipFile) as error:
        failed = True
        yield "failed", f"users.program: {path} is not the program of this release ({error}); pip install makes it"
    if not failed:
        yield "ok", f"{path} and the Python beside it can be changed by root only"


def _service(config: Config) -> Iterator[Line]:
    person = service.person(config)
    if others(config):
        yield from _trial(config, [person])
        return
    of_a_job = _folder(config, person)
    folder = Path(of_a_job).parent
    try:
        OwnAccount().self_test(of_a_job)
    except StorageFullError as error:
        what, _, _ = str(error).partition(";")  # the rest is for researchers
        yield "failed", f"jobs.folder: {what}; give {folder} to {person.user}, mode 0700, on a disk with space"
    else:
        yield "ok", f"jobs run as {person.user} in {folder}"
    yield "warning", service.WARNING.format(user=person.user)


def _table(config: Config) -> Iterator[Line]:
    links = _links(config)
    if not links:
        yield "warning", "nobody is connected yet: ucloud-slurm users add UCLOUD_USER LOCAL_USER"
        yield from _trial(config, _members(config.users))
        return
    yield "ok", f"{len(links)} users of UCloud are connected"
    fit, unfit = [], []
    for link in links:
        found = _person(config.users, link)
        if isinstance(found, LocalUser):
            fit.append(found)
            if "{home}" in config.jobs.folder and _is_missing(found.home):
                unfit.append(f"{link.username} may be unable to run jobs: {found.user} has no home folder {found.home} here")
        else:
            unfit.append(f"{link.username} cannot run jobs: {found}")
    yield from _first("warning", unfit, "cannot run jobs")
    yield from _trial(config, fit)


def _first(level: Level, sentences: Sequence[str], what: str) -> Iterator[Line]:
    """The first of some sentences about people, and how many more there are who are alike."""
    for sentence in sentences[:MOST_NAMED]:
        yield level, sentence
    if len(sentences) > MOST_NAMED:
        yield level, f"and {len(sentences) - MOST_NAMED} more who {what}"


def _links(config: Config) -> list[UserLink]:
    store = Store.of(config.database)
    try:
        return People(store).listed()
    finally:
        store.close()


def _is_missing(home: str) -> bool:
    """Whether there is no such folder, as far as this account can see."""
    try:
        return not stat.S_ISDIR(Path(home).stat().st_mode)
    except PermissionError:
        return False
    except OSError:
        return True


def _script(config: Config) -> Iterator[Line]:
    store = Store.of(config.database)
    try:
        Script(config, store, time.time)
    finally:
        store.close()
    yield "ok", f"{config.users.script} says who jobs run as"
    yield from _trial(config, _members(config.users))


def _person(users: UsersSection, link: UserLink) -> LocalUser | str:
    """The local user of a connection, or why no job runs as that user."""
    try:
        account = account_of(link.local_user, users, link.uid)
    except IneligibleUserError as error:
        return error.reason
    if not is_member(account, users.group):
        return f"{account.name} is not in the group {users.group}"
    return LocalUser(account.name, account.home, account.shell)


def _members(users: UsersSection) -> list[LocalUser]:
    """The members of the group that jobs may run as."""
    found = []
    try:
        names = grp.getgrnam(users.group).gr_mem
    except KeyError:
        return []
    for name in names:
        try:
            account = account_of(name, users)
        except IneligibleUserError:
            continue
        found.append(LocalUser(account.name, account.home, account.shell))
    return found


def _trial(config: Config, people: Sequence[LocalUser]) -> Iterator[Line]:
    """Tries to act as the first user."""
    runner = config.users.runner
    if not people and runner.is_socket():
        yield "warning", f"the runner was not tried: the group {config.users.group} has no member that jobs may run as"
    elif not people:
        yield "failed", f"there is no runner at {runner}; start ucloud-slurm-runner.socket"
    else:
        person = people[0]
        folder = _folder(config, person)
        try:
            RunnerClient(runner, person.user).self_test(folder)
        except ImpersonationDeniedError:
            why = "journalctl -u ucloud-slurm-runner says why; is the rule of sudo installed?"
            yield "failed", f"the runner cannot act as {person.user}: {why}"
        except (NotNow, Problem) as error:
            yield "failed", f"as {person.user}, in {Path(folder).parent}: {error}"
        else:
            yield "ok", f"the runner can act as {person.user}, whose jobs are in {Path(folder).parent}"


def _folder(config: Config, person: LocalUser) -> str:
    return JobPaths.of(config.jobs.folder, person, f"check-{os.getpid()}").folder
