"""The tables a page at a time: no row is left out or shown twice, whatever is looked for; and the sums of each day."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.factories import accept_live, new_job
from ucloud_slurm.store import daily_use
from ucloud_slurm.store.browsing import Browsing, JobFilter, Listing
from ucloud_slurm.store.charges import Charges
from ucloud_slurm.store.daily_use import DAY_SECONDS, KEEP_DAYS, DayUse
from ucloud_slurm.store.jobs import Jobs
from ucloud_slurm.store.people import People, UserLink
from ucloud_slurm.store.sqlite import Store
from ucloud_slurm.store.wallets import Wallets
from ucloud_slurm.ucloud.channel import OwnerKind, Payer, Wallet
from ucloud_slurm.ucloud.reports import Charge, JobState, JobUpdate


@pytest.fixture
def store(new_database: Path, tmp_path: Path) -> Store:
    path = tmp_path / "test.db"
    path.write_bytes(new_database.read_bytes())
    return Store(path)


@pytest.fixture
def jobs(store: Store) -> Jobs:
    """Jobs of two owners, two projects or none and two products; each in a state, and some are over."""
    jobs = Jobs(store)
    for number in range(12):
        job = new_job(
            str(100 + number),
            name=f"ucloud-{100 + number}-{'Mesh' if number % 3 else 'train'}",
            owner=f"o{number % 2}",
            local_user=f"u{number % 2}",
            project=None if number % 4 == 0 else f"p{number % 4}",
            product=f"m{number % 2}",
            accepted_at=float(number),
        )
        accept_live(jobs, job, slurm_id=900 + number)
    jobs.accept([new_job("200", accepted_at=12.0)])
    jobs.refused("200", 400, "too large", 13.0)
    store.change("update jobs set state = 'RUNNING' where id in ('103', '104')")
    store.change("update jobs set state = 'SUCCESS', phase = 'ended' where id in ('101', '102', '106', '107', '110')")
    return jobs


def all_pages(ask: Callable[[Any], Listing[Any]]) -> list[Any]:
    """All rows, by the links from page to page."""
    listing = ask(None)
    rows = list(listing.rows)
    while listing.following is not None:
        listing = ask(listing.following)
        rows += listing.rows
    return rows


def found(store: Store, wanted: JobFilter, window: int = 10_000) -> list[str]:
    browsing = Browsing(store, window)
    return [row.id for row in all_pages(lambda before: browsing.jobs(wanted, before, 2))]


WANTED: list[tuple[dict[str, str], list[int]]] = [
    ({}, [200, *range(111, 99, -1)]),
    ({"person": "o1"}, [111, 109, 107, 105, 103, 101]),
    ({"person": "u1"}, [111, 109, 107, 105, 103, 101]),
    ({"person": "nobody"}, []),
    ({"project": "p2"}, [110, 106, 102]),
    ({"product": "m0"}, [110, 108, 106, 104, 102, 100]),
    ({"state": "RUNNING"}, [104, 103]),
    ({"state": "REFUSED"}, [200]),
    ({"state": "IN_QUEUE"}, [111, 109, 108, 105, 100]),
    ({"state": "SUCCESS"}, [110, 107, 106, 102, 101]),
    ({"text": "mesh"}, [111, 110, 108, 107, 105, 104, 102, 101]),
    ({"text": "105"}, [105]),
    ({"text": "905"}, [105]),
    ({"text": "9" * 30}, []),
    ({"person": "o1", "project": "p3", "text": "MESH"}, [111, 107]),
    ({"person": "o0", "state": "RUNNING", "product": "m0"}, [104]),
    ({"text": "105", "person": "o0"}, []),
]


def test_what_is_looked_for_is_found_once_the_newest_first(store: Store, jobs: Jobs) -> None:
    for window in (3, 10_000):
        for wanted, ids in WANTED:
            assert found(store, JobFilter(**wanted), window) == [str(each) for each in ids], wanted


def test_a_page_looks_at_no_more_than_its_window_and_says_how_far_it_came(store: Store, jobs: Jobs) -> None:
    listing = Browsing(store, window=4).jobs(JobFilter(text="train"), rows=5)
    assert ([row.id for row in listing.rows], listing.looked_until) == (["109"], 9.0)


def test_a_job_that_comes_while_somebody_looks_moves_no_page(store: Store, jobs: Jobs) -> None:
    browsing = Browsing(store)
    first = browsing.jobs(JobFilter(), rows=3)
    jobs.accept([new_job("300", accepted_at=20.0)])
    assert [row.id for row in browsing.jobs(JobFilter(), first.following, 3).rows] == ["109", "108", "107"]


def test_a_state_is_found_as_soon_as_the_job_has_it(store: Store, jobs: Jobs) -> None:
    jobs.end_unsubmitted("200", JobUpdate(JobState.FAILURE, "why"), 1.0)  # it is refused, and stays so
    jobs.accept([new_job("300")])
    assert found(store, JobFilter(state="IN_QUEUE"))[0] == "300"
    jobs.end_unsubmitted("300", JobUpdate(JobState.FAILURE, "why"), 1.0)
    assert found(store, JobFilter(state="FAILURE")) == ["300"]
    assert found(store, JobFilter(state="REFUSED")) == ["200"]


def test_messages_people_wallets_and_drives_go_on_where_a_page_ended(store: Store, jobs: Jobs) -> None:
    browsing, wallets = Browsing(store), Wallets(store)
    store.change("update jobs set phase = 'live' where phase = 'ended'")
    for number in range(5):
        jobs.held(str(100 + number), JobUpdate(None, "held"), 1.0)
        payer = Payer(OwnerKind.PROJECT if number % 2 else OwnerKind.USER, f"w{number}", "c")
        wallets.set(Wallet(payer, "example", True, 1, 2, number == 3, 3.0))
        store.change("insert into drives (provider_id, name, wanted_at, try_at) values (?, 'home', 0, 0)", [f"d{number}"])
    People(store).add([UserLink(f"U{number}", f"u{number}", 1, 1.0, "root") for number in range(5)])
    waiting = all_pages(lambda after: browsing.messages("waiting", after, 2))
    assert [message.job_id for message in waiting] == ["100", "101", "102", "103", "104"]
    assert [message.id for message in all_pages(lambda after: browsing.messages("all", after, 2))] == sorted(
        (message.id for message in waiting), reverse=True
    )
    assert all_pages(lambda after: browsing.messages("parked", after, 2)) == []
    people = all_pages(lambda after: browsing.people(after or "", 2))
    assert [(link.username, str(state)) for link, state in people] == [(f"U{n}", "not named by UCloud yet") for n in range(5)]
    shown = all_pages(lambda after: browsing.wallets(after or ("", "", ""), rows=2))
    assert [wallet.owner for wallet in shown] == ["w1", "w3", "w0", "w2", "w4"]
    assert [wallet.owner for wallet in browsing.wallets(locked=True).rows] == ["w3"]
    assert [drive.provider_id for drive in all_pages(lambda after: browsing.drives(after or "", 2))] == [
        f"d{number}" for number in range(5)
    ]


def test_each_charge_is_added_to_its_day_and_its_wallet(store: Store, jobs: Jobs) -> None:
    charges, day = Charges(store), 20_000
    for number, (job, covered, at) in enumerate((("100", 60, 0), ("104", 30, 5), ("101", 7, 9), ("100", 50, DAY_SECONDS))):
        charges.add(Charge(f"c{number}", job, 1, 1, "d"), 1, covered, float(day * DAY_SECONDS + at))
    assert sorted(daily_use.daily_use(store, day, day + 1)) == [
        DayUse(day, "project", "p1", "example-compute", "m1", 7),
        DayUse(day, "user", "o0", "example-compute", "m0", 90),
        DayUse(day + 1, "user", "o0", "example-compute", "m0", 50),
    ]
    assert len(daily_use.daily_use(store, day, day)) == 2
    daily_use.forget(store, float((day + KEEP_DAYS + 1) * DAY_SECONDS))
    assert [row.day for row in daily_use.daily_use(store, 0, day + 9)] == [day + 1]


def test_what_an_earlier_release_has_charged_is_in_the_sums(tmp_path: Path) -> None:
    """The file becomes that of a release without this migration, which then runs."""
    path = tmp_path / "test.db"
    earlier = Store(path)
    accept_live(Jobs(earlier), new_job("1", owner="o", project="p"))
    for number in range(3):
        Charges(earlier).add(Charge(f"c{number}", "1", 1, 1, "d"), 1, 10, float(number % 2 * DAY_SECONDS))
    for index in ("owner", "local_user", "product", "project", "state"):
        earlier.change(f"drop index jobs_over_by_{index}")
    for sql in (
        "drop trigger charges_come",
        "drop table use_by_day",
        "delete from _sqlite_migrations where name in ('m020_browsing', 'm023_over')",
    ):
        earlier.change(sql)
    earlier.close()
    del earlier
    days = [(row.day, row.owner_kind, row.owner, row.seconds) for row in daily_use.daily_use(Store(path), 0, 9)]
    assert days == [(0, "project", "p", 20), (1, "project", "p", 10)]


@pytest.mark.parametrize(
    ("wanted", "over"),
    [
        (JobFilter(person="o1"), "INDEX jobs_over_by_owner (owner=? AND rowid<?)"),
        (JobFilter(person="u1"), "INDEX jobs_over_by_local_user (local_user=? AND rowid<?)"),
        (JobFilter(project="p1"), "INDEX jobs_over_by_project (project=? AND rowid<?)"),
        (JobFilter(product="m1"), "INDEX jobs_over_by_product (product=? AND rowid<?)"),
        (JobFilter(state="RUNNING"), "INDEX jobs_over_by_state (<expr>=? AND rowid<?)"),
        (JobFilter("RUNNING", "o1", "p1", "m1", "x"), "INDEX jobs_over_by_owner (owner=? AND rowid>? AND rowid<?)"),
        (JobFilter(), None),
        (JobFilter(text="x"), None),
    ],
    ids=str,
)
def test_jobs_that_are_over_are_read_from_the_index_of_what_is_looked_for_and_the_others_from_theirs(
    store: Store, jobs: Jobs, wanted: JobFilter, over: str | None
) -> None:
    asked: list[str] = []
    store._connection().conn.set_trace_callback(asked.append)
    Browsing(store).jobs(wanted)
    store._connection().conn.set_trace_callback(None)
    (sql,) = [each for each in asked if each.startswith("select rowid as place, id")]
    steps = {str(step["detail"]) for step in store.rows(f"explain query plan {sql}")}
    read = {step for step in steps if re.match("(SCAN|SEARCH) jobs", step) and "rowid=?" not in step}
    if over is None:
        assert len(read) == 1
        assert read.pop().startswith("SEARCH jobs USING INTEGER PRIMARY KEY (rowid")
    else:
        assert read == {"SCAN jobs USING COVERING INDEX jobs_open", f"SEARCH jobs USING {over}"}
