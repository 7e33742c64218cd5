"""The program of the site that may refuse or change new jobs (the event job-accepted)."""

import json
import logging
import uuid
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ucloud_slurm.config import JOB_ACCEPTED, Hook
from ucloud_slurm.errors import Problem, StorageError, one_line
from ucloud_slurm.hooks.client import ask
from ucloud_slurm.hooks.decision import UNCHANGED, Decision, read, text
from ucloud_slurm.hooks.program import HookFailedError
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.slurm.records import Submission
from ucloud_slurm.system.deadline import left
from ucloud_slurm.users.mapping import Identity

if TYPE_CHECKING:
    from ucloud_slurm.ucloud.jobs import Job

log = logging.getLogger(__name__)


class UndecidedError(Problem):
    """The site's program has given no decision about a job, and the site wants none without it."""


def decided(submission: Submission, decision: str | None) -> Submission:
    """The batch job with what the site's program has changed.

    :param decision: as the database keeps it; None: nothing
    """
    return submission if decision is None else submission._replace(**json.loads(decision))


def decide(provider: Provider, jobs: "Mapping[str, tuple[Job, Identity, Submission | None]]") -> dict[str, str]:
    """Asks the site's program about the new jobs of one create, once for all of them.

    :param jobs: by UCloud's id, each with whom it runs as, and its batch job where that is built
    :returns: what was changed of a job, as the database keeps it; a job that is not there stays as it is
    :raises Problem: they are refused, in the words of the site
    :raises UndecidedError: there is no decision, and the hook has ``on_failure = "refuse"``
    """
    hook = provider.config.hook(JOB_ACCEPTED)
    if hook is None or not jobs:
        return {}
    decision = _ask(provider, hook, [_facts(provider, *each) for each in jobs.values()])
    if decision.refusal is not None:
        log.info("%d jobs are refused by the site: %s", len(jobs), decision.refusal)
        raise Problem(decision.refusal, status=decision.status)
    return {job_id: kept for job_id, changes in decision.changes.items() if (kept := text(changes)) is not None}


def _ask(provider: Provider, hook: Hook, facts: list[dict[str, Any]]) -> Decision:
    document = {
        "id": uuid.uuid4().hex,
        "event": JOB_ACCEPTED,
        "at": round(provider.now(), 3),
        "provider": provider.config.provider.id,
        "jobs": facts,
    }
    try:
        output = ask(hook.socket, JOB_ACCEPTED, json.dumps(document), left(hook.seconds))
        return read(output, [each["job"] for each in facts])
    except HookFailedError as error:
        why = one_line(str(error), 300)
    with suppress(StorageError):
        provider.hook_events.undecided(why, provider.now())
    if hook.on_failure == "refuse":
        log.error("%d jobs are refused without a decision: %s", len(facts), why)
        raise UndecidedError("The provider cannot decide about new jobs at the moment. Please try again in a few minutes.")
    log.error("%d jobs are accepted without a decision: %s", len(facts), why)
    return UNCHANGED


def _facts(provider: Provider, job: "Job", identity: Identity, submission: Submission | None) -> dict[str, Any]:
    """What the program gets of a job."""
    reference, seconds = job.specification.product, job.specification.time_allocation.total
    product = provider.config.product(reference.category, reference.id)
    planned = submission or product
    return {
        "job": job.id,
        "name": job.specification.name,
        "owner": job.owner.created_by,
        "project": job.owner.project,
        "user": identity.person.user,
        "uid": identity.person.uid,
        "category": reference.category,
        "product": reference.id,
        "application": job.specification.application.name,
        "version": job.specification.application.version,
        "nodes": job.replicas,
        "minutes": submission.minutes if submission else seconds and -(-seconds // 60),
        "partition": planned and planned.partition,
        "account": identity.account or (planned and planned.account),
        "qos": planned and planned.qos,
    }
