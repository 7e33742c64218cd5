"""External jobs: those submitted outside UCloud are registered there, to be shown and charged (``[[outside]]``)."""

import logging
from collections.abc import Iterable, Mapping, Sequence

from ucloud_slurm.bridge.external_jobs import Registration, registrations
from ucloud_slurm.errors import CoreRefusedError, CoreUnavailableError
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.identity import identity_of
from ucloud_slurm.slurm.records import QueueRecord
from ucloud_slurm.store.job_rows import NewJob, OpenJob
from ucloud_slurm.store.job_state import JobPhase
from ucloud_slurm.ucloud.gate import MAX_ITEMS, NamedProject, NamedUser
from ucloud_slurm.ucloud.jobs import Job
from ucloud_slurm.ucloud.wire import from_data

log = logging.getLogger(__name__)

CONFLICT = 409
Owner = tuple[NamedUser | None, NamedProject | None]
Names = tuple[str | None, str | None]  # of an owner and a project


def register_external_jobs(provider: Provider, queue: Sequence[QueueRecord]) -> bool:
    """Registers the jobs in the queue that are new and that a rule covers.

    Registration is idempotent by our key: a job whose row could not be written is registered once all the same.

    :returns: False when UCloud could not be reached
    """
    found = registrations(queue, provider.config, _Persons(provider).of)
    owners = _named(provider, {(each.created_by, each.rule.project) for each in found})
    wanted = [each for each in found if (each.created_by, each.rule.project) in owners]
    # In this order: what is submitted meanwhile is known.
    awaited = provider.observations.awaited() if wanted else set()
    known = provider.observations.by_slurm_id([each.record.id for each in wanted])
    new = [
        each
        for each in wanted
        if not any(_is_of(row, each.record) for row in known.get(each.record.id, []))
        # The Slurm job of a submission that is under way, or whose outcome is unknown, is not from outside.
        and (each.record.name, each.record.uid) not in awaited
    ]
    for start in range(0, len(new), MAX_ITEMS):
        some = new[start : start + MAX_ITEMS]
        try:
            _write(provider, _register(provider, some, owners))
        except CoreUnavailableError as error:
            left = len(new) - start
            log.log(error.severity, "%d jobs from outside UCloud could not be registered yet: %s", left, error)
            return False
        except CoreRefusedError as error:
            log.error("UCloud does not register jobs from outside (see [[outside]]): %s", error)
            return True
    return True


def _is_of(row: OpenJob, record: QueueRecord) -> bool:
    identity = identity_of(row)
    if identity is None or not identity.is_of(record):
        return False
    # A job that is requeued after its end is another one for UCloud.
    return row.phase is JobPhase.LIVE or record.submitted <= (identity.run_submitted or 0)


class _Persons:
    """Who the Unix users of jobs are at UCloud. Each is looked up once in a pass."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._known: dict[tuple[str, int | None], str | None] = {}

    def of(self, user: str, uid: int | None) -> str | None:
        """The user of UCloud; None where nobody, or several, are connected with the account, or UCloud has not named them."""
        if (user, uid) not in self._known:
            self._known[user, uid] = self._look_up(user, uid)
        return self._known[user, uid]

    def _look_up(self, user: str, uid: int | None) -> str | None:
        links = self._provider.people.with_account(user, uid) if uid is not None else []
        if len(links) != 1:
            return None
        name = links[0].username
        is_named = not self._provider.era.has_channel or self._provider.wallets.named_user(name) is not None
        return name if is_named else None


def _named(provider: Provider, owners: Iterable[Names]) -> dict[Names, Owner]:
    """Those owners and projects of which UCloud has named both; the others must wait.

    A UCloud without a channel names nobody, and refuses a job of an unknown user; the configuration counts there.
    """
    found: dict[Names, Owner] = {}
    for username, project in owners:
        if not provider.era.has_channel:
            owner = NamedUser(username) if username else None, NamedProject(project) if project else None
        else:
            owner = (
                provider.wallets.named_user(username) if username else None,
                provider.wallets.named_project(project) if project else None,
            )
        if (username is None or owner[0] is not None) and (not project or owner[1] is not None):
            found[username, project] = owner
    return found


def _register(provider: Provider, some: Sequence[Registration], owners: Mapping[Names, Owner]) -> dict[str, Registration]:
    """Registers jobs; returns them by UCloud's ids. Some Cores refuse a bulk if they know one of its jobs already."""
    name = provider.config.provider.id
    try:
        ids = provider.core.register([each.named(*owners[each.created_by, each.rule.project], name) for each in some])
    except CoreRefusedError as error:
        if error.status != CONFLICT:
            raise
        if len(some) == 1:
            known = provider.core.registered(some[0].key)
            return {known: some[0]} if known is not None else {}
        middle = len(some) // 2
        return _register(provider, some[:middle], owners) | _register(provider, some[middle:], owners)
    return dict(zip(ids, some, strict=True))


def _write(provider: Provider, registered: dict[str, Registration]) -> None:
    now = provider.now()
    new = [(_new_job(id_, each, provider.config.provider.id, now), each.record) for id_, each in registered.items()]
    with provider.store.writing():
        begun = [each for each in new if provider.observations.register(each[0], each[1].id, each[1].submitted, now)]
    for job, record in begun:
        log.info("job %s: is Slurm job %d, from outside UCloud", job.id, record.id)


def _new_job(job_id: str, each: Registration, provider_id: str, now: float) -> NewJob:
    record, rule = each.record, each.rule
    owner = {"createdBy": each.owner, "project": rule.project}
    job = from_data(Job, {"id": job_id, "owner": owner, "specification": each.specification(provider_id)})
    return NewJob(
        id=job_id,
        name=record.name,
        local_user=record.user,
        uid=record.uid,
        owner=each.owner,
        project=rule.project,
        category=rule.category,
        product=rule.product,
        fingerprint=each.key,
        body=job.model_dump_json(by_alias=True),
        accepted_at=now,
    )
