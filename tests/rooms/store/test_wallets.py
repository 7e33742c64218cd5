"""What the channel says is kept, all of a message or nothing."""

import json
from pathlib import Path

import pytest

from tests.conftest import START
from tests.rooms.listener import records
from ucloud_slurm.store.people import LinkStates
from ucloud_slurm.store.sqlite import Store
from ucloud_slurm.store.wallets import REPLAY_MARGIN_SECONDS, Wallets
from ucloud_slurm.ucloud.channel import OwnerKind, Payer, Record, User

ADA = Payer(OwnerKind.USER, "Ada#1", "example-compute")
PROJECT = Payer(OwnerKind.PROJECT, "p-1", "example-compute")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "test.db")


@pytest.fixture
def wallets(store: Store) -> Wallets:
    return Wallets(store)


def take(wallets: Wallets, message: bytes) -> bool:
    return wallets.take(records.read(message), "example", START)


def test_only_a_change_of_a_lock_is_one(wallets: Wallets) -> None:
    said = [take(wallets, records.of_user("Ada#1", locked=locked)) for locked in (False, True, True, False, False)]
    assert said == [False, True, False, True, False]


def test_a_lock_is_of_one_owner_in_one_category(wallets: Wallets) -> None:
    take(wallets, records.of_user("Ada#1", locked=True))
    assert wallets.locked(ADA)
    assert wallets.all_locked() == {ADA}
    for other in (
        Payer(OwnerKind.PROJECT, "Ada#1", "example-compute"),
        Payer(OwnerKind.USER, "Ada#1", "other"),
        Payer(OwnerKind.USER, "ada#1", "example-compute"),
    ):
        assert not wallets.locked(other)


def test_who_pays_is_the_project_where_there_is_one() -> None:
    assert Payer.of("Ada#1", None, "example-compute") == ADA
    assert Payer.of("Ada#1", "p-1", "example-compute") == PROJECT


def test_categories_of_others_and_projects_that_use_nothing_are_passed_over(wallets: Wallets) -> None:
    other = records.user(0, "Ada#1") + records.category(0, provider="other") + records.wallet(0)
    parent = records.project(0, "p-1", ["Bob#1"], canConsumeResources=False) + records.category(0)
    assert not take(wallets, other)
    assert not take(wallets, parent + records.wallet(0, of_project=True))
    assert wallets.all_locked() == frozenset()
    assert not wallets.named_project("p-1")
    assert not wallets.named_user("Bob#1")


def test_users_and_projects_that_ucloud_has_named_are_known(wallets: Wallets, store: Store) -> None:
    take(wallets, records.user(0, "Ada#1") + records.project(0, "p-1", ["Bob#1", "Cleo#1"]))
    assert [bool(wallets.named_user(name)) for name in ("Ada#1", "Bob#1", "Cleo#1", "Dan#1")] == [True, True, True, False]
    assert wallets.named_project("p-1")
    assert not wallets.named_project("p-2")
    take(wallets, records.project(0, "p-1", ["Bob#1"], title="New"))
    row = store.row("select * from ucloud_projects")
    assert row is not None
    assert (row["title"], json.loads(row["members"]), row["modified_at"]) == ("New", ["Bob#1"], START)


def test_somebody_whom_the_channel_names_is_told_to_ucloud_as_connected(wallets: Wallets, store: Store) -> None:
    connections = LinkStates(store)
    for name in ("Ada#1", "Bob#1", "Cleo#1"):
        connections.want(name, True)
    assert connections.pending() == []
    take(wallets, records.user(0, "Ada#1") + records.project(0, "p-1", ["Bob#1"]))
    assert connections.pending() == ["Ada#1", "Bob#1"]


def test_a_message_is_written_as_a_whole_or_not_at_all(wallets: Wallets) -> None:
    def broken() -> list[Record]:
        return [*records.read(records.of_user("Ada#1", locked=True)), User("half \ud800")]

    with pytest.raises(UnicodeEncodeError):
        wallets.take(broken(), "example", START)
    assert wallets.all_locked() == frozenset()
    assert not wallets.named_user("Ada#1")


def test_what_was_heard_is_asked_for_again_from_shortly_before(wallets: Wallets) -> None:
    assert wallets.replay_from() == 0
    wallets.handled(START)
    wallets.handled(START - 1000)
    assert wallets.replay_from() == START - REPLAY_MARGIN_SECONDS


def test_numbers_as_large_as_ucloud_has_are_kept(wallets: Wallets) -> None:
    message = records.user(0, "Ada#1") + records.category(0)
    assert take(wallets, message + records.wallet(0, quota=2**63 - 1, usage=-(2**63), at=2**63 - 1))
