"""Linking by proof: UCloud hears of it once, a code works once, and it can be taken back."""

import pwd
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Clock, Serve, configuration
from tests.linking import ADA, APPROVE, BASE, EVE, NEW, USER, away, code_of, heard, link, make_accounts
from tests.model import Model
from ucloud_slurm.provider import Provider
from ucloud_slurm.sandbox.core import CoreError, SimulatedCore
from ucloud_slurm.store.linking import ALPHABET, LENGTH, VALID
from ucloud_slurm.store.people import Link
from ucloud_slurm.users.linking import WRONG, Linking
from ucloud_slurm.worker import people
from ucloud_slurm.worker.one_pass import Result as PassResult
from ucloud_slurm.worker.one_pass import one_pass


@pytest.fixture(autouse=True)
def accounts(monkeypatch: pytest.MonkeyPatch) -> dict[str, pwd.struct_passwd]:
    return make_accounts(monkeypatch)


@pytest.fixture
def provider(core: SimulatedCore, clock: Clock, tmp_path: Path, serve: Serve) -> Iterator[Provider]:
    """A provider with the table, reached by Core."""
    opened = Provider.open(configuration(core, tmp_path, users={"mapping": "table"}), now=clock, scheduler=Model(clock))
    serve(opened)
    yield opened
    opened.close()


@pytest.fixture
def linking(provider: Provider) -> Linking:
    return Linking(
        provider.config.users, provider.store, provider.now, lambda username: people.tell(provider, username)
    )


# -- the whole


@pytest.mark.every_era
def test_a_code_typed_on_the_login_node_connects_and_ucloud_hears_it_once(
    core: SimulatedCore, provider: Provider, linking: Linking
) -> None:
    assert link(linking, code_of(core)) == f"{USER} is connected with ada."
    for _ in range(3):
        one_pass(provider)
    assert core.connected == {USER}
    assert heard(core) == ["approve"]
    found = provider.people.of(USER)
    assert found is not None
    assert (found.local_user, found.uid, found.added_by) == ("ada", ADA, "ada")
    assert [row["what"] for row in provider.people.history()] == [f"connected {USER} with ada"]


def test_without_a_table_nobody_can_connect(core: SimulatedCore, clock: Clock, tmp_path: Path, serve: Serve) -> None:
    provider = Provider.open(configuration(core, tmp_path), now=clock, scheduler=Model(clock))
    serve(provider)
    with pytest.raises(CoreError, match="not supported"):
        core.connect_user(USER)
    status, body = core.call("POST", f"{BASE}/integration/connect", {"username": USER})
    assert (status, "no need to connect" in body["why"]) == (400, True)
    assert core.call("POST", f"{BASE}/integration/init", {"username": USER}) == (200, {})
    provider.close()


def test_init_knows_those_who_are_connected_and_no_others(
    core: SimulatedCore, provider: Provider, linking: Linking
) -> None:
    assert core.call("POST", f"{BASE}/integration/init", {"username": USER})[0] == 400
    link(linking, code_of(core))
    assert core.call("POST", f"{BASE}/integration/init", {"username": USER}) == (200, {})
    assert core.call("POST", f"{BASE}/integration/init", {"username": USER.lower()})[0] == 400


def test_somebody_who_is_not_connected_is_told_where_to(core: SimulatedCore, provider: Provider) -> None:
    with pytest.raises(CoreError, match=r"not connected.*Providers.*/ucloud/example/link") as refusal:
        core.submit(("sleeper", "1.0.0"), "example-compute-1", {"seconds": {"type": "integer", "value": 1}}, owner=USER)
    assert refusal.value.status == 403


# -- the code


def test_a_code_is_long_readable_and_kept_as_a_hash_only(core: SimulatedCore, provider: Provider) -> None:
    code = code_of(core)
    assert re.fullmatch(r"(\w{4})-(\w{4})-(\w{4})", code)
    assert set(code) <= {*ALPHABET, "-"}
    assert not set(ALPHABET) & set("01OILU")
    assert len(ALPHABET) ** LENGTH > 2**58
    assert code not in str([dict(row) for row in provider.store.rows("select * from codes")])
    assert code.replace("-", "") not in str([dict(row) for row in provider.store.rows("select * from codes")])


def test_a_code_may_be_typed_carelessly(core: SimulatedCore, provider: Provider, linking: Linking) -> None:
    code = code_of(core)
    assert "is connected" in link(linking, f" {code.lower().replace('-', ' ')} ")


def test_a_code_works_once(core: SimulatedCore, provider: Provider, linking: Linking) -> None:
    code = code_of(core)
    link(linking, code)
    assert "not known" in link(linking, code)
    assert "not known" in link(linking, code, EVE)
    assert [each.local_user for each in provider.people.listed()] == ["ada"]


@pytest.mark.parametrize(("seconds", "works"), [(VALID - 1, True), (VALID, False), (VALID + 1e6, False), (-5, False)])
def test_a_code_works_for_ten_minutes(
    core: SimulatedCore, provider: Provider, linking: Linking, clock: Clock, seconds: float, works: bool
) -> None:
    code = code_of(core)
    clock.advance(seconds)
    assert ("is connected" in link(linking, code)) is works


def test_the_newest_code_of_a_user_counts(core: SimulatedCore, provider: Provider, linking: Linking) -> None:
    first, second = code_of(core), code_of(core)
    assert "not known" in link(linking, first)
    assert "is connected" in link(linking, second)


def test_of_two_who_use_a_code_at_once_one_is_connected(
    core: SimulatedCore, provider: Provider, linking: Linking
) -> None:
    code, said = code_of(core), []
    both = [threading.Thread(target=lambda uid=uid: said.append(link(linking, code, uid))) for uid in (ADA, EVE)]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert sorted("is connected" in each for each in said) == [False, True]
    assert len(provider.people.listed()) == 1


def test_whoever_guesses_is_stopped_and_others_are_not(
    core: SimulatedCore, provider: Provider, linking: Linking, clock: Clock
) -> None:
    code = code_of(core)
    for _ in range(WRONG):
        assert "not known" in link(linking, "AAAA-AAAA-AAAA", EVE)
    assert "too many" in link(linking, code, EVE)
    assert "too many" in linking.answer(EVE, {"do": "look", "code": code})["refused"]
    assert linking.answer(ADA, {"do": "look", "code": code})["ucloud_user"] == USER
    clock.advance(61)
    assert "is connected" in link(linking, code, EVE)


# -- who may


def test_looking_at_a_code_says_whose_it_is_and_uses_nothing(
    core: SimulatedCore, provider: Provider, linking: Linking
) -> None:
    code = code_of(core)
    for _ in range(2):
        assert linking.answer(ADA, {"do": "look", "code": code}) == {"account": "ada", "ucloud_user": USER}
    assert provider.people.listed() == []


@pytest.mark.parametrize(("uid", "said"), [
    (0, "not as root"), (1, "uid 1;"), (65534, "nobody|name"), (54399, "no account"),
    (NEW, "gpasswd --add new ucloud-users"),
])  # fmt: skip
def test_no_account_is_connected_that_jobs_may_not_run_as(
    core: SimulatedCore, provider: Provider, linking: Linking, uid: int, said: str
) -> None:
    assert re.search(said, link(linking, code_of(core), uid))
    assert provider.people.listed() == []
    assert heard(core) == []


def test_an_account_has_one_user_and_a_user_one_account(
    core: SimulatedCore, provider: Provider, linking: Linking
) -> None:
    codes = code_of(core), code_of(core, "Mallory#1")
    link(linking, codes[0])
    assert f"connected with {USER} already. Type `ucloud-slurm unlink`" in link(linking, codes[1])
    provider.codes.make(USER, provider.now())
    assert "another account, ada" in link(linking, provider.codes.make(USER, provider.now()), EVE)
    assert [(each.username, each.local_user) for each in provider.people.listed()] == [(USER, "ada")]


def test_an_account_made_anew_under_its_old_name_can_be_connected_anew(
    core: SimulatedCore, provider: Provider, linking: Linking, accounts: dict[str, Any]
) -> None:
    link(linking, code_of(core))
    accounts["ada"] = pwd.struct_passwd(("ada", "x", 54444, 54444, "", "/home/ada", "/bin/bash"))
    assert "is connected" in link(linking, provider.codes.make(USER, provider.now()), 54444)
    assert [each.uid for each in provider.people.listed()] == [54444]


def test_what_the_caller_says_of_themselves_counts_for_nothing(
    core: SimulatedCore, provider: Provider, linking: Linking
) -> None:
    request = {"do": "link", "code": code_of(core), "uid": EVE, "account": "eve", "ucloud_user": "Eve#1"}
    assert linking.answer(ADA, request)["done"] == f"{USER} is connected with ada."


# -- telling UCloud


@pytest.mark.every_era
def test_while_ucloud_is_away_the_connection_is_kept_and_told_later(
    core: SimulatedCore, provider: Provider, linking: Linking
) -> None:
    code = code_of(core)
    with away(core):
        assert "UCloud does not answer" in link(linking, code)
        assert one_pass(provider) is PassResult.NOT_ALL
    assert provider.people.of(USER) is not None
    one_pass(provider)
    one_pass(provider)
    assert core.connected == {USER}


@pytest.mark.every_era
def test_after_a_lost_answer_the_connection_is_never_approved_twice_in_a_row_where_that_is_an_error(
    core: SimulatedCore, provider: Provider, linking: Linking
) -> None:
    code = code_of(core)
    core.faults.drop_answer(APPROVE)
    assert "UCloud does not answer" in link(linking, code)
    one_pass(provider)
    one_pass(provider)
    clears = provider.era.has_clear_connection
    assert heard(core) == (["approve", "clear", "approve"] if clears else ["approve", "approve"])
    assert core.connected == {USER}


def test_two_who_tell_at_once_tell_it_once(core: SimulatedCore, provider: Provider, linking: Linking) -> None:
    code = code_of(core)
    with away(core):
        link(linking, code)
    (owed,) = provider.connections.owed(provider.now())
    before = len(heard(core))
    assert provider.connections.claim(owed, provider.now(), provider.now() + 60)
    assert not provider.connections.claim(owed, provider.now(), provider.now() + 60)
    people.tell(provider)
    assert len(heard(core)) == before


def test_what_ucloud_refuses_waits_and_is_no_trouble_for_others(
    core: SimulatedCore, provider: Provider, linking: Linking, clock: Clock
) -> None:
    codes = code_of(core), code_of(core, "Eve#1")
    core.faults.answer(APPROVE, 400, {"why": "No such user", "errorCode": None})
    link(linking, codes[0])
    link(linking, codes[1], EVE)
    for _ in range(3):
        one_pass(provider)
    assert core.connected == {"Eve#1"}
    assert heard(core) == ["approve"]
    clock.advance(people.LATER)
    one_pass(provider)
    assert core.connected == {"Eve#1", USER}


def test_somebody_whom_the_administrator_has_added_is_told_when_ucloud_asks(
    core: SimulatedCore, provider: Provider
) -> None:
    provider.people.add([Link(USER, "ada", ADA, provider.now(), "root")])
    one_pass(provider)
    assert heard(core) == [], "a name that UCloud does not know may be wrong"
    assert core.connect_user(USER).endswith("/ucloud/example/link/connected")
    one_pass(provider)
    one_pass(provider)
    assert core.connected == {USER}
    assert heard(core) == ["approve"]


@pytest.mark.parametrize("era", ["2022"])
def test_who_is_disconnected_here_is_disconnected_at_ucloud_once(
    core: SimulatedCore, provider: Provider, linking: Linking
) -> None:
    link(linking, code_of(core))
    provider.people.remove(USER, "root", provider.now())
    with away(core):
        one_pass(provider)
    assert core.connected == {USER}
    for _ in range(3):
        one_pass(provider)
    assert core.connected == set()
    assert heard(core)[-1] == "clear"
    assert provider.store.rows("select * from connections") == []


@pytest.mark.parametrize("era", ["2022"])
def test_who_comes_back_before_ucloud_was_told_stays_connected(
    core: SimulatedCore, provider: Provider, linking: Linking
) -> None:
    link(linking, code_of(core))
    provider.people.remove(USER, "root", provider.now())
    assert "is connected" in link(linking, provider.codes.make(USER, provider.now()))
    one_pass(provider)
    assert core.connected == {USER}
    assert heard(core) == ["approve", "clear", "approve"]


@pytest.mark.parametrize("era", ["2022"])
def test_what_ucloud_has_taken_back_is_forgotten_here_and_not_said_again(
    core: SimulatedCore, provider: Provider, linking: Linking
) -> None:
    link(linking, code_of(core))
    core.unlink(USER)
    one_pass(provider)
    assert provider.people.listed() == []
    assert heard(core) == ["approve"]
    history = [(row["who"], row["what"]) for row in provider.people.history()]
    assert history[-1] == ("UCloud", f"disconnected {USER} from ada")
    core.unlink(USER)
    assert "is connected" in link(linking, code_of(core))
    assert core.connected == {USER}


@pytest.mark.every_era
def test_unlink_takes_it_back_on_both_sides(core: SimulatedCore, provider: Provider, linking: Linking) -> None:
    link(linking, code_of(core))
    assert linking.answer(EVE, {"do": "unlink"}) == {"refused": "No user of UCloud is connected with eve."}
    assert "any more" in linking.answer(ADA, {"do": "unlink"})["done"]
    assert provider.people.listed() == []
    assert core.connected == (set() if provider.era.has_clear_connection else {USER})
    assert linking.answer(ADA, {"do": "mine"})["ucloud_users"] == []
