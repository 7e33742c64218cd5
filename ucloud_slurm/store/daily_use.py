"""The table use_by_day: how much of which product each wallet was charged on each day. A trigger adds to it."""

from dataclasses import dataclass

from ucloud_slurm.store.sqlite import Store

DAY_SECONDS = 86400
KEEP_DAYS = 400


@dataclass(frozen=True, slots=True)
class DailyUse:
    """What one wallet was charged of one product on one day.

    :ivar day: days since the epoch, in UTC
    :ivar owner: the name of the user, or the id of the project
    :ivar seconds: node-, CPU-, GPU- or billing-seconds
    :ivar title: of the project, where UCloud has named it
    """

    day: int
    owner_kind: str
    owner: str
    category: str
    product: str
    seconds: int
    title: str | None


def daily_use(store: Store, first: int) -> list[DailyUse]:
    """All use from that day on, in days since the epoch."""
    rows = store.rows(
        "select day, owner_kind, owner, category, product, seconds, title from use_by_day "
        "left join ucloud_projects on owner_kind = 'project' and ucloud_projects.id = owner where day >= ? order by day",
        [first],
    )
    return [DailyUse(**row) for row in rows]


def forget(store: Store, now: float) -> None:
    """Deletes the days that nobody looks at any more.

    :param now: seconds since the epoch
    """
    store.change("delete from use_by_day where day < ?", [int(now // DAY_SECONDS) - KEEP_DAYS])
