"""Who may do something with a job, and updateAcl: what is given to and taken from users and groups.

The files of a job are its user's own; UCloud shows its log and its pages to those who may see them. A shell is
the user's own account, so that it is opened for nobody else.
"""

from collections.abc import Iterable, Sequence

from ucloud_slurm.errors import Forbidden
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.store.job_rows import JobRow
from ucloud_slurm.store.sessions import group, user
from ucloud_slurm.ucloud.jobs import AclEntity, AclUpdate, Job


def update(provider: Provider, items: Sequence[AclUpdate]) -> None:
    """Writes down who has lost access and who has it again. Jobs that are not known here are passed over."""
    now = provider.now()
    with provider.store.writing():
        for item in items:
            if provider.jobs.get(item.resource.id) is None:
                continue
            provider.sessions.remove_access(item.resource.id, _entities(item.deleted), now)
            provider.sessions.give_access(item.resource.id, _entities(entry.entity for entry in item.added))


def check(provider: Provider, row: JobRow, username: str | None, job: Job) -> None:
    """Refuses whoever has nothing to do with a job that runs as its owner's own account.

    Who is in a project or a group only UCloud knows, so that it decides about the jobs of projects, and about those
    that a group was given access to.

    :param username: for whom UCloud calls; None when it calls for itself
    :param job: the job as UCloud sent it, which may say who else has access
    :raises Forbidden: for everybody but the owner, and those who may have been given access
    """
    if provider.config.users.mapping == "service" or username in (None, row.owner) or row.project is not None:
        return
    others = (entry.entity for entry in job.permissions.others)
    if any(each.type != "user" or each.username == username for each in others):
        return
    if not provider.sessions.given(row.id, user(username)) and not provider.sessions.given_to_a_group(row.id):
        raise Forbidden("This job is somebody else's, and they have not given you access to it.")


def check_shell(provider: Provider, row: JobRow, username: str | None) -> None:
    """Refuses a shell to everybody but the person whose account the job runs as.

    The owner of a job from outside UCloud is whom a rule names, and somebody who is not connected any more, or with
    another account, has no business in that one either.

    :param username: for whom UCloud calls; a call for nobody gets no shell
    :raises Forbidden: see there
    :raises Problem: it cannot be told at the moment who the owner is
    """
    if provider.config.users.mapping == "service":
        return
    if username != row.owner:
        raise Forbidden("Only the person who started the job may open a shell in it: it runs as their account.")
    if provider.mapping.identity(row.owner, row.project).person.user != row.local_user:
        raise Forbidden("A shell in this job would run as an account that is not yours.")


def check_all(provider: Provider, jobs: Iterable[Job], username: str | None) -> None:
    """Does :func:`check` for all jobs of a request that are known.

    :raises Forbidden: for the first that it is refused for; nothing has been done
    """
    for job in jobs:
        row = provider.jobs.get(job.id)
        if row is not None:
            check(provider, row, username, job)


def _entities(entities: Iterable[AclEntity]) -> list[str]:
    return [
        user(entity.username) if entity.type == "user" else group(entity.project_id, entity.group)
        for entity in entities
    ]
