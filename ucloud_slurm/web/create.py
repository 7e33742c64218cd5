"""jobs.provider.create: validates all jobs, accepts them durably, submits within the deadline, answers."""

import logging
import time
from collections.abc import Collection, Iterable, Mapping, Sequence

from ucloud_slurm.bridge import naming
from ucloud_slurm.bridge.wallets import nothing_left
from ucloud_slurm.errors import (
    Conflict,
    CoreRefusedError,
    CoreUnavailableError,
    PaymentRequired,
    Problem,
    Refused,
    StorageFullError,
)
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.hooks import decide, decided
from ucloud_slurm.provider.identities import Identities, missing_jobs
from ucloud_slurm.provider.lookup import Lookup
from ucloud_slurm.provider.maintenance import check_in_service
from ucloud_slurm.provider.rendering import RenderingUnavailableError
from ucloud_slurm.provider.submission import build, new_job
from ucloud_slurm.slurm.errors import SchedulerUnavailableError
from ucloud_slurm.slurm.records import Submission
from ucloud_slurm.store.database_file import free_bytes
from ucloud_slurm.store.generation import Generation
from ucloud_slurm.store.job_rows import NewJob
from ucloud_slurm.system.deadline import left
from ucloud_slurm.ucloud.channel import Payer
from ucloud_slurm.ucloud.jobs import Job
from ucloud_slurm.users.mapping import Identity, IdentityUnavailableError
from ucloud_slurm.web.acceptance import NotAcceptedError
from ucloud_slurm.web.bulk import Bulk, check_known, roll_back

log = logging.getLogger(__name__)

# The mapping has said whom the job runs as; here it was asked about the owner of a drive.
NOT_NOW = (
    CoreUnavailableError,
    CoreRefusedError,
    IdentityUnavailableError,
    RenderingUnavailableError,
    SchedulerUnavailableError,
)
POLL_SECONDS = 0.02
EARLIER_SECONDS = 60.0  # of age of a job whose create cannot be its first one any more
IDENTITY_SECONDS = 0.5  # at least, though the deadline has passed: without a user no job can be accepted


class Create:
    """One call of create: all of its jobs are accepted, or none."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._deadline = provider.deadline()

    def accept(self, jobs: Sequence[Job]) -> list[str]:
        """Accepts the jobs and submits those that can be submitted in time; the worker submits the others.

        :returns: the provider's id of each job
        :raises Problem: none of them is accepted
        """
        provider, places = self._provider, _places(jobs)
        fingerprints = {job_id: naming.fingerprint(jobs[place]) for job_id, place in places.items()}
        adopt_earlier(provider, jobs, self._deadline)
        known = check_known(provider, fingerprints)
        if len(known) < len(places):
            check_space(provider)
        new, submissions = self._build(
            {place: jobs[place] for job_id, place in places.items() if job_id not in known}, fingerprints, len(jobs) > 1
        )
        written: Collection[str] = ()
        if new:
            try:
                written = Bulk(provider, new, submissions, self._deadline, acknowledge=len(places) == 1).submit()
            except NotAcceptedError as refusal:
                raise _named(refusal.problem, places[refusal.job_id], len(jobs) > 1) from None
        if len(written) < len(places):
            self._wait(places)
        refused = provider.jobs.acknowledge(list(places), provider.now())
        if refused:
            roll_back(provider, list(places), refused[0])
            place = f"items[{places[refused[0].id]}] (job {refused[0].id}): " if len(jobs) > 1 else ""
            raise Problem(place + (refused[0].refused_why or "refused"), status=refused[0].refused_status or 400)
        return [naming.provider_id(job.id) for job in jobs]

    def _build(
        self, jobs: Mapping[int, Job], fingerprints: Mapping[str, str], several: bool
    ) -> tuple[list[NewJob], dict[str, Submission]]:
        """Validates the jobs before anything is written.

        A job about which UCloud would have to be asked although there is no time for it, or whose template cannot be
        rendered yet, is accepted as it is, and built by the worker; what is wrong with it becomes its FAILURE.

        :param jobs: by their place in the request
        :param several: the request has several jobs, so that a refusal names the place
        """
        provider, lookup = self._provider, Lookup(self._provider, self._deadline)
        identities = Identities(provider, max(self._deadline, time.monotonic() + left(IDENTITY_SECONDS)))
        windows = provider.maintenance.on(provider.now())
        built: dict[str, tuple[Job, Identity, Submission | None]] = {}
        for place, job in jobs.items():
            try:
                check_in_service(windows, job.specification.product.category, job.specification.product.id)
                identity = identities.of(job.owner.created_by, job.owner.project)
                check_funds(provider, job)
                built[job.id] = (job, identity, self._submission(lookup, job, identity))
            except Problem as problem:
                raise _named(problem, place, several) from None
        decisions = decide(provider, built)
        new: list[NewJob] = []
        submissions: dict[str, Submission] = {}
        for job_id, (job, identity, asked) in built.items():
            decision = decisions.get(job_id)
            submission = None if asked is None else decided(asked, decision)
            row = new_job(job, fingerprints[job_id], identity.person, provider.now(), submission)
            new.append(row._replace(decision=decision))
            if submission is not None:
                submissions[job_id] = submission
        return new, submissions

    def _submission(self, lookup: Lookup, job: Job, identity: Identity) -> Submission | None:
        """The batch job; None where the worker is to build it."""
        try:
            return build(self._provider, lookup, job, identity)
        except NOT_NOW as error:
            log.warning("job %s: accepted, and built later: %s", job.id, error)
            return None

    def _wait(self, ids: Iterable[str]) -> None:
        """Waits for submissions that another request or the worker has begun."""
        ids = list(ids)
        while time.monotonic() < self._deadline and self._provider.jobs.any_claimed(ids):
            time.sleep(POLL_SECONDS)


def _named(problem: Problem, place: int, several: bool) -> Problem:
    """The answer for a refused job; with its place in the request, if that has several."""
    why = f"items[{place}]: {problem.why}"
    return Refused(why, error_code=problem.error_code, status=problem.status) if several else problem


def adopt_earlier(provider: Provider, jobs: Sequence[Job], deadline: float) -> None:
    """Writes jobs that came before the database was restored or lost: Slurm may have them, and they are looked up there.

    :param deadline: monotonic seconds
    """
    created = provider.now() - EARLIER_SECONDS
    earlier = [job for job in jobs if job.created_at / 1000 < created]
    if earlier and Generation(provider.store).is_behind():
        new = missing_jobs(provider, earlier, deadline)
        with provider.store.writing():
            for job in new.values():
                provider.observations.adopt(job, provider.now())


def _places(jobs: Sequence[Job]) -> dict[str, int]:
    """The first place of each job in a request, by id.

    :raises Conflict: the same id is there twice with different contents
    """
    places: dict[str, int] = {}
    for place, job in enumerate(jobs):
        first = jobs[places.setdefault(job.id, place)]
        if first is not job and naming.fingerprint(first) != naming.fingerprint(job):
            raise Conflict(f"items[{place}].id: {job.id} is there twice with different contents.")
    return places


def check_space(provider: Provider) -> None:
    """Refuses new jobs while the disk of the database is nearly full: what is left is for the jobs that there are.

    :raises StorageFullError: it is
    """
    folder, least = provider.store.path.parent, provider.config.database.minimum_free
    free = free_bytes(folder)
    if free < least:
        why = f"The provider's disk is nearly full: {folder} has {free // 2**20} MiB free, and {least // 2**20} MiB are needed"
        raise StorageFullError(f"{why} to accept jobs. Please try again later.")


def check_funds(provider: Provider, job: Job) -> None:
    """Refuses a job that nobody can pay.

    :raises PaymentRequired: the wallet that would pay is locked
    """
    payer = Payer.of(job.owner.created_by, job.owner.project, job.specification.product.category)
    # What an older database says of wallets refuses nobody.
    if provider.era.has_channel and provider.wallets.locked(payer) and not Generation(provider.store).is_behind():
        raise PaymentRequired(nothing_left(payer))
