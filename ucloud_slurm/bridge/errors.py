"""Slurm's refusals as answers to UCloud, in words that a researcher understands."""

import re

from ucloud_slurm.errors import Conflict, Forbidden, Problem, Refused, TooMany, one_line

QUOTED = 400  # characters of Slurm's and the site's own words

_ASK = "please ask the cluster's support"
_TELL = "please tell the provider's support"
# The first match wins. A line of Slurm's counts as a whole (slurm_errno.h, and what slurmctld puts before it): the
# site's own words may contain any of these.
_REFUSALS: tuple[tuple[str, type[Problem], str], ...] = (
    (r"(Assoc|QOS)\w*SubmitJob\w*", TooMany, "You have as many jobs here as the cluster allows; wait until some have ended."),
    (r"Job violates .* policy .*", TooMany, "The cluster's limits on number, size or time of jobs do not allow this one."),
    (r"Invalid qos .*", Refused, f"The account may not run this kind of job (its quality of service); {_ASK}."),
    (r"Requested account has breached .*", Refused, f"The account has used up what it may use of this kind of job; {_ASK}."),
    (r"Invalid account .*", Forbidden, f"The cluster does not know the account for these jobs, or it may not use it; {_ASK}."),
    (r"User's group not permitted .*", Forbidden, f"The account may not use these machines of the cluster; {_ASK}."),
    (r"[Ii]nvalid partition .*", Refused, f"The cluster does not have these machines any more; {_TELL}."),
    (r"(Required|Requested) partition .*|Partition in .*", Refused, "The machines take no such job now; choose others."),
    (r"Memory (specification|required) .*", Refused, "No machine has as much memory as this job asks for; ask for less."),
    (r"Invalid feature .*", Refused, f"No machine has the features that these jobs need; {_TELL}."),
    (r"Invalid (generic resource|GRES) .*", Refused, f"No machine has the GPUs or devices that this job needs; {_TELL}."),
    (r"Requested node.*", Refused, "No machine is large enough for this job; choose a larger one, or ask for less."),
    (r"Node count .*", Refused, "The cluster has not as many machines as this job asks for; ask for fewer."),
    (r"More processors .*|CPU count .*", Refused, "The job asks for more CPUs than it may have; choose a smaller machine."),
    (r"Requested time limit .*|Time limit .*", Refused, "The job may not have this time limit; choose a shorter one."),
    (r"(Access denied to r|R)equested reservation .*", Refused, f"The reservation for these jobs cannot be used; {_ASK}."),
    (r"This does not look .*|(Batch|Job) script .*", Refused, f"The cluster does not accept the job's script; {_TELL}."),
)


def problem(reason: str) -> Problem:
    """The answer to UCloud when Slurm refuses a submission.

    :param reason: the site's and Slurm's own text, lines joined by ``"; "``; it is quoted
    """
    own, lines = one_line(reason, QUOTED), reason.split("; ")
    for pattern, kind, sentence in _REFUSALS:
        if any(re.fullmatch(pattern, line) for line in lines):
            return kind(f"{sentence} (Slurm: {own})")
    return Refused(f"The cluster does not accept this job. (Slurm: {own})")


def action(reason: str) -> Problem:
    """The answer to UCloud when Slurm refuses an action on a job.

    :param reason: Slurm's own text, lines joined by ``"; "``; the last one decides
    """
    own = one_line(reason, QUOTED)
    text = reason.rpartition("; ")[2].lower()
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
