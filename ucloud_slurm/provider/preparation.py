"""The first phase of a submission: Slurm's command loads and the job's folder is made, while the job's row is written."""

from contextlib import suppress
from dataclasses import dataclass

from ucloud_slurm.bridge.naming import SCRIPT_NAME
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.slurm.errors import SchedulerUnavailableError
from ucloud_slurm.slurm.records import Submission
from ucloud_slurm.slurm.scheduler import PendingSubmission
from ucloud_slurm.users.impersonation import ImpersonationDeniedError, ImpersonationUnavailableError
from ucloud_slurm.users.preparation import Preparation


@dataclass(frozen=True, slots=True)
class StartedSubmission:
    """A submission that is not sent yet."""

    pending: PendingSubmission
    preparation: Preparation


def start(provider: Provider, submission: Submission) -> StartedSubmission | None:
    """Starts a submission that is not sent yet: Slurm's command loads meanwhile.

    :returns: None where it cannot be started; :func:`conclude` tries again, and records why
    """
    with suppress(SchedulerUnavailableError, ImpersonationUnavailableError, ImpersonationDeniedError):
        return begin(provider, submission)
    return None


def begin(provider: Provider, submission: Submission) -> StartedSubmission:
    """As :func:`start`.

    :raises SchedulerUnavailableError: Slurm's command cannot be started
    :raises ImpersonationUnavailableError: nobody can act as the user at the moment
    """
    impersonation, within = provider.impersonation(submission.user), provider.config.slurm.timeout
    preparation = impersonation.preparation(submission.folder, {SCRIPT_NAME: submission.script}, within)
    return StartedSubmission(provider.scheduler.start(submission, preparation.start), preparation)


def abandon(started: StartedSubmission | None) -> None:
    """Releases a submission that has been started and is not to be sent."""
    if started is not None:
        started.pending.abandon()
