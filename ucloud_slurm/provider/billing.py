"""What a job has used, as UCloud is told it: as charges of periods, or as one number that grows."""

from ucloud_slurm.bridge import charges
from ucloud_slurm.bridge import usage as unit_usage
from ucloud_slurm.bridge.usage import Accounting
from ucloud_slurm.config import Product
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.lookup import Lookup
from ucloud_slurm.store.job_rows import OpenJob
from ucloud_slurm.ucloud.products import ProductReference
from ucloud_slurm.ucloud.reports import Charge, Usage


def bill(
    provider: Provider, row: OpenJob, slurm_id: int, *, used: int, weight: int, accounting: Accounting, final: bool
) -> None:
    """Writes down what is due.

    :param used: weighted seconds that the job has used
    :param weight: multiplier of the present run
    :param final: the job has ended
    """
    settings = provider.config.accounting
    every = 0.0 if final else settings.every
    if provider.reports_usage:
        told = unit_usage.told(
            accounting, used=used, charged=row.charged, gather=every * weight, final=final, last_unit=settings.last_unit
        )
        if told is not None:
            # With the mark, which only grows: after a change of the price the same number can come again.
            key = f"{row.id}-{slurm_id}-{row.charged}-{told.units}"
            entry = Charge(key, row.id, told.more, 1, f"Slurm job {slurm_id}")
            # What was charged by periods before UCloud was told of use stands in its books already.
            usage = _usage(row, told.units - accounting.units(row.by_periods), provider.config.provider.id)
            provider.charges.add(entry, slurm_id, told.covered, provider.now(), usage)
        return
    tariff = accounting.tariff
    due = charges.charge(
        row.id,
        slurm_id,
        used=used,
        charged=row.charged,
        weight=weight,
        tariff=tariff,
        every=every,
        final=final,
        last_unit=settings.last_unit,
    )
    if due is not None:
        provider.charges.add(due, slurm_id, charges.covered(due, tariff), provider.now())


def _usage(row: OpenJob, units: int, provider: str) -> Usage:
    return Usage(
        username=row.owner,
        project=row.project,
        category=row.category,
        provider=provider,
        scope=f"{provider}/{row.category}/job/{row.id}",
        units=units,
    )


def accounting_of(provider: Provider, lookup: Lookup, row: OpenJob, *, ask: bool = True) -> Accounting | None:
    """How a job is counted, or None if it is not.

    :param ask: ask UCloud for what is not kept here
    :raises CoreUnavailableError: UCloud had to be asked and could not be
    """
    config = provider.config
    if config.accounting.mode == "off":
        return None
    product = config.product(row.category, row.product)
    if product is None:  # taken out of the configuration; its jobs are counted as UCloud has it
        product = Product.model_construct(id=row.product, category=row.category, partition="removed")
    by_core = product.charge_by == "core" or (product.charge_by is None and product.unit is None)
    unit_known = product.unit is not None or provider.reports_usage
    known = None
    if not unit_known or (product.cpus is None and (by_core or product.charge_by is None)):
        reference = ProductReference(id=row.product, category=row.category, provider=config.provider.id)
        known = lookup.product(reference, None, ask=ask)
    cpus = known.cpu if known else None
    if provider.reports_usage:
        return unit_usage.accounting(product, cpus)
    tariff = charges.tariff(product, known.unit_of_price if known else None, cpus)
    return Accounting(tariff, 1) if tariff else None
