"""Who is admitted while strangers flood: decisions, without a socket."""

import pytest
from pytest_mock import MockerFixture

from ucloud_slurm.web.live import entrance
from ucloud_slurm.web.live.admission import (
    GRACE_SECONDS,
    STRANGERS,
    STRANGERS_PER_ADDRESS,
    Budget,
    Limits,
    Pace,
    Stranger,
    Strangers,
    common_address,
)

RATE = 500  # strangers in a second


@pytest.mark.parametrize(("addresses", "seconds"), [(1, 10.0), (3, 10.0), (16, 10.0), (100_000, 0.5)])
def test_a_browser_gets_in_during_a_flood_and_has_the_time_to_send_its_first_frame(addresses: int, seconds: float) -> None:
    strangers = Strangers(STRANGERS)
    for each in range(4 * STRANGERS):
        strangers.admit(f"flood{each % addresses}", each / RATE)
    now = 4 * STRANGERS / RATE
    admitted = strangers.admit("browser", now)
    assert admitted is not None
    gone: list[Stranger | None] = []
    for each in range(int(seconds * RATE)):  # the flood goes on meanwhile
        found = strangers.admit(f"flood{(each + 4 * STRANGERS) % addresses}", now + each / RATE)
        gone.append(found[1] if found else None)
    assert admitted[0] not in gone
    assert len(strangers) <= STRANGERS


def test_one_address_displaces_itself_only() -> None:
    strangers = Strangers(STRANGERS)
    quiet = [strangers.admit(f"198.51.100.{number}", 0.0) for number in range(10)]
    gone = [strangers.admit("192.0.2.1", number / 100) for number in range(5000)]
    displaced = {found[1] for found in gone if found is not None and found[1] is not None}
    assert {stranger.address for stranger in displaced} == {"192.0.2.1"}
    assert len(strangers) == len(quiet) + STRANGERS_PER_ADDRESS


def test_an_address_displaces_none_that_has_no_more_than_itself() -> None:
    strangers = Strangers(2)
    strangers.admit("a", 0.0)
    own = strangers.admit("b", 5.0)
    assert own is not None
    assert strangers.admit("b", 5.0 + GRACE_SECONDS / 2) is None
    found = strangers.admit("b", 5.0 + GRACE_SECONDS)
    assert found is not None
    assert found[1] is own[0]


def test_the_address_that_has_most_makes_room_for_a_new_one() -> None:
    strangers = Strangers(8)
    for number in range(8):
        strangers.admit("two" if number < 2 else "six", number / 10)
    found = strangers.admit("new", 10.0)
    assert found is not None
    assert found[1] is not None
    assert (found[1].address, found[1].since) == ("six", 0.2)


def test_those_without_an_address_share_the_whole_and_displace_each_other() -> None:
    strangers = Strangers(STRANGERS)
    admitted = [strangers.admit(None, number / 1000) for number in range(STRANGERS)]
    assert all(found is not None and found[1] is None for found in admitted)
    found = strangers.admit(None, 10.0)
    assert found is not None
    assert found[1] is not None
    assert found[1].since == 0.0


def test_nobody_goes_while_a_call_is_examined_or_before_a_first_frame_can_have_come() -> None:
    strangers = Strangers(2)
    speaking, young = strangers.admit("a", 0.0), strangers.admit("b", 5.0)
    assert speaking is not None
    assert young is not None
    speaking[0].silent = False
    assert strangers.admit("c", 5.0 + GRACE_SECONDS / 2) is None
    found = strangers.admit("c", 5.0 + GRACE_SECONDS)
    assert found is not None
    assert found[1] is young[0]
    strangers.remove(speaking[0])
    assert len(strangers) == 1


@pytest.mark.parametrize(
    ("header", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        (" 192.0.2.1 ", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("unix:", None),
        ("192.0.2.1, 192.0.2.2", None),
        ("", None),
        (None, None),
    ],
)
def test_a_customer_of_a_network_is_one_address(header: str | None, address: str | None) -> None:
    assert common_address(header) == address


@pytest.mark.parametrize("descriptors", [64, 256, 1024, 4096, 65536, 1 << 20])
def test_the_sum_of_all_budgets_leaves_a_third_of_the_descriptors(descriptors: int) -> None:
    limits = Limits.within(descriptors)
    assert limits.descriptors <= descriptors * 2 / 3
    assert min(limits.strangers, limits.readers, limits.connections, limits.stream_descriptors) > 0


def test_a_budget_bounds_the_whole_and_each_account_and_is_given_back() -> None:
    budget = Budget(total=4, each=2)
    assert [budget.take("a") for _ in range(3)] == [True, True, False]
    assert budget.take(None)
    assert not budget.take("b", 2)
    assert budget.take("b")
    assert not budget.take(None)
    budget.release("a", 2)
    assert (budget.used, budget.take("a", 2), budget.used) == (2, True, 4)
    assert Budget(total=4, each=2).take(None, 4)


def test_an_account_has_its_pace_and_the_others_do_not_wait_for_it() -> None:
    pace, now = Pace(per_second=100.0, burst=50.0), 0.0
    assert pace.pause("a", 50.0, now) == 0.0
    for _ in range(100):
        now += pace.pause("a", 10.0, now)
    assert now == pytest.approx(10.0)  # 1000 units at 100 a second
    assert pace.pause("b", 50.0, now) == 0.0
    pace.forget(now)
    assert pace.pause("a", 10.0, now) == pytest.approx(0.1)  # what is left of its work is not forgotten
    assert pace.pause("a", 50.0, now + 10.0) == 0.0


def test_of_too_many_that_linger_the_oldest_goes_although_there_is_room(mocker: MockerFixture) -> None:
    mocker.patch.object(entrance, "MOST_LINGERING", 2)
    known: list[int] = []
    door = entrance.Entrance(Limits.within(65536), 10, 10, lambda _strangers, number: known.append(number))
    first, second, third, followed = (door.admit_known(None) for _ in range(4))
    for visit in (second, first, third):
        visit.linger(lingers=True)
    assert [visit.dismissed for visit in (first, second, third, followed)] == [False, True, False, False]
    assert known[-1] == 3
    second.leave()
    assert known[-1] == 3, "its room is given back once"
