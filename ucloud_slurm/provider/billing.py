"""Accounting of jobs: charges of periods, or reports of the total use, which only grows."""

from ucloud_slurm.bridge import charges
from ucloud_slurm.bridge.usage import Accounting, product_accounting, usage_report
from ucloud_slurm.config import Product
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.lookup import Lookup
from ucloud_slurm.store.job_rows import OpenJob
from ucloud_slurm.ucloud.products import ProductReference
from ucloud_slurm.ucloud.reports import Charge, Usage


def bill(
    provider: Provider, row: OpenJob, slurm_id: int, *, used: int, weight: int, accounting: Accounting, final: bool
) -> None:
    """Enqueues the charge or the report that is due.

    :param used: node-, CPU- or GPU-seconds that the job has used
    :param weight: nodes, CPUs or GPUs of the present run
    :param final: the job has ended
    """
    settings = provider.config.accounting
    every = 0.0 if final else settings.every
    if provider.reports_usage:
        report = usage_report(
            accounting, used=used, charged=row.charged, threshold=every * weight, final=final, last_unit=settings.last_unit
        )
        if report is not None:
            # The key contains row.charged, which only grows: after a change of the price units can repeat.
            key = f"{row.id}-{slurm_id}-{row.charged}-{report.units}"
            entry = Charge(key, row.id, report.new_units, 1, f"Slurm job {slurm_id}")
            # UCloud has already accounted for what was charged by periods before it took reports of use.
            usage = _usage(row, report.units - accounting.units(row.by_periods), provider.config.provider.id)
            provider.charges.add(entry, slurm_id, report.covered, provider.now(), usage)
        return
    tariff = accounting.tariff
    due = charges.charge(
        row.id, slurm_id, used=used, charged=row.charged, weight=weight, tariff=tariff, every=every, final=final,
        last_unit=settings.last_unit,
    )  # fmt: skip
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
    """How a job is accounted for, or None if it is not.

    :param ask: ask UCloud for what is not cached
    :raises CoreUnavailableError: UCloud had to be asked and did not answer
    """
    config = provider.config
    if config.accounting.mode == "off":
        return None
    product = config.product(row.category, row.product)
    if product is None:  # removed from the configuration; its jobs are accounted for as UCloud describes it
        product = Product.model_construct(id=row.product, category=row.category, partition="removed")
    by_core = product.charge_by == "core" or (product.charge_by is None and product.unit is None)
    unit_known = product.unit is not None or provider.reports_usage
    known = None
    if not unit_known or (product.cpus is None and (by_core or product.charge_by is None)):
        reference = ProductReference(id=row.product, category=row.category, provider=config.provider.id)
        known = lookup.product(reference, None, ask=ask)
    cpus = known.cpu if known else None
    if provider.reports_usage:
        return product_accounting(product, cpus)
    tariff = charges.tariff(product, known.unit_of_price if known else None, cpus)
    return Accounting(tariff, 1) if tariff else None
