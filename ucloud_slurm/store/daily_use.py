"""The table use_by_day: how much of which product each wallet was charged on each day. A trigger adds to it."""

import json
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ucloud_slurm.store.sqlite import Store

DAY_SECONDS = 86400
KEEP_DAYS = 400


class DayUse(NamedTuple):
    """What one wallet was charged of one product on one day.

    :ivar day: days since the epoch, in UTC
    :ivar owner: the name of the user, or the id of the project
    :ivar seconds: node-, CPU-, GPU- or billing-seconds
    """

    day: int
    owner_kind: str
    owner: str
    category: str
    product: str
    seconds: int


def daily_use(store: Store, first: int, last: int) -> list[DayUse]:
    """All use from a day to another, in days since the epoch."""
    # The library makes sums of so many rows slower than the caller does.
    rows = store.tuples(
        "select day, owner_kind, owner, category, product, seconds from use_by_day where day between ? and ?", [first, last]
    )
    return list(map(DayUse._make, rows))


def titles(store: Store, projects: Iterable[str]) -> Mapping[str, str]:
    """The titles of projects that UCloud has named, by their ids."""
    sql = "select id, title from ucloud_projects where id in (select value from json_each(?))"
    return dict(store.tuples(sql, [json.dumps(list(projects))]))


def forget(store: Store, now: float) -> None:
    """Deletes the days that nobody looks at any more.

    :param now: seconds since the epoch
    """
    store.change("delete from use_by_day where day < ?", [int(now // DAY_SECONDS) - KEEP_DAYS])
