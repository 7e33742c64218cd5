"""Reading the tables a page at a time, newest or first first, for people who look around.

Each page is found by the key of the last row of the page before (keyset pagination), so that the hundredth page costs what
the first one does. Jobs that are over are read by one index, and of the others, which are few, all are looked at; where a
filter has more than one condition, a page looks at :data:`WINDOW` rows at most, and says how far it has come.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from ucloud_slurm.store.acts import Act
from ucloud_slurm.store.drives import Drive
from ucloud_slurm.store.outbox import OutboxMessage
from ucloud_slurm.store.people import LinkState, UserLink
from ucloud_slurm.store.sqlite import Store

PAGE_ROWS = 50
WINDOW = 10_000  # rows that one page looks at, where they must be read to know whether they fit
T = TypeVar("T")

REFUSED = "REFUSED"
# The state of a job in one word, also of one that UCloud never had. An index is of the same expression: it must not change.
SHOWN_STATE = (
    "case when phase = 'refused' then 'REFUSED' when phase in ('accepted', 'submitting') then 'IN_QUEUE' "
    "else coalesce(state, 'IN_QUEUE') end"
)
# The words of the partial indexes.
_OPEN, _OVER = "phase in ('accepted', 'submitting', 'live')", "phase in ('ended', 'refused')"


class JobFilter(NamedTuple):
    """What is looked for; None: anything.

    :ivar state: a state of UCloud's, or :data:`REFUSED`
    :ivar person: a user of UCloud, or a Unix user
    :ivar project: UCloud's id of it
    :ivar product: the id of the product
    :ivar text: a part of the Slurm job's name, in which UCloud's id and the name of the job are; a number is an id of
        UCloud's or of Slurm's
    """

    state: str | None = None
    person: str | None = None
    project: str | None = None
    product: str | None = None
    text: str | None = None


class ListedJob(NamedTuple):
    """A job in a list. Times are seconds since the epoch.

    :ivar place: the key of its page
    :ivar state: see :class:`JobFilter`
    :ivar reason: the last sentence for UCloud; of a refused job the answer to its create
    """

    place: int
    id: str
    slurm_id: int | None
    name: str
    state: str
    slurm_state: str | None
    owner: str
    project: str | None
    local_user: str
    category: str
    product: str
    accepted_at: float
    ended_at: float | None
    reason: str | None
    stop: str | None


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """A page of rows.

    :ivar following: the key from which the next page goes on; None: this is the last one
    :ivar looked_until: the time of the last row that was looked at, where the page is not full and there are more
    """

    rows: Sequence[T]
    following: Any = None
    looked_until: float | None = None


@dataclass(frozen=True, slots=True)
class Condition:
    """A part of a statement, and the values for the places in it.

    :ivar index: of the jobs that are over, by what the condition compares
    """

    sql: str
    values: tuple[Any, ...]
    index: str | None = None


class ListedWallet(NamedTuple):
    """A wallet as UCloud's channel announced it, and the title of its project."""

    owner_kind: str
    owner: str
    category: str
    locked: bool
    quota: int
    usage: int
    changed_at: float
    title: str | None


class SessionOfJob(NamedTuple):
    """A shell, page or screen of a job, without what opens it."""

    kind: str
    rank: int
    username: str | None
    created_at: float
    opened_at: float | None
    ended_at: float | None


class Browsing:
    """Pages of the tables. Nothing is written."""

    def __init__(self, store: Store, window: int = WINDOW) -> None:
        self._store = store
        self._window = window

    def jobs(self, wanted: JobFilter, before: int | None = None, rows: int = PAGE_ROWS) -> Listing[ListedJob]:
        """Jobs, the last written first.

        :param before: the key of the page; None: the newest
        """
        by, rest = self._conditions(wanted)
        start, until = Condition("rowid < ?", (2**62 if before is None else before,)), None
        if rest:
            until = self._last_in_window([*by, start])
            rest = [*rest, Condition("rowid >= ?", (until or 0,))]
        found = self._listed([*by, start, *rest], rows + 1)
        if len(found) > rows:
            return Listing(found[:rows], found[rows - 1].place)
        if until is None:
            return Listing(found)
        (at,) = self._store.tuples("select accepted_at from jobs where rowid = ?", [until])[0]
        return Listing(found, until, at)

    def _conditions(self, wanted: JobFilter) -> tuple[list[Condition], list[Condition]]:
        """The condition by whose index the rows are read, the narrowest of all, and the others, which have no index then."""
        found = []
        if wanted.text is not None and wanted.text.isdecimal():
            number = int(wanted.text) if len(wanted.text) < 19 else -1
            found.append(Condition("(id = ? or slurm_id = ?)", (wanted.text, number)))
        if wanted.person is not None:
            places = _places([Condition("owner = ?", (wanted.person,), "owner")], 1)
            known = self._store.tuples(f"select place from {places.sql}", places.values)
            column = "owner" if known else "local_user"
            found.append(Condition(f"{column} = ?", (wanted.person,), column))
        for name, column, value in (
            ("project", "project", wanted.project),
            ("state", SHOWN_STATE, wanted.state),
            ("product", "product", wanted.product),
        ):
            if value is not None:
                found.append(Condition(f"{column} = ?", (value,), name))
        rest = [Condition(f"+{each.sql}", each.values) for each in found[1:]]
        if wanted.text is not None and not wanted.text.isdecimal():
            rest.append(Condition("instr(lower(name), lower(?))", (wanted.text,)))
        return found[:1], rest

    def _last_in_window(self, which: Sequence[Condition]) -> int | None:
        """The key of the last row that one page looks at; None where there are not so many."""
        places = _places(which, self._window)
        found = self._store.tuples(
            f"select place from {places.sql} order by place desc limit 1 offset ?", [*places.values, self._window - 1]
        )
        return int(found[0][0]) if found else None

    def _listed(self, which: Sequence[Condition], most: int) -> list[ListedJob]:
        places = _places(which, most)
        rows = self._store.rows(
            f"select rowid as place, id, slurm_id, name, {SHOWN_STATE} as state, slurm_state, owner, project, local_user, "
            "category, product, accepted_at, ended_at, coalesce(refused_why, reason) as reason, stop "
            f"from jobs where rowid in (select place from {places.sql}) order by rowid desc limit ?",
            [*places.values, most],
        )
        return [ListedJob(**row) for row in rows]

    def open_states(self) -> dict[str, int]:
        """How many of the jobs that have not ended are in each state."""
        rows = self._store.rows(
            "select coalesce(state, 'IN_QUEUE') as state, count(*) as jobs from jobs indexed by jobs_open "
            "where phase in ('accepted', 'submitting', 'live') group by 1"
        )
        return {row["state"]: row["jobs"] for row in rows}

    def latest(self, most: int) -> list[tuple[float, float | None]]:
        """When the newest jobs were accepted, and when their create was answered with success."""
        return self._store.tuples("select accepted_at, promised_at from jobs order by rowid desc limit ?", [most])

    def latest_deliveries(self, most: int) -> list[tuple[float, float]]:
        """Of the newest messages those that UCloud has: when they were written and when it had them."""
        return self._store.tuples(
            "select created_at, settled_at from (select created_at, settled_at, outcome from outbox order by id desc limit ?) "
            "where outcome = 'delivered'",
            [most],
        )

    def sessions(self, job_id: str) -> list[SessionOfJob]:
        """The sessions of a job, oldest first."""
        rows = self._store.rows(
            "select kind, rank, username, created_at, opened_at, ended_at from sessions where job_id = ? order by created_at",
            [job_id],
        )
        return [SessionOfJob(**row) for row in rows]

    def messages(self, outcome: str, after: int | None = None, rows: int = PAGE_ROWS) -> Listing[OutboxMessage]:
        """Messages that wait or were refused for good, oldest first; or all of them, newest first.

        :param outcome: ``waiting``, ``parked`` or ``all``
        """
        which, key = {
            "waiting": ("outcome is null and id > ? order by id", 0),
            "parked": ("outcome = 'parked' and id > ? order by id", 0),
        }.get(outcome, ("id < ? order by id desc", 2**62))
        found = self._store.rows(f"select * from outbox where {which} limit ?", [key if after is None else after, rows + 1])
        return _listing([OutboxMessage(**row) for row in found], rows, lambda row: row.id)

    def people(self, after: str = "", rows: int = PAGE_ROWS) -> Listing[tuple[UserLink, LinkState | None]]:
        """Connected users, by their names, with what UCloud knows of each."""
        found = self._store.rows(
            "select people.*, wanted, known, named_at, refusal from people "
            "left join connections on connections.username = people.username "
            "where people.username > ? order by people.username limit ?",
            [after, rows + 1],
        )
        links = [
            (
                UserLink(row["username"], row["local_user"], row["uid"], row["added_at"], row["added_by"]),
                None if row["wanted"] is None else LinkState.read(row),
            )
            for row in found
        ]
        return _listing(links, rows, lambda row: row[0].username)

    def acts(self, before: int | None = None, rows: int = PAGE_ROWS) -> Listing[Act]:
        """What administrators and users have changed, newest first."""
        sql = "select * from acts where id < ? order by id desc limit ?"
        found = self._store.rows(sql, [2**62 if before is None else before, rows + 1])
        return _listing([Act(**row) for row in found], rows, lambda row: row.id)

    def wallets(
        self, after: Sequence[str] = ("", "", ""), *, locked: bool = False, rows: int = PAGE_ROWS
    ) -> Listing[ListedWallet]:
        """Wallets by kind, name and category of their owners.

        :param locked: only those that have nothing left
        """
        only = "wallets.locked and" if locked else ""
        found = self._store.rows(
            "select owner_kind, owner, category, locked, quota, usage, changed_at, title from wallets "
            "left join ucloud_projects on owner_kind = 'project' and ucloud_projects.id = owner "
            f"where {only} (owner_kind, owner, category) > (?, ?, ?) order by owner_kind, owner, category limit ?",
            [*after, rows + 1],
        )
        wallets = [ListedWallet(**dict(row) | {"locked": bool(row["locked"])}) for row in found]
        return _listing(wallets, rows, lambda row: (row.owner_kind, row.owner, row.category))

    def drives(self, after: str = "", rows: int = PAGE_ROWS) -> Listing[Drive]:
        """Drives by the provider's ids of them."""
        found = self._store.rows("select * from drives where provider_id > ? order by provider_id limit ?", [after, rows + 1])
        return _listing([Drive.read(row) for row in found], rows, lambda row: row.provider_id)


def _places(which: Sequence[Condition], most: int) -> Condition:
    """A table of the keys of the newest jobs of which all of that is true; of more than those, if there is an index."""
    sql = " and ".join(each.sql for each in which)
    values = (*(value for each in which for value in each.values), most)
    index = which[0].index
    if index is None:
        return Condition(f"(select rowid as place from jobs where {sql} order by rowid desc limit ?)", values)
    both = (
        f"(select rowid as place from jobs indexed by {each} where {phases} and {sql} order by rowid desc limit ?)"
        for each, phases in (("jobs_open", _OPEN), (f"jobs_over_by_{index}", _OVER))
    )
    return Condition(f"({' union all '.join(f'select place from {each}' for each in both)})", (*values, *values))


def _listing(found: list[T], rows: int, key: Callable[[T], Any]) -> Listing[T]:
    return Listing(found) if len(found) <= rows else Listing(found[:rows], key(found[rows - 1]))
