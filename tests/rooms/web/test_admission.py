"""Who is admitted while strangers flood: decisions, without a socket."""

import pytest

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

ROUND_TRIP_SECONDS = 0.2  # from the handshake to the first frame of a browser far away


def flooded(addresses: int, number: int = 2000) -> tuple[Strangers, float]:
    """After a flood of a thousand silent strangers in a second, from so many addresses."""
    strangers, now = Strangers(STRANGERS), 0.0
    for each in range(number):
        now = each / 1000
        strangers.admit(f"192.0.2.{each % addresses}" if addresses > 1 else "192.0.2.1", now)
    return strangers, now


@pytest.mark.parametrize("addresses", [1, 3, 16, 100_000])
def test_a_browser_gets_in_during_a_flood_and_has_the_time_to_send_its_first_frame(addresses: int) -> None:
    strangers, now = flooded(addresses)
    admitted = strangers.admit("198.51.100.7", now)
    assert admitted is not None
    browser, _ = admitted
    gone: list[Stranger | None] = []
    for each in range(int(ROUND_TRIP_SECONDS * 1000)):  # the flood goes on meanwhile
        found = strangers.admit(f"203.0.113.{each % addresses}", now + each / 1000)
        gone.append(found[1] if found else None)
    assert browser not in gone
    assert len(strangers) <= STRANGERS


def test_one_address_displaces_itself_only() -> None:
    strangers = Strangers(STRANGERS)
    quiet = [strangers.admit(f"198.51.100.{number}", 0.0) for number in range(10)]
    gone = [strangers.admit("192.0.2.1", number / 100) for number in range(5000)]
    displaced = {found[1] for found in gone if found is not None and found[1] is not None}
    assert {stranger.address for stranger in displaced} == {"192.0.2.1"}
    assert len(strangers) == len(quiet) + STRANGERS_PER_ADDRESS


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
