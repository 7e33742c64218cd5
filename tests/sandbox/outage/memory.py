"""What a slurmctld that was killed has forgotten, by its log."""

import re
from dataclasses import dataclass

LINE = re.compile(
    r"_slurm_rpc_submit_batch_job: JobId=(?P<new>\d+) |_job_complete: (?:requeue )?JobId=(?P<ended>\d+) "
    r"|Recovered JobId=(?P<back>\d+) |(?P<up>Recovered information about)"
)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Slurm's numbers of jobs.

    :ivar jobs: submissions that it had acknowledged, and that were not there when it came back; some had ended long before
    :ivar ends: jobs that had ended, and that were there when it came back; some of them without their end
    """

    jobs: frozenset[int]
    ends: frozenset[int]


def forgotten(log: str) -> Forgotten:
    """Reads slurmctld's log, in which every start says what it has recovered."""
    jobs: set[int] = set()
    ends: set[int] = set()
    since: dict[str, set[int]] = {"new": set(), "ended": set(), "back": set()}
    for match in LINE.finditer(log):
        kind = match.lastgroup or ""
        if kind != "up":
            since[kind].add(int(match[kind]))
            continue
        jobs |= since["new"] - since["back"]
        ends |= since["ended"] & since["back"]
        for numbers in since.values():
            numbers.clear()
    return Forgotten(frozenset(jobs), frozenset(ends))
