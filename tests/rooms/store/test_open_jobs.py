"""What passes read of every open job is what the table has of it."""

from dataclasses import fields

from tests.conftest import Open
from tests.support.factories import accept_live, new_job
from ucloud_slurm.store.job_rows import OpenJob, whole
from ucloud_slurm.store.job_state import JobPhase, Stop


def test_the_part_of_a_row_that_passes_read_is_that_of_the_whole_row(open_provider: Open) -> None:
    provider = open_provider()
    provider.jobs.accept([new_job("1", accepted_at=1.0), new_job("2", accepted_at=2.0, project="p", uid=7)])
    accept_live(provider.jobs, new_job("3", accepted_at=3.0), 9, 5)
    provider.store.change("update jobs set stop = ?, outside = 1, times = 3 where id = '3'", [Stop.TERMINATED])
    found = provider.jobs.open()
    assert [(row.id, row.phase, row.stop, row.external) for row in found] == [
        ("1", JobPhase.ACCEPTED, None, False),
        ("2", JobPhase.ACCEPTED, None, False),
        ("3", JobPhase.LIVE, Stop.TERMINATED, True),
    ]
    rows = whole(provider.store, "order by accepted_at", [])
    names = [field.name for field in fields(OpenJob)]
    assert [[getattr(row, name) for name in names] for row in found] == [[getattr(row, name) for name in names] for row in rows]
    assert [[type(getattr(row, name)) for name in names] for row in found] == [
        [type(getattr(row, name)) for name in names] for row in rows
    ]


def test_no_open_jobs_are_none(open_provider: Open) -> None:
    assert open_provider().jobs.open() == []
