"""Who the owners of a request's jobs are on the cluster: asked before a transaction, each owner once, until a deadline."""

import secrets
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ucloud_slurm.bridge import naming
from ucloud_slurm.bridge.naming import LocalUser
from ucloud_slurm.errors import Problem
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.store.job_rows import NewJob
from ucloud_slurm.users.mapping import Identity, IdentityUnavailableError

if TYPE_CHECKING:
    from ucloud_slurm.ucloud.jobs import Job

NO_USER = LocalUser("nobody", "/", "")  # no job runs as this user, so that a lookup of a job finds nothing


class Identities:
    """Answers of the mapping, its refusals and failures included, for the time of one request or pass."""

    def __init__(self, provider: Provider, deadline: float) -> None:
        """Asks nothing.

        :param deadline: monotonic seconds
        """
        self._mapping = provider.mapping
        self._deadline = deadline
        self._known: dict[tuple[str, str | None], Identity | Problem] = {}

    def of(self, username: str, project: str | None) -> Identity:
        """See :meth:`ucloud_slurm.users.mapping.Mapping.identity`."""
        owner = username, project
        if owner not in self._known:
            try:
                self._known[owner] = self._mapping.identity(username, project, self._deadline - time.monotonic())
            except Problem as problem:
                self._known[owner] = problem
        known = self._known[owner]
        if isinstance(known, Problem):
            raise known
        return known


def missing_jobs(provider: Provider, jobs: Sequence["Job"], deadline: float) -> dict[str, NewJob]:
    """Rows for those of UCloud's jobs that are not in the database, by id. Nothing is written.

    A job is missing in the answer while the mapping does not say which user it runs as: the next request, or the next
    pass, asks again.

    :param deadline: monotonic seconds
    """
    unknown = [job for job in jobs if provider.jobs.get(job.id) is None]
    if not unknown:
        return {}
    # Building jobs takes long to load, and most passes adopt none.
    from ucloud_slurm.provider.submission import new_job

    identities, now, found = Identities(provider, deadline), provider.now(), {}
    # Owners for whom a program of the site hangs must not be the first each time.
    first = secrets.randbelow(len(unknown))
    for job in (*unknown[first:], *unknown[:first]):
        try:
            user = identities.of(job.owner.created_by, job.owner.project).person
        except IdentityUnavailableError:
            continue
        except Problem:
            user = NO_USER
        found[job.id] = new_job(job, naming.fingerprint(job), user, min(now, job.created_at / 1000))
    return found
