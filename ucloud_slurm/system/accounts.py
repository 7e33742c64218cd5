"""Accounts of this host (passwd(5)), and the one rule about people: which of them jobs may run as.

The rule is a file that only root can write. It is not in /etc/ucloud-slurm, which only the daemon user may enter: the
program that acts as a person reads it as that person.
"""

from __future__ import annotations

import grp
import os
import pwd

from ucloud_slurm.errors import Misconfigured, one_line
from ucloud_slurm.system.ownership import Distrust, distrust
from ucloud_slurm.system.slurm_options import is_plugin_option

TYPE_CHECKING = False  # re, typing and dataclasses load slowly, and the program that acts as a user starts often
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from typing import Any

RULE_FILE = "/etc/ucloud-slurm-people.toml"
RULE_BYTES = 65536
FLOOR = 1000  # smaller uids are system accounts
NAMES = r"[A-Za-z0-9_][A-Za-z0-9_.@+\\-]*\$?"  # as directory services give them, DOMAIN\user included
MAX_NAME_CHARACTERS = 256  # useradd(8), sudo and Slurm have no larger bound
DISABLED = frozenset({"nologin", "false", "true", "sync", "shutdown", "halt"})
# Their members are root in disguise: by their rule of sudo, by a daemon that starts anything as root for them, by the
# machine's disks and memory, or by the hashes of root's password.
ROOT_GROUPS = (
    *("root", "sudo", "wheel", "admin", "google-sudoers"),
    *("docker", "podman", "lxd", "incus", "incus-admin", "libvirt", "microk8s"),
    *("disk", "kmem", "shadow"),
)

# sudo and Slurm read a text with one of these as a group, an option or several names; it would be a part of a path, too.
_NO_BEGIN, _NOWHERE = "-+#%~!.", "/,:="

_group_ids: dict[str, int | None] = {}  # of names that hosts do not have a name service answers slowly; numbers do not change
_rules: dict[bytes, PeopleRule] = {}  # the last rule that was read, by the text of its file


class Account:
    """An account of this host (passwd(5))."""

    __slots__ = ("gid", "home", "name", "shell", "uid")

    def __init__(self, name: str, uid: int, gid: int, shell: str, home: str) -> None:
        self.name = name
        self.uid = uid
        self.gid = gid
        self.shell = shell
        self.home = home


class PeopleRule:
    """The rule about people.

    :ivar names: regular expressions, all of which the name of a user matches
    :ivar uid_floor: the smallest uid of a user; smaller ones are system accounts
    :ivar slurm_user: the account that Slurm's files may belong to, besides system accounts
    :ivar refused_groups: groups whose members are no users, because they can become root
    :ivar plugin_options: options of sbatch that a site may add, besides those that :mod:`slurm_options` lists
    """

    KEYS = ("names", "uid_floor", "slurm_user", "refused_groups", "plugin_options")
    __slots__ = KEYS

    def __init__(
        self,
        names: tuple[str, ...] = (NAMES,),
        uid_floor: int = FLOOR,
        slurm_user: str = "slurm",
        refused_groups: tuple[str, ...] = ROOT_GROUPS,
        plugin_options: tuple[str, ...] = (),
    ) -> None:
        self.names = names
        self.uid_floor = uid_floor
        self.slurm_user = slurm_user
        self.refused_groups = refused_groups
        self.plugin_options = plugin_options

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PeopleRule) and all(getattr(self, key) == getattr(other, key) for key in self.KEYS)

    def __hash__(self) -> int:
        return hash(tuple(getattr(self, key) for key in self.KEYS))

    def allows_name(self, name: str) -> bool:
        """Whether an account of that name can be a user's, as far as the name says."""
        return is_name(name) and all(_matches(pattern, name) for pattern in self.names)

    def narrowed(self, names: str | None, uid_floor: int | None) -> PeopleRule:
        """The rule with further conditions; None for no condition."""
        patterns = self.names if names is None else (*self.names, names)
        floor = max(self.uid_floor, uid_floor or 0)
        return PeopleRule(patterns, floor, self.slurm_user, self.refused_groups, self.plugin_options)

    def owns_slurm(self, uid: int) -> bool:
        """Whether Slurm's files may belong to the account with that uid: a system account, or ``slurm_user``."""
        if uid < min(FLOOR, self.uid_floor):
            return True
        try:
            return uid == pwd.getpwnam(self.slurm_user).pw_uid
        except KeyError:
            return False


def read_rule(path: str | os.PathLike[str] | None = None) -> PeopleRule:
    """The rule of this host; the default where there is no file.

    :raises Misconfigured: the file cannot be used, in one sentence
    """
    path = path or RULE_FILE
    try:
        with open(path, "rb") as file:
            found = distrust(path, lambda uid: uid == 0, "root")
            if found is not None:
                raise Misconfigured([f"{path}: {found.why}; {found.repair}"])
            text = file.read(RULE_BYTES)
    except FileNotFoundError:
        return PeopleRule()
    except OSError as error:
        raise Misconfigured([f"{path}: cannot be read ({error.strerror}); chmod 644 {path}"]) from None
    if text not in _rules:
        # Loaded only where it is needed: the program that acts as a user starts often.
        import tomllib

        try:
            rule = _rule(tomllib.loads(text.decode()))
        except (ValueError, RecursionError) as error:  # TOML and UTF-8 that are none, too
            raise Misconfigured([f"{path}: {one_line(str(error), 200)}."]) from None
        _rules.clear()
        _rules[text] = rule
    return _rules[text]


def _rule(data: dict[str, Any]) -> PeopleRule:
    import re

    unknown = sorted(data.keys() - {*PeopleRule.KEYS})
    if unknown:
        raise ValueError(f"{unknown[0]} is not a key that exists; there are {', '.join(PeopleRule.KEYS)}")
    rule = PeopleRule()
    names, floor, owner = data.get("names", NAMES), data.get("uid_floor", rule.uid_floor), data.get("slurm_user", "slurm")
    try:
        re.compile(names)
    except (re.error, TypeError) as error:
        raise ValueError(f"names: should be a regular expression ({error})") from None
    if isinstance(floor, bool) or not isinstance(floor, int) or floor < 1:
        raise ValueError("uid_floor: should be a whole number above 0")
    if not isinstance(owner, str) or not is_name(owner):
        raise ValueError("slurm_user: should be the name of an account")
    groups, options = data.get("refused_groups", [*rule.refused_groups]), data.get("plugin_options", [])
    if not isinstance(groups, list) or not all(isinstance(group, str) and is_name(group) for group in groups):
        raise ValueError("refused_groups: should be a list of names of groups")
    if not isinstance(options, list) or not all(isinstance(option, str) and is_plugin_option(option) for option in options):
        raise ValueError(
            "plugin_options: should be a list of whole names of options that plugins add to sbatch, without their dashes"
        )
    return PeopleRule((names,), floor, owner, tuple(groups), tuple(options))


def is_name(text: str) -> bool:
    """Whether a text is read as the name of an account wherever it is used, whatever the rule allows."""
    if not text.strip("0123456789") or len(text) > MAX_NAME_CHARACTERS or not text.isprintable():
        return False
    return text[0] not in _NO_BEGIN and not any(each in _NOWHERE or each.isspace() for each in text)


def _matches(pattern: str, name: str) -> bool:
    """Whether a name matches a regular expression. That of every host is not given to re, which loads slowly."""
    if pattern != NAMES:
        import re

        return re.fullmatch(pattern, name) is not None
    plain = name.removesuffix("$")
    usual = (each.isalnum() or each == "_" or (place > 0 and each in ".@+-\\") for place, each in enumerate(plain))
    return plain != "" and plain.isascii() and all(usual)


def root_group(gids: Collection[int], rule: PeopleRule) -> str | None:
    """The group through which somebody with these groups can become root; None if there is none.

    sudo compares the names of an account's groups, sockets and devices have numbers: the two can differ where several
    sources of groups know a name or a number, so that both count.
    """
    if 0 in gids:
        return "root"
    names = {_group_name(gid) for gid in gids}
    return next((name for name in rule.refused_groups if name in names or _gid(name) in gids), None)


def _group_name(gid: int) -> str | None:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return None


def _gid(name: str) -> int | None:
    if name not in _group_ids:
        try:
            _group_ids[name] = grp.getgrnam(name).gr_gid
        except KeyError:
            _group_ids[name] = None
    return _group_ids[name]


def ineligible(account: Account, rule: PeopleRule, *, own_uid: int) -> str | None:
    """Why no job may run as an account, in a sentence for an administrator; None if jobs may.

    Its groups are not looked at: see :func:`root_group`.

    :param own_uid: uid of the account that this service runs as
    """
    name = account.name
    if account.uid == 0 or account.gid == 0:
        return f"{name[:40]!r} is root or in its group; jobs never run as root"
    if account.uid < rule.uid_floor:
        return f"{name[:40]!r} has the uid {account.uid}; users have {rule.uid_floor} or more, and jobs run only as users"
    if not rule.allows_name(name):
        return f"{name[:40]!r} is not a name that users have here ({' and '.join(rule.names)})"
    if account.uid == own_uid:
        return f"{name} is the account of this service"
    if not os.path.isabs(account.shell) or os.path.basename(account.shell) in DISABLED:
        return f"{name} may not log in: its shell is {account.shell or 'empty'}"
    if not os.path.isabs(account.home) or account.home == "/":
        return f"{name} has no home folder"
    return None


# Names of accounts and texts that are none: an example of what a pattern allows is found among them.
_EXAMPLES = (
    *("ada", "_ada", "Ada", "ada.l", "9ada", "ada@example.org", r"DOM\ada", "ada+x", "ada$", "a" * 33),
    *("a b", "a/b", "-r", "#0", "%wheel", "1000", "ada,bob", "é"),
)


def wider(rule: PeopleRule, names: str, examples: Sequence[str] = _EXAMPLES) -> str | None:
    """An example of a name that a pattern allows and the rule does not; None if none is found."""
    return next((each for each in examples if _matches(names, each) and not rule.allows_name(each)), None)


def slurm_distrust(path: str | os.PathLike[str], rule: PeopleRule, caller: int) -> Distrust | None:
    """Why a person must not use a file of Slurm's that the service names; None if they may.

    :param caller: the uid of the service, which must not be able to change the file
    """
    owners = f"root, a system account or {rule.slurm_user} (slurm_user in {RULE_FILE})"
    return distrust(path, lambda uid: rule.owns_slurm(uid) and (uid != caller or uid == 0), owners)


def own_account() -> str:
    """The name of the account that this process runs as.

    :raises Misconfigured: this host knows none with its uid
    """
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        raise Misconfigured([f"there is no account with the uid {os.geteuid()}, as which this runs; use another."]) from None


def user_environment(name: str, home: str, shell: str, folder: str | os.PathLike[str]) -> dict[str, str]:
    """The environment of a command that a user runs, and of the jobs that it submits. No login profile is run for it.

    :param folder: that of the command, with others that scripts call
    """
    usual = ("/usr/local/bin", "/usr/bin", "/bin")
    path = usual if str(folder) in usual else (str(folder), *usual)
    return {"PATH": ":".join(path), "HOME": home, "USER": name, "LOGNAME": name, "SHELL": shell, "LANG": "C.UTF-8"}
