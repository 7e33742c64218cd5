"""Filling a provider's database before anybody opens it: waiting messages, and jobs of before."""

import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

FIRST_ID = 1_000_000_000  # of UCloud's; far from those of jobs that are really made
LENGTH = 1000  # bytes of a job as UCloud sends it, written in hexadecimal

_STATEMENTS = (
    """create temp table ended as
        with recursive counted (n) as (select 1 union all select n + 1 from counted where n < :jobs)
        select n, cast(:first + n as text) as id, cast(:ended_at as integer) - (:jobs - n) as at from counted""",
    """insert into jobs (id, slurm_id, phase, name, local_user, owner, category, product, fingerprint, body,
                         accepted_at, promised_at, confirmed_at, attempted_at, attempts, submitted_at,
                         run_submitted, state, slurm_state, reason, charged, used, time_limit, ended_at)
        select id, n, 'ended', 'ucloud-' || id, 'nobody', 'user', 'example-compute', 'example-compute-1',
               hex(randomblob(32)), '{"id":"' || id || '","rest":"' || hex(zeroblob(:length)) || '"}', at - 3600,
               at - 3600, at - 3600, at - 3600, 1, at - 3600, at - 3600,
               'SUCCESS', 'COMPLETED', 'The job has ended.', 3600, 3600, 60, at
        from ended""",
    """insert into runs (job_id, submitted, started, ended, seconds, nodes, cpus, state, exit_code, signal)
        select id, at - 3600, at - 3600, at, 3600, 1, 1, 'COMPLETED', 0, 0 from ended""",
    """insert into charges (charge_id, job_id, slurm_id, start, end, units, multiplier, created_at, outcome)
        select id || '-0', id, n, 0, 3600, 60, 1, at, 'delivered' from ended""",
    """insert into outbox (job_id, kind, body, created_at, sends, settled_at, outcome, answer)
        select id, 'update', '{"id":"' || id || '","update":{"state":"' || state || '","status":"It is so."}}', at, 1,
               at, 'delivered', ''
        from ended, (select 'RUNNING' as state union all select 'SUCCESS')""",
)


def messages(path: Path, job_ids: Sequence[str], each: int) -> None:
    """Puts updates about jobs into the outbox; the jobs become rows that have ended.

    :param each: messages of each job
    """
    now = time.time()
    with sqlite3.connect(path) as db:
        db.executemany(*_jobs((job_id, now) for job_id in job_ids))
        body = {"update": {"status": "The job waits for free nodes."}}
        db.executemany(
            "insert into outbox (job_id, kind, body, created_at) values (?, 'update', ?, ?)",
            ((job_id, json.dumps({"id": job_id} | body), now) for _ in range(each) for job_id in job_ids),
        )
    db.close()


def finished(path: Path, jobs: int, ended_at: float) -> None:
    """Writes jobs that have ended and of which UCloud knows everything: each with a run, a charge and two messages.

    :param path: a database that nobody has open
    :param ended_at: when the last of them ended, in seconds since the epoch; one ended in each second before
    """
    connection = sqlite3.connect(path, isolation_level=None)
    # Whatever happens to a file that is only measured: it is made anew.
    connection.execute("pragma journal_mode = off")
    connection.execute("pragma synchronous = off")
    connection.execute("pragma cache_size = -200000")
    connection.execute("begin")
    for statement in _STATEMENTS:
        named = {"jobs": jobs, "first": FIRST_ID, "ended_at": ended_at, "length": LENGTH}
        connection.execute(statement, {name: value for name, value in named.items() if f":{name}" in statement})
    connection.execute("commit")
    connection.close()


def _jobs(jobs: Iterator[tuple[str, float]] | Any) -> tuple[str, Iterator[tuple[Any, ...]]]:
    """The statement for jobs that have ended, and its values."""
    body = json.dumps({"specification": {"application": {"name": "bench", "version": "1"}}, "text": "x" * 800})
    columns = (
        "id",
        "slurm_id",
        "phase",
        "name",
        "local_user",
        "owner",
        "category",
        "product",
        "fingerprint",
        "body",
        "accepted_at",
        "promised_at",
        "confirmed_at",
        "state",
        "slurm_state",
        "ended_at",
        "used",
    )
    marks = ", ".join("?" * len(columns))
    values = (
        (
            job_id,
            10_000_000 + number,
            "ended",
            f"ucloud-{job_id}",
            "user",
            "user",
            "example-compute",
            "example-compute-1",
            "x" * 64,
            body,
            at,
            at,
            at,
            "SUCCESS",
            "COMPLETED",
            at,
            60,
        )
        for number, (job_id, at) in enumerate(jobs)
    )
    return f"insert into jobs ({', '.join(columns)}) values ({marks})", values
