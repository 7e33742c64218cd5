#!/usr/bin/python3
"""A hook of ucloud-slurm: Slurm accounts, associations and limits for projects of UCloud and their members.

It gets one event as JSON on its standard input: person-connected, person-left, project-changed or wallet-changed. It
looks at what Slurm has, and does what is missing with ``sacctmgr -i``. The same event twice changes nothing.

* A project has the account that ``ucloud-slurm users projects`` gives it, else one of its own, which is made.
* Members who are connected are in the account of their project.
* GrpTRESMins of an account that it has made is what the wallet has bought, and 0 while the wallet is locked. So jobs that
  are sent by hand stop too.

It removes only memberships that it has made, and limits only accounts that it has made; both are in its state file.
``slurm_accounts.toml`` beside it has the settings. Only the standard library is needed (Python 3.11 or newer).
"""

import argparse
import fcntl
import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LONGEST_NAME = 40
ORGANIZATION = "ucloud"  # of the accounts that it makes
UNLIMITED = -1  # sacctmgr(1): takes a limit away


@dataclass(frozen=True)
class Settings:
    """What the site decides.

    :ivar parent: the account below which accounts are made
    :ivar prefix: of the names of accounts that are made for projects
    :ivar personal: prefix of an account for each person's own jobs; None: there are none
    :ivar limits: for each category of UCloud, the trackable resource that it buys, and the minutes of one unit
    """

    parent: str = "root"
    prefix: str = ""
    personal: str | None = None
    limits: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass
class State:
    """What this program has made.

    :ivar accounts: their names
    :ivar members: ``account/user``
    :ivar bought: for each account and category the minutes that its wallet allows; 0 while it is locked
    """

    accounts: list[str] = field(default_factory=list)
    members: list[str] = field(default_factory=list)
    bought: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Present:
    """What Slurm has.

    :ivar accounts: names, with their GrpTRESMins as sacctmgr prints them
    :ivar members: pairs of account and user
    :ivar defaults: each user's default account
    """

    accounts: dict[str, str]
    members: set[tuple[str, str]]
    defaults: dict[str, str]


class Plan:
    """Commands of sacctmgr that are missing, without the word sacctmgr.

    :ivar state: what this program has made when they are done; written before them, so that nothing that it makes is unknown
    :ivar left: memberships that it has removed then
    """

    def __init__(self, settings: Settings, present: Present, state: State) -> None:
        self.commands: list[list[str]] = []
        self.state = state
        self.left: list[str] = []
        self._settings = settings
        self._accounts = dict(present.accounts)
        self._members = set(present.members)
        self._defaults = dict(present.defaults)

    def event(self, event: dict[str, Any]) -> None:
        """Does what an event needs."""
        match event["event"]:
            case "person-connected":
                if self._settings.personal is not None:
                    account = self._made(account_name(event["user"], self._settings.personal), f"UCloud {event['username']}")
                    self._join(account, event["user"])
                    # What came about the wallet before it was known whose account it is.
                    if (bought := self.state.bought.pop(_of_user(event["username"]), None)) is not None:
                        self.state.bought.setdefault(account, {}).update(bought)
                        self._set_limits(account)
                for project in event["projects"]:
                    self._join(self._of_project(project), event["user"])
            case "person-left":
                for member in list(self.state.members):
                    account, _, user = member.partition("/")
                    if user == event["user"]:
                        self._leave(account, user)
            case "project-changed":
                account = self._of_project(event)
                users = [member["user"] for member in event["members"] if member["user"] is not None]
                for user in users:
                    self._join(account, user)
                for member in list(self.state.members):
                    of, _, user = member.partition("/")
                    if of == account and user not in users:
                        self._leave(account, user)
            case "wallet-changed":
                self._limit(event)

    def _of_project(self, project: dict[str, Any]) -> str:
        """The account of a project, made where the site has not given it one."""
        if project.get("account"):
            return str(project["account"]).lower()
        return self._made(account_name(project["project"], self._settings.prefix), f"UCloud project {project['project']}")

    def _made(self, account: str, description: str) -> str:
        if account not in self._accounts:
            words = [f"description={plain(description)}", f"organization={ORGANIZATION}", f"parent={self._settings.parent}"]
            self.commands.append(["add", "account", account, *words])
            self._accounts[account] = ""
            _remember(self.state.accounts, account)
            self._set_limits(account)
        return account

    def _join(self, account: str, user: str) -> None:
        # An account that the site has named must be there: its own tools make it.
        if account in self._accounts and (account, user) not in self._members:
            self.commands.append(["add", "user", user, f"account={account}"])
            self._members.add((account, user))
            self._defaults.setdefault(user, account)
            _remember(self.state.members, f"{account}/{user}")

    def _leave(self, account: str, user: str) -> None:
        self.left.append(f"{account}/{user}")
        if (account, user) not in self._members:
            return
        self._members.remove((account, user))
        others = sorted(of for of, who in self._members if who == user)
        if others and self._defaults.get(user) == account:
            self.commands.append(["modify", "user", "where", f"name={user}", "set", f"defaultaccount={others[0]}"])
            self._defaults[user] = others[0]
        self.commands.append(["delete", "user", "where", f"name={user}", f"account={account}"])

    def _limit(self, event: dict[str, Any]) -> None:
        settings, rule = self._settings, self._settings.limits.get(event["category"])
        if rule is None:
            return
        if event["owner_kind"] == "project":
            account = str(event["account"] or account_name(event["owner"], settings.prefix)).lower()
        elif settings.personal is None:
            return
        else:
            user = event["user"]
            account = _of_user(event["owner"]) if user is None else account_name(user, settings.personal)
        # An open wallet has a quota; 0 is that of one of which only the lock is known.
        bought = int(event["quota"] * rule["minutes"]) if event["quota"] else UNLIMITED
        minutes = 0 if event["locked"] else bought
        self.state.bought.setdefault(account, {})[event["category"]] = minutes
        self._set_limits(account)

    def _set_limits(self, account: str) -> None:
        """GrpTRESMins: the sum of what the wallets of the account allow, for each resource."""
        if account not in self.state.accounts or account not in self._accounts:
            return
        wanted: dict[str, int] = {}
        for category, minutes in self.state.bought.get(account, {}).items():
            if category in self._settings.limits:
                tres = str(self._settings.limits[category]["tres"])
                sums = wanted.get(tres, 0) + minutes
                wanted[tres] = UNLIMITED if UNLIMITED in (minutes, wanted.get(tres)) else sums
        there = dict(part.split("=") for part in self._accounts[account].split(",") if part)
        unlimited = str(UNLIMITED)
        missing = [
            f"{tres}={minutes}" for tres, minutes in sorted(wanted.items()) if there.get(tres, unlimited) != str(minutes)
        ]
        if missing:
            self._accounts[account] = ",".join(missing)
            self.commands.append(["modify", "account", "where", f"name={account}", "set", f"GrpTRESMins={','.join(missing)}"])


def _of_user(username: str) -> str:
    """In the place of an account, until it is known which one a user of UCloud has."""
    return f"user {username}"


def _remember(names: list[str], name: str) -> None:
    if name not in names:
        names.append(name)


def account_name(text: str, prefix: str) -> str:
    """A name that Slurm takes, in small letters as Slurm keeps it. A hash distinguishes names with other characters."""
    name = re.sub(r"[^a-z0-9_-]", "_", text.lower()).lstrip("-")
    if name != text.lower() or not name or len(prefix + name) > LONGEST_NAME:
        name = f"{name[:20]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}".lstrip("-")
    return prefix + name


def plain(text: str) -> str:
    """Text for a description: sacctmgr reads quotes and commas as its own."""
    return re.sub(r"[^\w .#@-]", "_", text, flags=re.ASCII)[:100]


def look() -> Present:
    """What Slurm has."""
    rows = sacctmgr("show", "assoc", "format=account,user,grptresmins").splitlines()
    accounts: dict[str, str] = {}
    members = set()
    for row in rows:
        account, user, limit = row.split("|")[:3]
        if user:
            members.add((account, user))
        else:
            accounts[account] = limit
    defaults = dict(row.split("|")[:2] for row in sacctmgr("show", "user", "format=user,defaultaccount").splitlines())
    return Present(accounts, members, defaults)


def sacctmgr(*words: str) -> str:
    """Asks sacctmgr; returns what it prints.

    :raises RuntimeError: it failed
    """
    done = subprocess.run(["sacctmgr", "-n", "-P", "-i", *words], capture_output=True, text=True, check=False)  # noqa: S607
    if done.returncode != 0 and "Nothing new added" not in done.stdout + done.stderr:
        said = " ".join((done.stderr + done.stdout).split())
        raise RuntimeError(f"sacctmgr {' '.join(words)} ended with {done.returncode}: {said}")
    return done.stdout


def main(arguments: list[str]) -> int:
    """Reads an event, and does what it needs; returns the exit status."""
    parser = argparse.ArgumentParser(description="Slurm accounts for one event of ucloud-slurm, read from standard input.")
    parser.add_argument("--dry-run", action="store_true", help="print the commands, and change nothing")
    parser.add_argument("--settings", type=Path, default=Path(__file__).with_suffix(".toml"), help="the settings")
    folder = os.environ.get("STATE_DIRECTORY", "/var/lib/ucloud-slurm-hooks")
    parser.add_argument("--state", type=Path, default=Path(folder, "slurm_accounts.json"), help="what it has made")
    options = parser.parse_args(arguments)
    event = json.load(sys.stdin)
    settings = Settings(**tomllib.loads(options.settings.read_text())) if options.settings.exists() else Settings()
    # One event at a time: each looks first, and then acts.
    lock = os.open(options.state.parent, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    state = State(**json.loads(options.state.read_text())) if options.state.exists() else State()
    plan = Plan(settings, look(), state)
    plan.event(event)
    if options.dry_run:
        for command in plan.commands:
            sys.stdout.write(f"sacctmgr -i {' '.join(command)}\n")
        return 0
    write(options.state, plan.state)
    for command in plan.commands:
        sacctmgr(*command)
    plan.state.members = [member for member in plan.state.members if member not in plan.left]
    write(options.state, plan.state)
    return 0


def write(path: Path, state: State) -> None:
    """Writes the state file: all of it, or nothing."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(vars(state), indent=1))
    new.rename(path)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (RuntimeError, OSError, ValueError, TypeError, KeyError) as error:
        sys.stderr.write(f"slurm_accounts: {type(error).__name__}: {error}\n")
        sys.exit(1)
