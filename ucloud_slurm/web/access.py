"""Authorization: who may act on a job, who may open a shell in it, and updateAcl.

UCloud shows the log and the pages of a job to those who may see them. A shell runs as the job's Unix user: where jobs run
as their researchers, only the owner who is linked with that user may open one.
"""

from collections.abc import Iterable, Sequence

from ucloud_slurm.errors import Forbidden
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.store.job_rows import JobRow
from ucloud_slurm.store.sessions import group, user
from ucloud_slurm.ucloud.jobs import AclEntity, AclUpdate, Job


def update(provider: Provider, items: Sequence[AclUpdate]) -> None:
    """Records who has lost access and who has been given it. Unknown jobs are skipped."""
    now = provider.now()
    with provider.store.writing():
        for item in items:
            if provider.jobs.get(item.resource.id) is None:
                continue
            provider.sessions.remove_access(item.resource.id, _entities(item.deleted), now)
            provider.sessions.give_access(item.resource.id, _entities(entry.entity for entry in item.added))


def check(provider: Provider, row: JobRow, username: str | None, job: Job) -> None:
    """Refuses users without access to a job that runs as its owner's own account.

    Only UCloud knows the members of projects and groups. So UCloud decides about jobs of projects, and about jobs to
    which a group has access.

    :param username: the acting user; None when UCloud calls for itself
    :param job: the job as UCloud sent it, whose permissions name others with access
    :raises Forbidden: the user is not the owner and has not been given access
    """
    if provider.config.users.mapping == "service" or username in (None, row.owner) or row.project is not None:
        return
    others = (entry.entity for entry in job.permissions.others)
    if any(each.type != "user" or each.username == username for each in others):
        return
    if not provider.sessions.given(row.id, user(username)) and not provider.sessions.given_to_a_group(row.id):
        raise Forbidden("This job is somebody else's, and they have not given you access to it.")


def check_shell(provider: Provider, row: JobRow, username: str | None, within: float | None = None) -> None:
    """Refuses a shell to everybody but the user of UCloud whose account the job runs as.

    The owner alone does not decide: an external job has the owner that a rule names, and an owner may have lost the
    connection with the account, or have another one now.

    :param username: the acting user; None when UCloud calls for itself
    :param within: see :meth:`ucloud_slurm.users.mapping.Mapping.identity`
    :raises Forbidden: the shell would run as the account of somebody else
    :raises Problem: the mapping cannot be asked at the moment
    """
    if provider.config.users.mapping == "service":
        return
    if username != row.owner:
        raise Forbidden("Only the person who started the job may open a shell in it: it runs as their account.")
    if provider.mapping.identity(row.owner, row.project, within).person.user != row.local_user:
        raise Forbidden("A shell in this job would run as an account that is not yours.")


def file_account(provider: Provider, row: JobRow) -> str:
    """Whose share of the threads that wait for files a job takes: its user's, or its owner's where all have one user."""
    return f"owner {row.owner}" if row.local_user == provider.account else row.local_user


def check_all(provider: Provider, jobs: Iterable[Job], username: str | None) -> None:
    """Does :func:`check` for all known jobs of a request.

    :raises Forbidden: for the first refused job
    """
    for job in jobs:
        row = provider.jobs.get(job.id)
        if row is not None:
            check(provider, row, username, job)


def _entities(entities: Iterable[AclEntity]) -> list[str]:
    return [user(entity.username) if entity.type == "user" else group(entity.project_id, entity.group) for entity in entities]
