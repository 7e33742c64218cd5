"""Accounting of jobs: charges of periods, or reports of the total use, which only grows."""

from collections.abc import Sequence

from ucloud_slurm.bridge import charges
from ucloud_slurm.bridge.usage import Accounting, product_accounting
from ucloud_slurm.config import Product
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.lookup import Lookup
from ucloud_slurm.store.charges import RestKey
from ucloud_slurm.store.job_rows import JobRow, NewJob, OpenJob
from ucloud_slurm.ucloud.channel import Payer
from ucloud_slurm.ucloud.reports import Charge, Usage


def bill(
    provider: Provider, row: OpenJob, slurm_id: int, *, uses: Sequence[charges.Use], accounting: Accounting, final: bool
) -> None:
    """Enqueues the charges or the report that are due.

    The last ones of a job take in the rest of a unit of its wallet, and leave the new one: they are made once, in the
    transaction that records the end of the job, before it does. For a job that has ended already, or that UCloud does
    not have, that does nothing; for one that UCloud may still drop, :func:`bill_confirmed` does it.

    :param uses: of all runs of the job, in their order, the present one or the last one included
    :param final: the job has ended
    """
    if final:
        with provider.store.writing():
            if provider.charges.may_end(row.id, confirmed=provider.era.has_check_existence):
                _enqueue_last(provider, row, slurm_id, uses, accounting)
    elif provider.reports_usage:
        used, weight = charges.total(uses, accounting.tariff), accounting.tariff.weight(uses[-1])
        if used - row.charged >= provider.config.accounting.every * weight:
            _report(provider, row, slurm_id, accounting.units(used), accounting)
    else:
        _enqueue_due(provider, row, slurm_id, uses, accounting)


def _enqueue_last(provider: Provider, row: OpenJob, slurm_id: int, uses: Sequence[charges.Use], accounting: Accounting) -> None:
    used = charges.total(uses, accounting.tariff)
    if provider.reports_usage:
        _report(provider, row, slurm_id, _last_units(provider, row, used, row.charged, accounting), accounting)
        return
    sends = int(provider.charges.may_be_booked(row.id))
    charged = _enqueue_due(provider, row, slurm_id, uses, accounting)
    units = _last_units(provider, row, used, charged, accounting)
    if due := units - accounting.units(charged):
        weight, tariff = accounting.tariff.weight(uses[-1]), accounting.tariff
        last = charges.last_charge(row.id, slurm_id, units=due, charged=charged, weight=weight, tariff=tariff)
        _add(provider, [last], slurm_id, tariff, sends)


def _enqueue_due(provider: Provider, row: OpenJob, slurm_id: int, uses: Sequence[charges.Use], accounting: Accounting) -> int:
    """Enqueues the charges up to the last boundary; returns what is charged then."""
    tariff, charged, every = accounting.tariff, row.charged, provider.config.accounting.every
    due = list(charges.due_charges(row.id, slurm_id, uses=uses, charged=charged, tariff=tariff, every=every))
    if due:
        _add(provider, due, slurm_id, tariff, int(provider.charges.may_be_booked(row.id)))
    return charged + sum(charges.covered(charge, tariff) for charge in due)


def _last_units(provider: Provider, row: OpenJob, used: int, charged: int, accounting: Accounting) -> int:
    """All units of a job that has ended. Its rest of a unit becomes part of that of its wallet."""
    wallet = rest_key(provider, row, accounting)
    rest = provider.charges.rest(wallet)
    units, left = accounting.last_units(used, charged, rest, provider.config.accounting.last_unit)
    if left != rest:
        provider.charges.carry(wallet, left)
    return units


def bill_confirmed(provider: Provider, lookup: Lookup, row: JobRow) -> None:
    """Enqueues the last report of a job that ended before UCloud had confirmed that it has it; of another one nothing.

    No job takes in the rest of a unit of one that UCloud drops. Called in the transaction that records the confirmation.
    """
    # Its product was looked up when it ended.
    if row.used is not None and row.slurm_id is not None and (accounting := accounting_of(provider, lookup, row, ask=False)):
        _report(provider, row, row.slurm_id, _last_units(provider, row, row.used, row.charged, accounting), accounting)


def rest_key(provider: Provider, row: OpenJob, accounting: Accounting) -> RestKey:
    """Which jobs share the rest of a unit with this one.

    Where use is reported, all of a category count in the units of the wallet. A charge is in units of the product,
    whose price only UCloud knows.
    """
    product = "" if provider.reports_usage else row.product
    return RestKey(Payer.of(row.owner, row.project, row.category), product, accounting.frequency_seconds)


def _add(provider: Provider, due: Sequence[Charge], slurm_id: int, tariff: charges.Tariff, sends: int) -> None:
    with provider.store.writing():
        for charge in due:
            provider.charges.add(charge, slurm_id, charges.covered(charge, tariff), provider.now(), sends=sends)


def _report(provider: Provider, row: OpenJob, slurm_id: int, units: int, accounting: Accounting) -> None:
    """Enqueues the report of so many units in all, if it is not the last one again."""
    before = accounting.units(row.charged)
    if units <= before:
        return
    # The key contains row.charged, which only grows: after a change of the price units can repeat.
    entry = Charge(f"{row.id}-{slurm_id}-{row.charged}-{units}", row.id, units - before, 1, f"Slurm job {slurm_id}")
    # UCloud has already accounted for what was charged by periods before it took reports of use.
    usage = _usage(row, units - accounting.units(row.by_periods), provider.config.provider.id)
    provider.charges.add(entry, slurm_id, accounting.covered(units) - row.charged, provider.now(), usage)


def _usage(row: OpenJob, units: int, provider: str) -> Usage:
    return Usage(
        username=row.owner,
        project=row.project,
        category=row.category,
        provider=provider,
        scope=f"{provider}/{row.category}/job/{row.id}",
        units=units,
    )


def accounting_of(provider: Provider, lookup: Lookup, row: OpenJob | NewJob, *, ask: bool = True) -> Accounting | None:
    """How a job is accounted for, or None if it is not. See :func:`product_accounting_of`."""
    return product_accounting_of(provider, lookup, row.category, row.product, ask=ask)


def product_accounting_of(
    provider: Provider, lookup: Lookup, category: str, id_: str, *, ask: bool = True
) -> Accounting | None:
    """How the jobs of a product are accounted for, or None if they are not.

    :param ask: ask UCloud for what is not cached
    :raises CoreUnavailableError: UCloud had to be asked and did not answer
    """
    config = provider.config
    if config.accounting.mode == "off":
        return None
    product = config.product(category, id_)
    if product is None:  # removed from the configuration; its jobs are accounted for as UCloud describes it
        product = Product(id=id_, category=category, partition="removed")
    by_core = product.charge_by == "core" or (product.charge_by is None and product.unit is None)
    unit_known = product.unit is not None or provider.reports_usage
    cpus, unit = None, None
    if not unit_known or (product.cpus is None and (by_core or product.charge_by is None)):
        cpus, unit = lookup.counted(category, id_, ask=ask)
    if provider.reports_usage:
        return product_accounting(product, cpus)
    tariff = charges.tariff(product, unit, cpus)
    return Accounting(tariff, 1) if tariff else None
