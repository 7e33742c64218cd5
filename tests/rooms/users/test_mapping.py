"""Which accounts jobs may run as: the rules, one by one, and what happens to jobs when the mapping changes."""

import grp
import os
import pwd
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import configuration
from tests.sandbox.core import SimulatedCore
from tests.support.factories import accept_live, job, job_data, new_job
from ucloud_slurm.config import parse
from ucloud_slurm.errors import Forbidden, Misconfigured
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.store.people import UserLink
from ucloud_slurm.store.sessions import group, user
from ucloud_slurm.system.accounts import Account, PeopleRule, ineligible
from ucloud_slurm.ucloud.jobs import Job
from ucloud_slurm.ucloud.wire import from_data
from ucloud_slurm.users import mapping, name_service
from ucloud_slurm.users.mapping import IdentityUnavailableError, IneligibleUserError, account_of
from ucloud_slurm.web.access import check, check_shell

GOOD = Account("ada", 1002, 1003, "/bin/bash", "/home/ada")


def why(floor: int | None = None, pattern: str | None = None, own_uid: int = 990, **changed: Any) -> str | None:
    fields = {name: getattr(GOOD, name) for name in ("name", "uid", "gid", "shell", "home")}
    return ineligible(Account(**(fields | changed)), PeopleRule().narrowed(pattern, floor), own_uid=own_uid)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"uid": 1000},
        {"uid": 2**31},
        {"name": "_x"},
        {"name": "a" * 256},
        {"name": "Ada.L"},
        {"name": "ADA"},
        {"name": "9ada"},
        {"name": "ada@example.org"},
        {"name": "DOM\\ada"},
        {"name": "ada+x"},
        {"name": "host$"},
        {"shell": "/usr/bin/zsh"},
        {"gid": 100},
        {"name": "Ada.L", "pattern": r"[A-Z][A-Za-z.]+"},
    ],
)
def test_accounts_of_people_are_fit(changed: dict[str, Any]) -> None:
    assert why(**changed) is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"uid": 0}, "root"),
        ({"gid": 0}, "root"),
        ({"name": "root", "uid": 0, "gid": 0}, "root"),
        ({"uid": 999}, "1000 or more"),
        ({"uid": 1}, "1000 or more"),
        ({"uid": 1999, "floor": 2000}, "2000 or more"),
        ({"uid": -1}, "1000 or more"),
        ({"uid": 1500, "own_uid": 1500}, "account of this service"),
        ({"shell": "/usr/sbin/nologin"}, "nologin"),
        ({"shell": "/bin/false"}, "false"),
        ({"shell": "/bin/sync"}, "sync"),
        ({"shell": ""}, "empty"),
        ({"shell": "bash"}, "bash"),
        ({"home": ""}, "no home"),
        ({"home": "home/ada"}, "no home"),
        ({"home": "/"}, "no home"),
        *(
            ({"name": name}, "not a name")
            for name in (
                "",
                "root ",
                " root",
                "-r",
                "--user",
                "a/b",
                "../ada",
                "ada\n",
                "a;b",
                "a b",
                "$(id)",
                "#0",
                "#1000",
                "%wheel",
                "1000",
                "+1000",
                "é",
                "a" * 257,
                "..",
                ".ada",
                "\\ada",
                "@ada",
                "ada=1",
                "a\tb",
                "ada\x7f",
                "ada,bob",
                "ada:bob",
                "ada\x00",
                "!ada",
            )
        ),
    ],
)
def test_no_job_runs_as_what_is_not_an_account_of_a_person(changed: dict[str, Any], said: str) -> None:
    reason = why(**changed)
    assert reason is not None
    assert said in reason
    assert "\n" not in reason


@pytest.mark.parametrize("floor", [0, 1, 999, -1])
def test_the_floor_cannot_be_lowered_below_the_accounts_of_the_system(core: SimulatedCore, tmp_path: Path, floor: int) -> None:
    with pytest.raises(Misconfigured, match="uid_floor"):
        configuration(core, tmp_path, users={"uid_floor": floor})


def test_a_pattern_of_names_that_is_none_is_refused_by_name(core: SimulatedCore, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"users\.names.*regular expression"):
        configuration(core, tmp_path, users={"names": "["})


@pytest.mark.parametrize(
    "name", ["root", "root ", "-r", "a/b", "", "daemon", "nobody", "ada\x00", "nobody-at-all", "0", "1000", "\udcff"]
)
def test_no_name_leads_to_an_account_that_is_not_for_jobs(core: SimulatedCore, tmp_path: Path, name: str) -> None:
    users = configuration(core, tmp_path).users
    with pytest.raises(IneligibleUserError) as refusal:
        account_of(name, users)
    assert refusal.value.status == Forbidden.status
    assert refusal.value.reason not in refusal.value.why, "why is for the researcher, reason for the administrator"


def test_a_broken_rule_about_people_refuses_nobody_for_good(
    core: SimulatedCore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> PeopleRule:
        raise Misconfigured(["/etc/ucloud-slurm-people.toml: names: should be a regular expression."])

    monkeypatch.setattr(mapping, "read_rule", broken)
    users = configuration(core, tmp_path).users
    with pytest.raises(IdentityUnavailableError, match="try again later"):
        mapping.eligible_user("ada", users)
    assert "names: should be a regular expression" in caplog.text


def test_another_spelling_of_a_name_is_not_the_account(
    core: SimulatedCore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = pwd.struct_passwd(("ada", "x", 54321, 54321, "", "/home/ada", "/bin/bash"))
    monkeypatch.setattr(pwd, "getpwnam", lambda _name: entry)
    users = configuration(core, tmp_path).users
    assert account_of("ada", users).uid == 54321
    with pytest.raises(IneligibleUserError, match="support") as refusal:
        account_of("Ada", users)
    assert "another spelling" in refusal.value.reason


def test_who_can_become_root_through_a_group_is_no_user_and_reads_why(
    core: SimulatedCore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = pwd.struct_passwd(("ada", "x", 54321, 54321, "", "/home/ada", "/bin/bash"))
    monkeypatch.setattr(pwd, "getpwnam", lambda _name: entry)
    users = configuration(core, tmp_path).users
    for name in ("root", "disk", "shadow"):  # every system has these
        gids = [54321, grp.getgrnam(name).gr_gid]
        monkeypatch.setattr(name_service, "groups_of", lambda _name, _gid, gids=gids: gids)
        with pytest.raises(IneligibleUserError, match=f"administrator, through the group {name}, .* another account") as said:
            account_of("ada", users)
        assert said.value.reason == (
            f"ada is in the group {name}, whose members can become root (refused_groups in /etc/ucloud-slurm-people.toml)"
        )
    monkeypatch.setattr(mapping, "read_rule", lambda: PeopleRule(refused_groups=("docker",)))
    assert account_of("ada", users).name == "ada", "a site may say that members of shadow are users"


def test_our_own_account_is_for_jobs_of_the_service_mapping_only(
    core: SimulatedCore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    entry = pwd.struct_passwd(("ada", "x", 54321, 54321, "", "/home/ada", "/bin/bash"))
    monkeypatch.setattr(pwd, "getpwnam", lambda _name: entry)
    with pytest.raises(IneligibleUserError) as refusal:
        account_of("ada", configuration(core, tmp_path).users)
    assert "account of this service" in refusal.value.reason


@pytest.mark.parametrize(
    ("caller", "owner", "account", "enters"),
    [
        ("Ada#1", "Ada#1", "ada", True),
        (None, "Ada#1", "ada", False),  # nobody
        ("Eve#1", "Ada#1", "ada", False),
        ("Ada#1", "Ada#1", "eve", False),  # from outside UCloud, or connected with another account since
        ("Eve#1", "Eve#1", "ada", False),  # not connected
    ],
)
def test_a_shell_is_for_the_person_whose_account_the_job_runs_as(
    core: SimulatedCore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caller: str | None,
    owner: str,
    account: str,
    enters: bool,
) -> None:
    entry = pwd.struct_passwd(("ada", "x", 54321, 54321, "", "/home/ada", "/bin/bash"))
    monkeypatch.setattr(pwd, "getpwnam", lambda _name: entry)
    provider = Provider.open(configuration(core, tmp_path, users={"mapping": "table"}))
    provider.people.add([UserLink("Ada#1", "ada", 54321, 0.0, "grace")])
    body = job("7").model_dump_json(by_alias=True)
    accept_live(provider.jobs, new_job("7", local_user=account, owner=owner, body=body))
    row = provider.jobs.get("7")
    assert row is not None
    with nullcontext() if enters else pytest.raises(Forbidden):
        check_shell(provider, row, caller)
    provider.close()


@pytest.mark.parametrize(
    ("caller", "project", "given", "may"),
    [
        (None, None, [], True),  # UCloud itself
        ("Ada#1", None, [], True),
        ("Eve#1", None, [], False),
        ("Eve#1", None, [user("Eve#1")], True),
        ("Eve#1", None, [user("Bob#1")], False),
        ("Eve#1", None, [group("lab", "friends")], True),  # who is in it only UCloud knows
        ("Eve#1", "lab", [], True),  # who is in it only UCloud knows
    ],
)
def test_only_users_with_access_may_see_a_job(
    core: SimulatedCore, tmp_path: Path, caller: str | None, project: str | None, given: list[str], may: bool
) -> None:
    provider = Provider.open(configuration(core, tmp_path, users={"mapping": "table"}))
    accept_live(provider.jobs, new_job("7", local_user="ada", owner="Ada#1", project=project))
    provider.sessions.give_access("7", given)
    row = provider.jobs.get("7")
    assert row is not None
    with nullcontext() if may else pytest.raises(Forbidden):
        check(provider, row, caller, job("7"))
    provider.sessions.remove_access("7", given, 1.0)
    with nullcontext() if may and not given else pytest.raises(Forbidden):
        check(provider, row, caller, job("7"))
    entities = [
        {"type": "user", "username": "Eve#1"}
        if each.startswith("user:Eve")
        else {"type": "user", "username": "Bob#1"}
        if each.startswith("user:")
        else {"type": "project_group", "projectId": "lab", "group": "friends"}
        for each in given
    ]
    sent = from_data(Job, job_data("7") | {"permissions": {"others": [{"entity": each} for each in entities]}})
    with nullcontext() if may else pytest.raises(Forbidden):
        check(provider, row, caller, sent)
    provider.close()


def test_parse_names_what_is_wrong_with_the_mapping() -> None:
    with pytest.raises(Misconfigured, match=r"users\.mapping"):
        parse({"users": {"mapping": "ldap"}})
