"""The ready hook: what it would do, without Slurm."""

import re
from typing import Any

import pytest

from tests.support.slurm_accounts import load

hook = load()
LIMITS = {"example-compute": {"tres": "cpu", "minutes": 60}, "example-gpu": {"tres": "gres/gpu", "minutes": 1}}


def present(accounts: dict[str, str] | None = None, members: tuple[tuple[str, str], ...] = (), **defaults: str) -> Any:
    return hook.Present({"root": ""} | (accounts or {}), set(members), defaults)


def planned(event: dict[str, Any], there: Any, state: Any = None, **settings: Any) -> Any:
    plan = hook.Plan(hook.Settings(limits=LIMITS, **settings), there, state or hook.State())
    plan.event(event)
    return plan


def commands(*arguments: Any, **settings: Any) -> list[str]:
    return [" ".join(command) for command in planned(*arguments, **settings).commands]


def project(*users: str | None, account: str | None = None, project: str = "p-1") -> dict[str, Any]:
    members = [{"username": f"{user}#1", "user": user, "uid": 1} for user in users]
    return {"event": "project-changed", "project": project, "title": "Physics", "account": account, "members": members}


def wallet(*, locked: bool = False, quota: int = 10, category: str = "example-compute", **more: Any) -> dict[str, Any]:
    of = {"owner_kind": "project", "owner": "p-1", "account": None, "user": None}
    return {"event": "wallet-changed", "category": category, "locked": locked, "quota": quota, "usage": 0, **of, **more}


MADE = "add account p-1 description=UCloud project p-1 organization=ucloud parent=root"


def test_a_project_and_its_connected_members_are_made_and_then_nothing_more() -> None:
    assert commands(project("alice", None, "bob"), present()) == [
        MADE,
        "add user alice account=p-1",
        "add user bob account=p-1",
    ]
    there = present({"p-1": ""}, (("p-1", "alice"), ("p-1", "bob")))
    assert commands(project("alice", None, "bob"), there) == []


def test_who_leaves_a_project_is_removed_if_this_program_has_added_them() -> None:
    there = present({"p-1": ""}, (("p-1", "alice"), ("p-1", "bob"), ("p-1", "carol")))
    state = hook.State(accounts=["p-1"], members=["p-1/alice", "p-1/bob"])
    plan = planned(project("alice"), there, state)
    assert [" ".join(each) for each in plan.commands] == ["delete user where name=bob account=p-1"]
    assert plan.left == ["p-1/bob"]
    assert commands(project("alice"), there) == [], "without its state it removes nobody"


def test_who_leaves_keeps_a_default_account_and_what_others_have_made() -> None:
    there = present({"p-1": "", "lab": ""}, (("p-1", "alice"), ("lab", "alice")), alice="p-1")
    left = {"event": "person-left", "username": "alice#1", "user": "alice", "uid": 1, "projects": []}
    assert commands(left, there, hook.State(members=["p-1/alice", "p-2/alice", "p-1/bob"])) == [
        "modify user where name=alice set defaultaccount=lab",
        "delete user where name=alice account=p-1",
    ]


def test_a_person_who_connects_is_added_to_their_projects_and_to_an_account_of_their_own() -> None:
    projects = [{"project": "p-1", "title": "Physics", "account": None}, {"project": "p-2", "title": "", "account": "Lab"}]
    event = {"event": "person-connected", "username": "alice#1", "user": "alice", "uid": 1, "projects": projects}
    there = present({"p-1": "", "lab": ""})
    assert commands(event, there) == ["add user alice account=p-1", "add user alice account=lab"]
    assert commands(event, there, personal="u_")[:2] == [
        "add account u_alice description=UCloud alice#1 organization=ucloud parent=root",
        "add user alice account=u_alice",
    ]


def test_an_account_of_the_site_is_neither_made_nor_limited() -> None:
    assert commands(project("alice", account="lab"), present()) == []
    assert commands(project("alice", account="lab"), present({"lab": ""})) == ["add user alice account=lab"]
    assert commands(wallet(account="lab"), present({"lab": ""})) == []


def test_the_wallet_limits_an_account_that_was_made_and_a_lock_stops_it() -> None:
    state, there = hook.State(accounts=["p-1"]), present({"p-1": ""})
    assert commands(wallet(), there, state) == ["modify account where name=p-1 set GrpTRESMins=cpu=600"]
    assert commands(wallet(), present({"p-1": "cpu=600"}), state) == []
    assert commands(wallet(locked=True), present({"p-1": "cpu=600"}), state) == [
        "modify account where name=p-1 set GrpTRESMins=cpu=0"
    ]
    assert commands(wallet(category="storage"), there, state) == [], "nothing is configured for it"


def test_wallets_of_two_categories_limit_two_resources_and_a_wallet_may_come_before_its_project() -> None:
    plan = planned(wallet(category="example-gpu", quota=7), present())
    assert plan.commands == []
    plan = planned(wallet(), present(), plan.state)
    assert commands(project(), present(), plan.state) == [
        MADE,
        "modify account where name=p-1 set GrpTRESMins=cpu=600,gres/gpu=7",
    ]


@pytest.mark.parametrize(
    "text", ["p-1", "3F2A-77", "Ærø økonomi", "-root", "a b,c=d", "../x", "", "x" * 300, "--parent=root", "名"]
)
def test_names_are_such_as_slurm_takes(text: str) -> None:
    name = hook.account_name(text, "")
    assert re.fullmatch(r"[a-z0-9_][a-z0-9_-]{0,39}", name)
    assert hook.account_name(text + "!", "") != name


def test_names_that_differ_in_odd_characters_only_stay_different() -> None:
    assert hook.account_name("a b", "") != hook.account_name("a_b", "") != hook.account_name("a.b", "")
    assert hook.plain('O\'Brien, "x"\n=1') == "O_Brien_ _x___1"


def test_a_wallet_of_which_only_the_lock_is_known_limits_nothing_once_it_is_open() -> None:
    state = hook.State(accounts=["p-1"])
    there = present({"p-1": ""})
    assert commands(wallet(locked=True, quota=0), there, state) == ["modify account where name=p-1 set GrpTRESMins=cpu=0"]
    there = present({"p-1": "cpu=0"})
    assert commands(wallet(quota=0), there, state) == ["modify account where name=p-1 set GrpTRESMins=cpu=-1"]
    assert commands(wallet(quota=0), present({"p-1": ""}), state) == []


def test_a_wallet_that_buys_less_than_a_minute_buys_none() -> None:
    state, limits = hook.State(accounts=["p-1"]), {"example-compute": {"tres": "cpu", "minutes": 0.01}}
    plan = hook.Plan(hook.Settings(limits=limits), present({"p-1": ""}), state)
    plan.event(wallet(quota=10))
    assert [" ".join(each) for each in plan.commands] == ["modify account where name=p-1 set GrpTRESMins=cpu=0"]


def test_a_wallet_that_comes_before_its_person_limits_the_persons_account() -> None:
    state = hook.State()
    assert commands(wallet(owner_kind="user", owner="alice#1"), present(), state, personal="u_") == []
    event = {"event": "person-connected", "username": "alice#1", "user": "alice", "uid": 1, "projects": []}
    assert commands(event, present(), state, personal="u_")[-1] == "modify account where name=u_alice set GrpTRESMins=cpu=600"
    assert list(state.bought) == ["u_alice"]
