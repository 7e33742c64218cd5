"""Slurm's refusals as answers to UCloud, in words that a researcher understands."""

from ucloud_slurm.errors import Conflict, Forbidden, Problem, Refused, TooMany, one_line

# The first match wins. The text is Slurm's own (slurm_errno.h), in lower case.
_REFUSALS: tuple[tuple[str, type[Problem], str], ...] = (
    ("submitjob", TooMany, "You have as many jobs here as the cluster allows; wait until some have ended."),
    ("job submit limit", TooMany, "The cluster's limits on the number, size or time of jobs do not allow this one."),
    ("qos", Refused, "The cluster does not allow this kind of job (its quality of service) for the account."),
    ("invalid account", Forbidden, "The cluster does not know the account for these jobs, or it may not use it."),
    ("user's group not permitted", Forbidden, "The account may not use these machines of the cluster."),
    ("invalid partition", Refused, "The cluster does not have these machines any more."),
    ("partition", Refused, "The machines take no such job at the moment."),
    ("memory specification", Refused, "No machine has as much memory as this job asks for."),
    ("node configuration", Refused, "No machine is large enough for this job."),
    ("node count", Refused, "The cluster has not as many machines as this job asks for."),
    ("more processors", Refused, "The job asks for more CPUs than it may have."),
    ("time limit", Refused, "The job asks for more time than it may have."),
    ("reservation", Refused, "The reservation for these jobs does not exist or may not be used now."),
    ("feature", Refused, "No machine has the features that these jobs need."),
    ("generic resource", Refused, "No machine has the GPUs or other devices that this job asks for."),
    ("script", Refused, "The cluster does not accept the job's script."),
)


def problem(reason: str) -> Problem:
    """The answer to UCloud when Slurm refuses a submission.

    :param reason: Slurm's own text; it is quoted, so that the provider's support can look it up
    """
    own = one_line(reason, 200)
    for text, kind, sentence in _REFUSALS:
        if text in reason.lower():
            return kind(f"{sentence} (Slurm: {own})")
    return Refused(f"The cluster does not accept this job. (Slurm: {own})")


def action(reason: str) -> Problem:
    """The answer to UCloud when Slurm refuses an action on a job.

    :param reason: Slurm's own text
    """
    own = one_line(reason, 200)
    text = reason.lower()
    if "permission denied" in text or "invalid user" in text:
        return Forbidden(
            "The provider may not do this on the cluster: its account needs the role Operator there. Please tell the "
            f"provider's support. (Slurm: {own})"
        )
    if "finished" in text or "completing or completed" in text or "invalid job id" in text:
        return Refused("The job has ended.")
    if "pending" in text:
        return Conflict(f"The job waits in the queue. (Slurm: {own})")
    return Refused(f"The cluster does not do this to the job. (Slurm: {own})")
