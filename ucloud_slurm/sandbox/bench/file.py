"""Filling a provider's database before anybody opens it: waiting messages, and jobs of before."""

import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

AT_ONCE = 10_000


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


def finished(path: Path, number: int) -> None:
    """Puts jobs into the file that have ended, each with the messages about it that were delivered.

    :param number: jobs
    """
    now = time.time()
    with sqlite3.connect(path) as db:
        for first in range(0, number, AT_ONCE):
            names = [f"9{each:09d}" for each in range(first, min(number, first + AT_ONCE))]
            db.executemany(*_jobs((name, now - 86400) for name in names))
            db.executemany(
                "insert into outbox (job_id, kind, body, created_at, sends, settled_at, outcome) "
                "values (?, 'update', ?, ?, 1, ?, 'delivered')",
                ((name, json.dumps({"id": name, "update": {"status": word}}), now, now)
                 for name in names for word in ("The job runs.", "The job has ended.")),
            )  # fmt: skip
    db.close()


def _jobs(jobs: Iterator[tuple[str, float]] | Any) -> tuple[str, Iterator[tuple[Any, ...]]]:
    """The statement for jobs that have ended, and its values."""
    body = json.dumps({"specification": {"application": {"name": "bench", "version": "1"}}, "text": "x" * 800})
    columns = ("id", "slurm_id", "phase", "name", "local_user", "owner", "category", "product", "fingerprint", "body",
               "accepted_at", "promised_at", "answered_at", "confirmed_at", "state", "slurm_state",
               "ended_at", "used")  # fmt: skip
    marks = ", ".join("?" * len(columns))
    values = (
        (job_id, 10_000_000 + number, "ended", f"ucloud-{job_id}", "user", "user", "example-compute",
         "example-compute-1", "x" * 64, body, at, at, at, at, "SUCCESS", "COMPLETED", at, 60)
        for number, (job_id, at) in enumerate(jobs)
    )  # fmt: skip
    return f"insert into jobs ({', '.join(columns)}) values ({marks})", values  # noqa: S608
