"""What was charged: for each product, on each day, of each project or person."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from flask import Blueprint, render_template

from ucloud_slurm.errors import Refused, one_line
from ucloud_slurm.page.plots import Plot, stacked
from ucloud_slurm.page.shown import key
from ucloud_slurm.provider.billing import product_accounting_of
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.lookup import Lookup
from ucloud_slurm.store.daily_use import DAY_SECONDS, DayUse, daily_use, titles
from ucloud_slurm.ucloud.channel import OwnerKind

SPANS = (30, 7, 90)  # days; the first one is shown unless another is chosen
HOUR_SECONDS = 3600
LARGEST = 5  # wallets that have a colour of their own
OTHERS = "all others"
LONGEST_NAME = 60  # characters
LISTED = 20  # wallets in a table


class Share(NamedTuple):
    """What one wallet was charged of a product in all of these days.

    :ivar part: of all, from 0 to 1
    :ivar colour: its number; None: it is one of the others
    """

    owner_kind: str
    owner: str
    hours: float
    part: float
    colour: int | None


class ProductUse(NamedTuple):
    """What was charged of a product, in node-, CPU-, GPU- or billing-hours.

    :ivar drawn: hours on each day, of each of the largest wallets and of all others
    :ivar shares: the largest first
    :ivar left_out: how many wallets are not among the shares
    """

    category: str
    product: str
    hours: float
    drawn: Sequence[Sequence[float]]
    shares: Sequence[Share]
    left_out: int


def by_product(rows: Iterable[DayUse], days: Sequence[int]) -> list[ProductUse]:
    """The use of each product, the one with the most wallets first.

    :param days: that are drawn, since the epoch
    """
    grouped: dict[tuple[str, str], list[DayUse]] = defaultdict(list)
    for row in rows:
        grouped[row.category, row.product].append(row)
    found = [_product(name, of, days) for name, of in sorted(grouped.items())]
    return sorted(found, key=lambda each: -(len(each.shares) + each.left_out))


def _product(name: tuple[str, str], rows: Sequence[DayUse], days: Sequence[int]) -> ProductUse:
    sums: dict[tuple[str, str], int] = defaultdict(int)
    for _, kind, owner, *_, seconds in rows:
        sums[kind, owner] += seconds
    wallets = sorted(sums, key=lambda wallet: (-sums[wallet], wallet))
    colour = {wallet: number for number, wallet in enumerate(wallets[:LARGEST])}
    drawn = [[0.0] * len(days) for _ in range(LARGEST + 1)]
    for day, kind, owner, *_, seconds in rows:
        drawn[colour.get((kind, owner), LARGEST)][day - days[0]] += seconds / HOUR_SECONDS
    total = sum(sums.values())
    shares = [
        Share(*wallet, sums[wallet] / HOUR_SECONDS, sums[wallet] / total if total else 0.0, colour.get(wallet))
        for wallet in wallets[:LISTED]
    ]
    return ProductUse(*name, total / HOUR_SECONDS, drawn[: len(wallets)], shares, max(len(wallets) - LISTED, 0))


def drawing(use: ProductUse, days: Sequence[int], titles: Mapping[str, str]) -> Plot:
    """The use of a product on each day.

    :param titles: of projects, by their ids
    """
    names = [one_line(titles.get(share.owner, share.owner), LONGEST_NAME) for share in use.shares[:LARGEST]]
    numbered = [f"{number}. {name}" for number, name in enumerate(names, 1)]
    legend = dict(zip([*numbered, OTHERS], use.drawn, strict=False))
    return stacked([_date(day) for day in days], legend, max(len(days) // 5, 1))


def _date(day: int) -> str:
    return datetime.fromtimestamp(day * DAY_SECONDS, UTC).strftime("%Y-%m-%d")


def blueprint(provider: Provider) -> Blueprint:
    """``/use``."""
    place = Blueprint("usage", __name__)

    @place.get("/use")
    def use() -> str:
        span = key("days") or SPANS[0]
        if span not in SPANS:
            raise Refused(f"days: should be one of {', '.join(map(str, SPANS))}.")
        today = int(provider.now() // DAY_SECONDS)
        days = range(today - span + 1, today + 1)
        products = by_product(daily_use(provider.store, days[0], today), days)
        projects = {each.owner for use in products for each in use.shares if each.owner_kind == OwnerKind.PROJECT}
        names = titles(provider.store, projects)
        return render_template(
            "use.html",
            products=[(use, _unit(provider, use), drawing(use, days, names)) for use in products],
            titles=names,
            days=span,
            spans=sorted(SPANS),
            largest=LARGEST,
        )

    return place


def _unit(provider: Provider, use: ProductUse) -> str:
    """What the hours of a product are of."""
    accounting = product_accounting_of(provider, Lookup(provider), use.category, use.product, ask=False)
    return "hours" if accounting is None else accounting.tariff.measure.replace("seconds", "hours")
