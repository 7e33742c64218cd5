"""Migrations of the table of sessions, since the first release."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite_utils import Database


def m021_targets(db: "Database") -> None:
    """Sessions of further web pages of a job."""
    db.table("sessions").add_column("port", int)  # of such a page; null: the application announces it
