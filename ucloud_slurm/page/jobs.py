"""Jobs: the list with its filters, one job's life, its script, and its bill beside Slurm's accounting."""

import json
from contextlib import suppress
from typing import NamedTuple

from flask import Blueprint, render_template, request
from markupsafe import Markup, escape

from ucloud_slurm.bridge.naming import SCRIPT_NAME
from ucloud_slurm.errors import NotFound, Refused, one_line
from ucloud_slurm.page.shown import key, searched
from ucloud_slurm.page.timeline import timeline
from ucloud_slurm.provider.audit import audit_job
from ucloud_slurm.provider.billing import accounting_of
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.lookup import Lookup
from ucloud_slurm.store.browsing import REFUSED, Browsing, JobFilter
from ucloud_slurm.store.job_rows import JobRow
from ucloud_slurm.system.files import read_small
from ucloud_slurm.ucloud.reports import JobState

STATES = (*JobState, REFUSED)
SCRIPT_BYTES = 256 * 1024  # of a script that are shown


class Asked(NamedTuple):
    """What UCloud asked for: nothing that a user has typed into a form."""

    application: str | None = None
    replicas: int | None = None
    hours: float | None = None

    @classmethod
    def read(cls, body: str) -> "Asked":
        """Of the job as UCloud sent it; of one that cannot be read nothing is known."""
        with suppress(ValueError, TypeError, AttributeError):
            wanted = json.loads(body).get("specification") or {}
            application, time = wanted.get("application") or {}, wanted.get("timeAllocation")
            name = " ".join(str(application[part]) for part in ("name", "version") if application.get(part))
            hours = time and time.get("hours", 0) + time.get("minutes", 0) / 60 + time.get("seconds", 0) / 3600
            return cls(name or None, wanted.get("replicas"), hours)
        return cls()


def blueprint(provider: Provider) -> Blueprint:
    """``/jobs`` and everything below it."""
    place = Blueprint("jobs", __name__, url_prefix="/jobs")

    @place.get("")
    def listed() -> str:
        wanted = JobFilter(**{name: searched(name) for name in JobFilter._fields})
        if wanted.state is not None and wanted.state not in STATES:
            raise Refused(f"state: should be one of {', '.join(STATES)}.")
        listing = Browsing(provider.store).jobs(wanted, key("before"))
        products = sorted({product.id for product in provider.config.products})
        return render_template(
            "jobs.html", wanted=wanted, listing=listing, states=STATES, products=products, before=request.args.get("before")
        )

    @place.get("/<job_id>")
    def one(job_id: str) -> str:
        row = _row(provider, job_id)
        runs, charges = provider.charges.runs(row.id), provider.charges.of(row.id)
        messages, sessions = provider.outbox.of(row.id), Browsing(provider.store).sessions(row.id)
        accounting = accounting_of(provider, Lookup(provider), row, ask=False)
        return render_template(
            "job.html",
            row=row,
            asked=Asked.read(row.body),
            runs=runs,
            events=timeline(row, runs, messages, charges, sessions),
            accounting=accounting,
            units=sum(charge.units * charge.multiplier for charge in charges),
        )

    @place.get("/<job_id>/script")
    def script(job_id: str) -> str:
        row = _row(provider, job_id)
        path = f"{provider.job_paths(row).folder}/{SCRIPT_NAME}"
        text = read_small(lambda: provider.impersonation(row.local_user).open(path), SCRIPT_BYTES)
        lines = None if text is None else [one_line_of_script(line) for line in text.decode(errors="replace").split("\n")]
        return render_template(
            "script.html", row=row, path=path, lines=lines, cut=text is not None and len(text) == SCRIPT_BYTES
        )

    @place.get("/<job_id>/audit")
    def audit(job_id: str) -> str:
        row = _row(provider, job_id)
        found = audit_job(provider, row)
        audited = [job._asdict() for job in found.jobs]
        return render_template("audit.html", row=row, jobs=audited, findings=found.findings)

    return place


def one_line_of_script(line: str) -> Markup:
    """A line of a script as text: tabs stay, other characters that cannot be seen are replaced."""
    return escape("".join(each if each.isprintable() or each == "\t" else "\N{REPLACEMENT CHARACTER}" for each in line))


def _row(provider: Provider, job_id: str) -> JobRow:
    row = provider.jobs.get(job_id)
    if row is None:
        raise NotFound(f"There is no job {one_line(job_id, 60)}; it may have been deleted after database.keep.")
    return row
