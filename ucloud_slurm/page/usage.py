"""What was charged: for each product, on each day, of each project or person."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from flask import Blueprint, render_template

from ucloud_slurm.errors import Refused
from ucloud_slurm.page.plots import Plot, stacked
from ucloud_slurm.page.shown import key
from ucloud_slurm.provider.billing import product_accounting_of
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.lookup import Lookup
from ucloud_slurm.store.daily_use import DAY_SECONDS, DailyUse, daily_use

SPANS = (30, 90, 365)  # days
LARGEST = 5  # wallets that have a colour of their own
OTHERS = "all others"
LISTED = 100  # wallets in a table


@dataclass(frozen=True, slots=True)
class Share:
    """What one wallet was charged of a product in all of these days.

    :ivar series: the number of its colour; None: it is one of the others
    """

    owner_kind: str
    owner: str
    title: str | None
    hours: float
    part: float
    series: int | None


@dataclass(frozen=True, slots=True)
class ProductUse:
    """What was charged of a product.

    :ivar unit: of all numbers, such as node-hours
    :ivar left_out: how many wallets are not among the shares
    """

    category: str
    product: str
    unit: str
    hours: float
    plot: Plot
    shares: Sequence[Share]
    left_out: int


def by_product(rows: Iterable[DailyUse], days: Sequence[int], units: Mapping[tuple[str, str], str]) -> list[ProductUse]:
    """The use of each product, the one with the most wallets first.

    :param days: that are drawn, since the epoch
    :param units: by category and product
    """
    grouped: dict[tuple[str, str], list[DailyUse]] = defaultdict(list)
    for row in rows:
        grouped[row.category, row.product].append(row)
    found = [_product(name, of, days, units.get(name, "hours")) for name, of in sorted(grouped.items())]
    return sorted(found, key=lambda each: -(len(each.shares) + each.left_out))


def _product(name: tuple[str, str], rows: Sequence[DailyUse], days: Sequence[int], unit: str) -> ProductUse:
    sums: dict[tuple[str, str], float] = defaultdict(float)
    titles = {(row.owner_kind, row.owner): row.title for row in rows}
    for row in rows:
        sums[row.owner_kind, row.owner] += row.seconds / 3600
    largest = sorted(sums, key=lambda wallet: (-sums[wallet], wallet))
    colours = {wallet: number for number, wallet in enumerate(largest[:LARGEST])}
    place = {day: column for column, day in enumerate(days)}
    drawn = [[0.0] * len(days) for _ in range(LARGEST + 1)]
    for row in rows:
        drawn[colours.get((row.owner_kind, row.owner), LARGEST)][place[row.day]] += row.seconds / 3600
    names = [titles[wallet] or wallet[1] for wallet in largest[:LARGEST]]
    legend = {f"{number}. {each}": drawn[number] for number, each in enumerate(names, 1)}
    if len(largest) > LARGEST:
        legend[OTHERS] = drawn[LARGEST]
    total = sum(sums.values())
    shares = [
        Share(*wallet, titles[wallet], sums[wallet], sums[wallet] / total if total else 0.0, colours.get(wallet))
        for wallet in largest[:LISTED]
    ]
    plot = stacked([_date(day) for day in days], legend, max(len(days) // 5, 1))
    return ProductUse(*name, unit, total, plot, shares, max(len(largest) - LISTED, 0))


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
        rows = [row for row in daily_use(provider.store, days[0]) if row.day <= today]
        lookup = Lookup(provider)
        units = {}
        for category, product in {(row.category, row.product) for row in rows}:
            accounting = product_accounting_of(provider, lookup, category, product, ask=False)
            if accounting is not None:
                units[category, product] = accounting.tariff.measure.replace("seconds", "hours")
        products = by_product(rows, days, units)
        return render_template("use.html", products=products, days=span, spans=SPANS, largest=LARGEST, others=OTHERS)

    return place
