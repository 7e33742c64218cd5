"""The audit: what Slurm counted of every job, beside what UCloud heard of it, and what nobody knows or pays for."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from ucloud_slurm.bridge import charges
from ucloud_slurm.bridge.charges import Use
from ucloud_slurm.bridge.usage import Accounting
from ucloud_slurm.provider.billing import accounting_of
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.identity import identity_of
from ucloud_slurm.provider.lookup import Lookup
from ucloud_slurm.slurm import parse
from ucloud_slurm.slurm.identity import BuiltJob
from ucloud_slurm.slurm.records import RunFilter, RunRecord, SlurmJobId
from ucloud_slurm.slurm.states import Phase
from ucloud_slurm.store.charges import LedgerEntry
from ucloud_slurm.store.job_rows import JobRow
from ucloud_slurm.store.job_state import JobPhase
from ucloud_slurm.store.outbox import MessageOutcome
from ucloud_slurm.ucloud.channel import Payer

PASS_SECONDS = 300.0  # by which a charge of a running job may be late: a pass of the worker, and its delivery
NAME_BEGINS = "ucloud-"
NO_ACCOUNT = "no account"  # beside the kinds below: users of open jobs that this host does not know


class AuditKind(StrEnum):
    """What is not as it should be."""

    RENAMED = "renamed"
    MOVED = "moved"  # to another partition or account
    ENLARGED = "enlarged"  # it asks for more than was bought
    UNKNOWN = "unknown"  # no job of UCloud's
    UNBILLED = "unbilled"
    OVERBILLED = "overbilled"
    UNDELIVERED = "undelivered"  # UCloud refused a charge of it for good


CHANGES = (AuditKind.RENAMED, AuditKind.MOVED, AuditKind.ENLARGED)  # of a job since it was submitted


class AuditFinding(NamedTuple):
    """Something that is not explained.

    :ivar job_id: UCloud's id; None for a job that UCloud does not have
    """

    kind: AuditKind
    slurm_id: int
    job_id: str | None
    text: str


class AuditedJob(NamedTuple):
    """One job. ``used`` and ``charged`` are in its measure, such as CPU-seconds.

    :ivar measure: None: the job is not charged by time
    :ivar units: that UCloud has been sent
    :ivar used_units: exact, of ``used``
    """

    job_id: str
    slurm_id: int
    payer: Payer
    product: str
    ended: bool
    measure: str | None
    seconds: int
    used: int
    charged: int
    units: int
    used_units: float


class AuditedWallet(NamedTuple):
    """All audited jobs of one wallet."""

    payer: Payer
    jobs: int
    used_units: float
    units: int


class Audit(NamedTuple):
    """The result of an audit."""

    jobs: tuple[AuditedJob, ...]
    findings: tuple[AuditFinding, ...]

    def wallets(self) -> list[AuditedWallet]:
        """The sums of each wallet."""
        of: dict[Payer, list[AuditedJob]] = defaultdict(list)
        for job in self.jobs:
            of[job.payer].append(job)
        return [
            AuditedWallet(payer, len(jobs), sum(job.used_units for job in jobs), sum(job.units for job in jobs))
            for payer, jobs in sorted(of.items(), key=lambda item: (item[0].owner, item[0].category))
        ]


def audit(provider: Provider, since: float, *, ask: bool = True) -> Audit:
    """Compares what Slurm's accounting database has of the time since then with the bills.

    :param since: seconds since the epoch
    :param ask: ask UCloud for the price of a product that is not cached
    :raises SchedulerUnavailableError: the accounting database does not answer
    """
    scheduler, here = provider.scheduler, (None, provider.scheduler.cluster)
    rows = [row for row in provider.observations.audited(since) if here[1] is None or row.cluster in here]
    seen = scheduler.runs_since(since, RunFilter(partitions=frozenset(_partitions(provider))))
    by_id = _by_id(seen)
    # Earlier runs, and jobs that were moved to other partitions, are not among these.
    partly = {row.slurm_id for row in rows if row.slurm_id is not None and not _has_first(row, by_id)}
    by_id |= _by_id(scheduler.runs({SlurmJobId(number) for number in partly})) if partly else {}
    lookup, jobs, findings, known = Lookup(provider), [], [], set()
    accounts = _accounts(provider)
    for row in rows:
        identity = identity_of(row)
        own = identity.runs(by_id.get(identity.id, [])) if identity is not None else []
        known |= {(run.id, run.submitted) for run in own}
        if not own:
            continue
        job, found = _of_job(provider, lookup, row, own, ask=ask)
        jobs.append(job)
        findings += found
        if not any(each.kind in CHANGES for each in found):
            accounts.add((own[-1].partition, own[-1].account.lower()))
    numbers = {(row.slurm_id, row.uid): row for row in rows}
    findings += [_unknown(run, numbers) for run in seen if (run.id, run.submitted) not in known and _counts(run, accounts)]
    return Audit(tuple(jobs), tuple(sorted(findings, key=lambda found: (found.slurm_id, found.kind))))


def audit_job(provider: Provider, row: JobRow) -> Audit:
    """Compares what Slurm's accounting database has of one job with its bill. UCloud is not asked.

    :returns: without a job where Slurm has counted nothing yet
    :raises SchedulerUnavailableError: the accounting database does not answer
    """
    identity = identity_of(row)
    own = [] if identity is None else identity.runs(provider.scheduler.runs({identity.id}))
    if not own:
        return Audit((), ())
    job, findings = _of_job(provider, Lookup(provider), row, own, ask=False)
    return Audit((job,), tuple(findings))


def _of_job(
    provider: Provider, lookup: Lookup, row: JobRow, own: Sequence[RunRecord], *, ask: bool
) -> tuple[AuditedJob, list[AuditFinding]]:
    """A job beside its bill, and what is not explained of it.

    :param own: all of its runs, the oldest first
    """
    built = BuiltJob.read(row.built)
    accounting = accounting_of(provider, lookup, row, ask=ask)
    uses, sent = [use_of(run, built) for run in own], provider.charges.of(row.id)
    job, findings = _audited(row, uses, sent, accounting), _changes(row, built, own[-1])
    confirmed = row.confirmed_at is not None or not provider.era.has_check_existence  # it is billed then, if it has ended
    if accounting is not None and row.visible_to_ucloud and confirmed:
        weight = max(accounting.tariff.weight(use) for use in uses)
        late = (provider.config.accounting.every + PASS_SECONDS + accounting.frequency_seconds) * weight
        findings += _bill(job, sent, accounting, late)
    return job, findings


def _by_id(runs: Iterable[RunRecord]) -> dict[int, list[RunRecord]]:
    found: dict[int, list[RunRecord]] = defaultdict(list)
    for run in runs:
        found[run.id].append(run)
    return found


def _has_first(row: JobRow, by_id: Mapping[int, Sequence[RunRecord]]) -> bool:
    """Whether the first run of a job is among these."""
    return any(run.submitted == row.submitted_at for run in by_id.get(row.slurm_id or 0, []))


def _partitions(provider: Provider) -> set[str]:
    """The partitions of the products, some of which may name several."""
    return {name for product in provider.config.products for name in product.partition.split(",")}


def _accounts(provider: Provider) -> set[tuple[str, str]]:
    """Partitions with the Slurm accounts that are given to UCloud's jobs."""
    named = {product.account.lower() for product in provider.config.products if product.account is not None}
    named |= {each.account.lower() for each in provider.people.projects()}
    outside = {
        (product.partition, rule.account)
        for rule in provider.config.outside
        if (product := provider.config.product(rule.category, rule.product)) is not None
    }
    pairs = {(partition, account) for partition in _partitions(provider) for account in named}
    return pairs | {(partition, account.lower()) for partition, account in outside}


def _counts(run: RunRecord, accounts: set[tuple[str, str]]) -> bool:
    """Whether a run used or uses something, in our name or in an account of ours."""
    if not run.is_whole or (not run.elapsed and (run.state is None or run.state.phase is Phase.ENDED)):
        return False
    return (run.partition, run.account.lower()) in accounts or run.name.startswith(NAME_BEGINS)


def _unknown(run: RunRecord, numbers: Mapping[tuple[int | None, int | None], JobRow]) -> AuditFinding:
    before = numbers.get((run.id, run.uid))
    if before is not None:
        text = f"was requeued after UCloud had heard of its end; {run.elapsed} s in {run.partition} are billed to nobody"
        return AuditFinding(AuditKind.UNBILLED, run.id, before.id, text)
    whose = f"{run.user or run.uid}'s job {run.name!r} in {run.partition}, account {run.account or '-'}"
    return AuditFinding(AuditKind.UNKNOWN, run.id, None, f"{whose} is no job of UCloud's; it has run for {run.elapsed} s")


def _changes(row: JobRow, built: BuiltJob | None, last: RunRecord) -> list[AuditFinding]:
    """What was changed of a job since it was submitted."""
    found = []
    if built is None or row.external or row.slurm_id is None:
        return []
    if last.name != row.name:
        found.append((AuditKind.RENAMED, f"is called {last.name!r} now, not {row.name!r}"))
    if last.partition and last.partition not in built.partition.split(","):
        found.append((AuditKind.MOVED, f"is in the partition {last.partition}, not {built.partition}"))
    if built.account is not None and last.account.lower() != built.account.lower():
        found.append((AuditKind.MOVED, f"is in the account {last.account}, not {built.account}"))
    asked = parse.tres(last.requested)
    wanted = ((asked.nodes, built.nodes, "nodes"), (asked.cpus, built.cpus, "CPUs"), (asked.gpus, built.gpus, "GPUs"))
    more = [f"{now} {what}, not {then}" for now, then, what in wanted if now is not None and then is not None and now > then]
    if more:
        found.append((AuditKind.ENLARGED, f"asks for {', '.join(more)}"))
    return [AuditFinding(kind, row.slurm_id, row.id, text) for kind, text in found]


def _audited(row: JobRow, uses: Sequence[Use], sent: Iterable[LedgerEntry], accounting: Accounting | None) -> AuditedJob:
    used = charges.total(uses, accounting.tariff) if accounting else 0
    return AuditedJob(
        job_id=row.id,
        slurm_id=row.slurm_id or 0,
        payer=Payer.of(row.owner, row.project, row.category),
        product=row.product,
        ended=row.phase is not JobPhase.LIVE,
        measure=accounting.tariff.measure if accounting else None,
        seconds=sum(use.seconds for use in charges.disjoint(uses)),
        used=used,
        charged=row.charged,
        units=sum(entry.units * entry.multiplier for entry in sent),
        used_units=used * accounting.price / accounting.frequency_seconds if accounting else 0.0,
    )


def use_of(run: RunRecord, built: BuiltJob | None) -> Use:
    """What a run of sacct's held."""
    times = 1 if built is None else built.times(run.requested)
    return Use.of(run.elapsed, run.nodes, run.cpus, run.tres, run.partition, run.started, times)


def _bill(job: AuditedJob, sent: Iterable[LedgerEntry], accounting: Accounting, late: float) -> Iterable[AuditFinding]:
    """What is not explained by the rest of a unit, which the wallet carries, or by the interval of charges.

    :param late: use of a running job for which no charge may be due yet
    """
    unit = accounting.covered(1) + 1
    if job.used - job.charged > unit + (0.0 if job.ended else late):
        text = f"Slurm counts {job.used} {job.measure}, and {job.charged} of them are billed"
        yield AuditFinding(AuditKind.UNBILLED, job.slurm_id, job.job_id, text)
    if job.charged - job.used > unit:
        text = f"{job.charged} {job.measure} are billed, and Slurm counts {job.used}"
        yield AuditFinding(AuditKind.OVERBILLED, job.slurm_id, job.job_id, text)
    if any(entry.outcome == MessageOutcome.PARKED for entry in sent):
        text = "UCloud refused a charge of it: ucloud-slurm outbox"
        yield AuditFinding(AuditKind.UNDELIVERED, job.slurm_id, job.job_id, text)
