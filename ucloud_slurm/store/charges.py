"""The tables charges, runs and remainders: what was charged or reported of each job, and what it is calculated from."""

import json
from collections.abc import Sequence
from typing import NamedTuple

from ucloud_slurm.store.outbox import Outbox
from ucloud_slurm.store.sqlite import Store
from ucloud_slurm.ucloud.channel import Payer
from ucloud_slurm.ucloud.reports import Charge, Usage


class EndedRun(NamedTuple):
    """A run of a job that has ended: a job that is requeued has several. Times are seconds since the epoch.

    :ivar seconds: that it ran, without suspension, as Slurm counts
    :ivar state: in Slurm's word
    :ivar times: what was bought was requested so many times
    :ivar tres: what was allocated, as Slurm prints it; None in rows of earlier releases
    """

    job_id: str
    submitted: int
    started: int | None
    ended: int | None
    seconds: int
    nodes: int
    cpus: int
    state: str
    exit_code: int
    signal: int
    partition: str | None = None
    account: str | None = None
    name: str | None = None
    tres: str | None = None
    times: int = 1


class LedgerEntry(NamedTuple):
    """A charge or a report of usage, as it was written.

    :ivar start: of the node-seconds or CPU-seconds of the job that it covers
    :ivar end: of these
    :ivar outcome: as in the outbox; None while it waits
    """

    charge_id: str
    job_id: str
    slurm_id: int
    start: int
    end: int
    units: int
    multiplier: int
    created_at: float
    outcome: str | None


class RestKey(NamedTuple):
    """What shares the rest of a unit: jobs whose units are alike and that one wallet pays.

    :ivar product: empty where all products of the category count in the same unit
    :ivar unit: parts of a unit, which are its seconds
    """

    payer: Payer
    product: str
    unit: int

    @property
    def columns(self) -> list[str | int]:
        """The key of the table."""
        return [self.payer.kind, self.payer.owner, self.payer.category, self.product, self.unit]


class Charges:
    """Charges and runs of jobs. A charge is enqueued in the transaction that writes it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._outbox = Outbox(store)

    def of(self, job_id: str) -> list[LedgerEntry]:
        """The charges of a job, oldest first."""
        rows = self._store.rows("select * from charges where job_id = ? order by start", [job_id])
        return [LedgerEntry(**row) for row in rows]

    def add(self, charge: Charge, slurm_id: int, covered: int, now: float, usage: Usage | None = None, sends: int = 0) -> None:
        """Writes a charge into the ledger and the outbox, and adds what it covers to the job's ``charged``.

        :param covered: node-seconds or CPU-seconds
        :param usage: the report that is sent instead of the charge; it replaces one that still waits
        :param sends: 1 where UCloud may have booked it before
        """
        with self._store.writing() as db:
            row = self._store.row("select charged from jobs where id = ?", [charge.job_id])
            start = row["charged"] if row else 0
            covers = (start, start + covered)
            entry = LedgerEntry(charge.charge_id, charge.job_id, slurm_id, *covers, charge.units, charge.multiplier, now, None)
            db.table("charges").insert(entry._asdict())
            self._store.change("update jobs set charged = charged + ? where id = ?", [covered, charge.job_id])
            if usage is not None:
                # An earlier report never follows this one.
                self._store.change(
                    "update outbox set repeat_at = null where job_id = ? and repeat_at is not null", [charge.job_id]
                )
            if usage is None:
                self._store.change("update jobs set by_periods = by_periods + ? where id = ?", [covered, charge.job_id])
                self._outbox.enqueue(charge.job_id, "charge", charge.body(), now, sends)
            elif not self._store.change(
                "update outbox set body = ? where job_id = ? and kind = 'usage' and outcome is null",
                [json.dumps(usage.body()), charge.job_id],
            ):
                self._outbox.enqueue(charge.job_id, "usage", usage.body(), now)

    def may_end(self, job_id: str, *, confirmed: bool) -> bool:
        """Whether a job has no last charge yet and may get one: it has not ended, and UCloud has it.

        :param confirmed: only where UCloud has confirmed that
        """
        sql = "select 1 from jobs where id = ? and phase = 'live' and stop is not 'rolled-back' "
        return self._store.row(sql + "and (confirmed_at is not null or not ?)", [job_id, confirmed]) is not None

    def may_be_booked(self, job_id: str) -> bool:
        """Whether a job was charged from a database that is lost: it was looked up, and has had no charge since."""
        return self._store.row("select 1 from jobs where id = ? and found_only and charged = 0", [job_id]) is not None

    def rest(self, wallet: RestKey) -> int:
        """The rest of a unit that a wallet has, in parts of the unit; below 0 where it was charged more than it used."""
        sql = "select rest from remainders where (owner_kind, owner, category, product, unit) = (?, ?, ?, ?, ?)"
        row = self._store.row(sql, wallet.columns)
        return int(row["rest"]) if row else 0

    def carry(self, wallet: RestKey, rest: int) -> None:
        """Writes the rest of a unit that a wallet has. Called in the transaction that records the end of a job."""
        self._store.change(
            "insert into remainders (owner_kind, owner, category, product, unit, rest) values (?, ?, ?, ?, ?, ?) "
            "on conflict (owner_kind, owner, category, product, unit) do update set rest = excluded.rest",
            [*wallet.columns, rest],
        )

    def runs(self, job_id: str) -> list[EndedRun]:
        """The runs of a job that have ended, oldest first."""
        rows = self._store.rows("select * from runs where job_id = ? order by submitted", [job_id])
        return [EndedRun(**row) for row in rows]

    def record_runs(self, runs: Sequence[EndedRun]) -> None:
        """Writes runs that have ended; a later record of a run replaces the earlier one."""
        with self._store.writing() as db:
            db.table("runs").upsert_all([run._asdict() for run in runs], pk=("job_id", "submitted"))
            for job_id in {run.job_id for run in runs}:
                ((number,),) = self._store.tuples("select count(*) from runs where job_id = ?", [job_id])
                self._store.change("update jobs set ended_runs = ? where id = ?", [number, job_id])
