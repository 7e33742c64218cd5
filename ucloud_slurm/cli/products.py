"""``products``: comparing and registering the configured products at UCloud (products v2)."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from ucloud_slurm.bridge.products import Comparison, ProductComparison, SyncStatus, compare, shown
from ucloud_slurm.cli.context import opened
from ucloud_slurm.cli.output import as_json, table
from ucloud_slurm.errors import CoreRefusedError, one_line
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.store.acts import PRODUCTS
from ucloud_slurm.ucloud.products import ProductV2


@click.group()
def products() -> None:
    """List and register the configured products at UCloud, where it has products v2."""


@products.command("list")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@click.pass_obj
def list_(path: Path | None, json_: bool) -> None:
    """List the products and how each compares with UCloud: same, different, new, or not configured."""
    with opened(path) as provider, _answered():
        found = _compared(provider)
        partitions: dict[tuple[str, str], str | None] = {
            (each.category, each.id): each.partition for each in provider.config.products
        }
    if json_:
        as_json(_as_data(found))
        return
    rows = [_row(each.product, partitions.get(each.product.key), each.status) for each in found.products]
    rows += [_row(each, None, "not configured") for each in found.others]
    table(("CATEGORY", "PRODUCT", "PARTITION", "PRICE", "UNIT", "FREQUENCY", "AT UCLOUD"), rows)


def _row(product: ProductV2, partition: str | None, standing: str) -> tuple[Any, ...]:
    category = product.category
    unit = (category.accounting_unit.name, category.accounting_frequency)
    return (*product.key, partition, product.price, *unit, standing)


@products.command()
@click.option("--dry-run", is_flag=True, help="Only show the differences.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@click.pass_obj
def sync(path: Path | None, dry_run: bool, yes: bool, json_: bool) -> None:
    """Show how the configured products differ from those at UCloud, ask, and register the differences.

    Products at UCloud that are not configured are listed and stay. Exits with 1, and changes nothing, when the
    accounting unit of a category would change, when UCloud does not answer or refuses, and when the answer is no.
    """
    with opened(path) as provider, _answered():
        found = _compared(provider)
        if not json_:
            _show(found)
        for sentence in found.refusals:
            click.echo(f"ucloud-slurm: {sentence}", err=True)
        wanted = bool(found.due) and not found.refusals and not dry_run
        done = wanted and (yes or click.confirm(_question(found), err=True))
        if done:
            names = ", ".join("/".join(product.key) for product in found.due)
            with provider.acts.recorded(PRODUCTS, f"registration of {names} at UCloud", provider.now()):
                provider.core.create_products(found.due)
    if json_:
        as_json(_as_data(found) | {"done": done})
    elif done:
        click.echo(f"Registered {_count(len(found.due))} at UCloud; they can be used within two minutes.")
    sys.exit(1 if found.refusals or (wanted and not done) else 0)


def _compared(provider: Provider) -> Comparison:
    name = provider.config.provider.id
    drives = provider.config.drives if provider.era.has_drives else ()
    return compare(provider.config.products, name, provider.core.products_v2(name), drives)


@contextmanager
def _answered() -> Iterator[None]:
    """Prints a refusal of UCloud as a sentence, and exits with 1."""
    try:
        yield
    except CoreRefusedError as error:
        older = "; a UCloud of 2021 or 2022 has no products v2, and its administrators register products"
        click.echo(f"ucloud-slurm: {error}{older if error.status == 404 else ''}.", err=True)
        sys.exit(1)


def _show(found: Comparison) -> None:
    for each in found.products:
        if each.status is not SyncStatus.SAME:
            click.echo(f"{_name(each)}: {each.status}")
            for difference in each.differences:
                before = "" if each.status is SyncStatus.NEW else f"{shown(difference.there)} -> "
                click.echo(f"  {difference.field}: {before}{shown(difference.here)}")
    for other in found.others:
        name = one_line("/".join(other.key), 200)
        click.echo(f"{name}: not configured, left as it is ({one_line(other.product_type, 40)})")
    if not found.due:
        click.echo("Nothing to do: all configured products are registered at UCloud.")


def _question(found: Comparison) -> str:
    return f"Register {_count(len(found.due))} at UCloud?"


def _count(number: int) -> str:
    return f"{number} product{'' if number == 1 else 's'}"


def _name(each: ProductComparison) -> str:
    return one_line("/".join(each.product.key), 200)


def _as_data(found: Comparison) -> dict[str, Any]:
    return {
        "products": [
            {
                "category": each.product.category.name,
                "product": each.product.name,
                "at_ucloud": each.status,
                "differences": [difference._asdict() for difference in each.differences],
                "refused": [difference._asdict() for difference in each.fixed],
            }
            for each in found.products
        ],
        "not_configured": [
            {"category": each.category.name, "product": each.name, "type": each.product_type} for each in found.others
        ],
    }
