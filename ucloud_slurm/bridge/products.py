"""Product sync: the configured products in the form of products v2, compared with those that UCloud has.

The accounting of a category never changes: UCloud stores balances and usage as bare numbers, so that another unit or
another period would change their meaning.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from ucloud_slurm.bridge.usage import Accounting, Unit, is_money, product_accounting, unit_name
from ucloud_slurm.config import DriveRule, Product
from ucloud_slurm.errors import Misconfigured, one_line
from ucloud_slurm.ucloud.products import COMPUTE, STORAGE, STORAGE_TYPE, TYPE, AccountingUnit, Category, ProductV2

Value = str | int | bool | None
FREQUENCIES: Mapping[str | None, str] = {"minute": "PERIODIC_MINUTE", "hour": "PERIODIC_HOUR", "day": "PERIODIC_DAY"}
CAPACITY = "GB"
CAPACITY_FREQUENCY = "ONCE"
CATEGORY_ACCOUNTING = ("product_type", "accounting_unit", "accounting_frequency", "free_to_use")


class SyncStatus(StrEnum):
    """How a configured product compares with UCloud's."""

    NEW = "new"
    DIFFERENT = "different"
    SAME = "same"


class Difference(NamedTuple):
    """A field that differs.

    :ivar there: its value at UCloud; None where UCloud has no such product
    :ivar here: its configured value
    """

    field: str
    there: Value
    here: Value


class ProductComparison(NamedTuple):
    """A configured product in the form of products v2, and how UCloud's differs.

    :ivar fixed: differences that cannot be registered, because the category exists with other accounting
    """

    product: ProductV2
    status: SyncStatus
    differences: tuple[Difference, ...]
    fixed: tuple[Difference, ...]

    def refusals(self) -> Iterator[str]:
        """Why it cannot be registered, and what to do."""
        name = self.product.category.name
        for each in self.fixed:
            yield (
                f"{name}/{self.product.name}: {each.field} is {shown(each.there)} at UCloud and would become "
                f"{shown(each.here)}. A category keeps its accounting: UCloud stores balances and usage of {name} as "
                "bare numbers, which would mean something else. Configure what UCloud has, or sell the product in a "
                "category of another name."
            )


class Comparison(NamedTuple):
    """All products of both sides.

    :ivar others: products of this provider that only UCloud has
    """

    products: tuple[ProductComparison, ...]
    others: tuple[ProductV2, ...]

    @property
    def due(self) -> list[ProductV2]:
        """The products to register."""
        return [each.product for each in self.products if each.status is not SyncStatus.SAME]

    @property
    def refusals(self) -> list[str]:
        """Why they cannot be registered."""
        return [sentence for each in self.products for sentence in each.refusals()]


def compare(
    products: Sequence[Product], provider: str, known: Iterable[ProductV2], drives: Sequence[DriveRule] = ()
) -> Comparison:
    """Compares the configured products with UCloud's.

    :param drives: each is of a product of its own
    :param known: all products of the provider at UCloud
    :raises Misconfigured: with a sentence for each product whose accounting is incomplete or contradictory
    """
    there = {product.key: product for product in known}
    categories = {product.category.name: product.category for product in there.values()}
    wanted = _wanted(products, provider, there, categories)
    wanted += [_drive(rule, provider, there, categories.get(rule.category)) for rule in drives]
    compared = tuple(_compared(product, there.get(product.key), categories.get(product.category.name)) for product in wanted)
    ours = {product.key for product in wanted}
    return Comparison(compared, tuple(product for key, product in sorted(there.items()) if key not in ours))


def shown(value: Value) -> str:
    """A value as it is printed."""
    if isinstance(value, str):
        return f'"{one_line(value, 60)}"'
    return "nothing" if value is None else str(value).lower()


def _wanted(
    products: Sequence[Product], provider: str, there: Mapping[tuple[str, str], ProductV2], categories: Mapping[str, Category]
) -> list[ProductV2]:
    wanted: list[ProductV2] = []
    problems: list[str] = []
    first: dict[str, ProductV2] = {}
    for number, product in enumerate(products, 1):
        known = there.get((product.category, product.id))
        counted = product_accounting(product, known.cpu if known else None)
        if counted is None:
            problems.append(f'products[{number}].unit: "{product.unit}" does not name a period; set frequency.')
            continue
        by_cpus = counted.unit in (Unit.CORE, Unit.ALLOCATED) or (counted.unit is Unit.BILLING and not product.node_billing)
        if by_cpus and not (product.cpus or (known and known.cpu)):
            problems.append(
                f"products[{number}].cpus is missing: {product.id} is counted by its CPUs, and UCloud does "
                "not know how many there are."
            )
            continue
        made = _product(product, _category(product, provider, counted, categories.get(product.category)), counted, known)
        other = first.setdefault(product.category, made)
        if made.category.accounting_unit != other.category.accounting_unit:
            problems.append(
                f"products: {other.name} and {made.name} are both in category {product.category}, which is counted in "
                f"{other.category.accounting_unit.name_plural} by the one and in "
                f"{made.category.accounting_unit.name_plural} by the other; give both the same unit_name, and unit if "
                "they cost credits."
            )
        wanted.append(made)
    if problems:
        raise Misconfigured(problems)
    return wanted


def _category(product: Product, provider: str, counted: Accounting, there: Category | None) -> Category:
    name, plural = unit_name(product, counted.unit)
    money = is_money(product)
    unit = AccountingUnit(name=name, name_plural=plural, floating_point=money, display_frequency_suffix=not money)
    if there is not None and (there.accounting_unit.name, there.accounting_unit.floating_point) == (name, money):
        unit = there.accounting_unit  # how UCloud displays it is not configured
    return Category(
        name=product.category,
        provider=provider,
        product_type=COMPUTE,
        accounting_unit=unit,
        accounting_frequency=FREQUENCIES[product.period],
        free_to_use=product.free,
        allow_sub_allocations=there.allow_sub_allocations if there else True,
    )


def _product(product: Product, category: Category, counted: Accounting, there: ProductV2 | None) -> ProductV2:
    """The product to register; what is not configured stays as UCloud has it."""
    cpu = product.cpus or (there.cpu if there else 0)
    memory = int(product.memory_gb) if product.memory_gb else there.memory_in_gigs if there else 0
    gpu = product.gpus if product.gpus is not None else there.gpu if there else 0
    return ProductV2(
        type=TYPE,
        category=category,
        name=product.id,
        description=product.description or (there.description if there else _description(cpu, memory, gpu)),
        product_type=COMPUTE,
        price=counted.node_price,
        fraction=there.fraction if there else None,
        hidden_in_grant_applications=product.hidden,
        cpu=cpu,
        memory_in_gigs=memory,
        gpu=gpu,
        cpu_model=product.cpu_model or (there.cpu_model if there else ""),
        memory_model=product.memory_model or (there.memory_model if there else ""),
        gpu_model=product.gpu_model or (there.gpu_model if there else ""),
    )


def _drive(rule: DriveRule, provider: str, known: Mapping[tuple[str, str], ProductV2], category: Category | None) -> ProductV2:
    """The product of drives: capacity, free of charge. Its unit is one of which UCloud's web client knows the bytes."""
    unit = AccountingUnit(name=CAPACITY, name_plural=CAPACITY)
    there = known.get((rule.category, rule.product_id))
    return ProductV2(
        type=STORAGE_TYPE,
        category=Category(
            name=rule.category,
            provider=provider,
            product_type=STORAGE,
            accounting_unit=unit,
            accounting_frequency=CAPACITY_FREQUENCY,
            free_to_use=True,
            allow_sub_allocations=category.allow_sub_allocations if category else True,
        ),
        name=rule.product_id,
        description=rule.title,
        product_type=STORAGE,
        price=1,
        fraction=there.fraction if there else None,
        hidden_in_grant_applications=True,
    )


def _description(cpu: int, memory: int, gpu: int) -> str:
    parts = [f"{number} {word}{'s' * (number > 1)}" for number, word in ((cpu, "CPU"), (gpu, "GPU")) if number]
    return ", ".join([*parts, *([f"{memory} GiB of memory"] if memory else [])])


def _compared(product: ProductV2, there: ProductV2 | None, category: Category | None) -> ProductComparison:
    differences = tuple(_differences(_flat(there.body()) if there else {}, _flat(product.body())))
    known = there.category if there else category
    fixed: tuple[Difference, ...] = ()
    if known is not None:
        fixed = tuple(
            _differences(
                _flat({"category": known.model_dump(by_alias=True, include=set(CATEGORY_ACCOUNTING))}),
                _flat({"category": product.category.model_dump(by_alias=True, include=set(CATEGORY_ACCOUNTING))}),
            )
        )
    status = SyncStatus.NEW if there is None else SyncStatus.DIFFERENT if differences else SyncStatus.SAME
    return ProductComparison(product, status, differences, fixed)


def _differences(there: Mapping[str, Value], here: Mapping[str, Value]) -> Iterator[Difference]:
    for field, value in here.items():
        if there.get(field) != value:
            yield Difference(field, there.get(field), value)


def _flat(data: Mapping[str, Any], before: str = "") -> dict[str, Value]:
    """Path and value of every leaf of nested objects."""
    leaves: dict[str, Value] = {}
    for key, value in data.items():
        leaves |= _flat(value, f"{before}{key}.") if isinstance(value, dict) else {f"{before}{key}": value}
    return leaves
