"""Maintenance windows, and counting open jobs. See :mod:`ucloud_slurm.store.migrations`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite_utils import Database


def m017_maintenance(db: "Database") -> None:
    """When which machines accept no new jobs; and how many jobs of a person or project have not ended."""
    db.create_table(
        "maintenance",
        {
            "id": int,
            "category": str,  # of the product; empty, as product: all products
            "product": str,
            "message": str,
            "until": float,  # it is over by itself then; null: when somebody ends it
            "begun_at": float,
            "begun_by": str,
            "ended_at": float,  # somebody has ended or replaced it
            "ended_by": str,
        },
        pk="id",
        not_null={"category", "product", "message", "begun_at", "begun_by"},
    )
    db.execute("create unique index maintenance_open on maintenance (category, product) where ended_at is null")
    counted = "phase in ('accepted', 'submitting', 'live') and outside = 0 and stop is not 'rolled-back'"
    db.execute(f"create index jobs_of_owner on jobs (owner, category, product) where {counted}")
    db.execute(f"create index jobs_of_project on jobs (project, category, product) where {counted}")
