"""Unix accounts for the private cluster: made when absent, written down, and only what was made is deleted.

An account counts as the sandbox's own when its home lies in the sandbox's folder. So an account of the
machine that merely has the same name is never touched, not even when the record is wrong. Two sandboxes side
by side share the accounts; they belong to the one that made them, so that one is removed last.
"""

import grp
import os
import pwd
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.sandbox import processes
from tests.sandbox.commands import run
from tests.sandbox.errors import CommandFailed, SandboxError

PATIENCE = 5.0  # seconds that processes have to end by themselves


@dataclass(frozen=True, slots=True)
class Wanted:
    """An account that should be there.

    :ivar groups: further groups; made when absent, joined only by accounts that the sandbox makes
    """

    name: str
    groups: tuple[str, ...] = ()


SERVICE = "ucloud-slurm"
GROUP = "ucloud-users"  # whose members the service may become
PEOPLE = (Wanted("alice", groups=("science", GROUP)), Wanted("bob", groups=(GROUP,)))
EVERYBODY = (Wanted(SERVICE), *PEOPLE)


class Accounts:
    """The accounts of one sandbox folder. Changing them needs root."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._homes = folder / "home"
        self._record = folder / "accounts"
        self._say = say

    def absent(self, wanted: Sequence[Wanted]) -> tuple[str, ...]:
        """Name the accounts that :meth:`make` would make."""
        return tuple(one.name for one in wanted if _account(one.name) is None)

    def make(self, wanted: Sequence[Wanted]) -> None:
        """Make the accounts that are absent, and change no other.

        :raises SandboxError: when one cannot be made, or is there but has no home to run jobs in
        """
        self._homes.mkdir(exist_ok=True)
        self._homes.chmod(0o755)
        for one in wanted:
            entry = _account(one.name)
            if entry is None:
                self._add(one)
            elif self._is_ours(entry):
                self._note("user", one.name)
                self._make_home(entry)
            elif not Path(entry.pw_dir).is_dir():
                raise SandboxError(
                    f"The account {one.name} is there but its home {entry.pw_dir} is not; make the folder, "
                    f"or delete the account (userdel {one.name}) and the sandbox makes its own."
                )

    def remove(self) -> None:
        """Delete the accounts and groups that this sandbox made, as written down. Their homes stay.

        :raises SandboxError: when one of them is still in use
        """
        for kind, name in self._noted():
            if kind == "group" and _group_exists(name):
                self._say(f"deleting group {name}")
                _command("groupdel", name)
            elif kind == "user" and (entry := _account(name)) is not None and self._is_ours(entry):
                self._say(f"deleting account {name}")
                # What a killed demonstration left behind; nobody but the sandbox uses an account that it made.
                processes.end(processes.of_account(entry.pw_uid), patience=PATIENCE)
                _command("userdel", name)
        self._record.unlink(missing_ok=True)

    def _add(self, one: Wanted) -> None:
        for group in one.groups:
            if not _group_exists(group):
                _command("groupadd", group)
                self._note("group", group)
        home = self._homes / one.name
        self._say(f"making account {one.name}")
        self._note("user", one.name)  # first: a crash in between must not leave an account behind
        groups = ["--groups", ",".join(one.groups)] if one.groups else []
        options = ["--no-create-home", "--home-dir", str(home), "--shell", "/bin/bash", "--user-group", *groups]
        _command("useradd", "--badname", *options, one.name)  # as a directory service may name it
        self._make_home(pwd.getpwnam(one.name))

    def _make_home(self, entry: pwd.struct_passwd) -> None:
        home = Path(entry.pw_dir)
        home.mkdir(exist_ok=True, mode=0o700)
        os.chown(home, entry.pw_uid, entry.pw_gid)

    def _is_ours(self, entry: pwd.struct_passwd) -> bool:
        return Path(entry.pw_dir).parent == self._homes

    def _noted(self) -> list[tuple[str, str]]:
        try:
            lines = self._record.read_text().splitlines()
        except FileNotFoundError:
            return []
        pairs = [(kind, name) for kind, _, name in (line.partition(" ") for line in lines)]
        return sorted(pairs, reverse=True)  # users before groups

    def _note(self, kind: str, name: str) -> None:
        if (kind, name) not in self._noted():
            with self._record.open("a") as record:
                record.write(f"{kind} {name}\n")


def _account(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _group_exists(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def _command(*command: str) -> None:
    try:
        run(command)
    except (CommandFailed, FileNotFoundError) as failed:
        raise SandboxError(f"{' '.join(command)} failed; do it by hand to see why. {failed}") from failed
