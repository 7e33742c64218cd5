"""People of a host that is not there, and the ways in which tests connect them with UCloud."""

import grp
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ucloud_slurm.sandbox.core import SimulatedCore
from ucloud_slurm.users.linking import Linking

BASE = "/ucloud/example"
ADA, EVE, NEW = 54321, 54322, 54323
USER = "Ada#1234"
APPROVE, CLEAR = "providers.im.control.approveConnection", "providers.im.control.clearConnection"
GROUP = 64321


def make_accounts(monkeypatch: pytest.MonkeyPatch) -> dict[str, pwd.struct_passwd]:
    """Accounts of this host: those that there are, and three people more, two of them in the group."""
    made = {
        name: pwd.struct_passwd((name, "x", uid, uid, "", f"/home/{name}", "/bin/bash"))
        for name, uid in (("ada", ADA), ("eve", EVE), ("new", NEW))
    }
    by_name, by_uid, groups, group = pwd.getpwnam, pwd.getpwuid, os.getgrouplist, grp.getgrnam

    def by_uid_(uid: int) -> pwd.struct_passwd:
        return next((entry for entry in made.values() if entry.pw_uid == uid), None) or by_uid(uid)

    def group_(name: str) -> grp.struct_group:
        return grp.struct_group((name, "x", GROUP, [])) if name == "ucloud-users" else group(name)

    monkeypatch.setattr(pwd, "getpwnam", lambda name: made.get(name) or by_name(name))
    monkeypatch.setattr(pwd, "getpwuid", by_uid_)
    monkeypatch.setattr(grp, "getgrnam", group_)

    def groups_(name: str, gid: int) -> list[int]:
        return groups(name, gid) if name not in made else [gid] if name == "new" else [gid, GROUP]

    monkeypatch.setattr(os, "getgrouplist", groups_)
    return made


def code_of(core: SimulatedCore, username: str = USER) -> str:
    return core.connect_user(username).rpartition("/")[2]


def link(linking: Linking, code: str, uid: int = ADA) -> str:
    answer = linking.answer(uid, {"do": "link", "code": code})
    return str(answer.get("done") or answer["refused"])


def heard(core: SimulatedCore) -> list[str]:
    """What Core was told of connections, in order."""
    calls = [each.call for each in core.exchanges if each.call in (APPROVE, CLEAR) and each.status == 200]
    return [call.rpartition(".")[2].removesuffix("Connection") for call in calls]


@contextmanager
def away(core: SimulatedCore) -> Iterator[None]:
    """UCloud answers nothing."""
    core.faults.outage(True)
    yield
    core.faults.outage(False)
