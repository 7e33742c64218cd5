"""The answer of the program of job-accepted: it refuses a create, or changes its jobs within bounds."""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

from ucloud_slurm.config import JobChanges, parse_table
from ucloud_slurm.errors import Misconfigured, one_line
from ucloud_slurm.hooks.program import HookFailedError

STATUSES = (400, 402, 403, 404, 409)  # with which a create may be refused
DEFAULT_STATUS = 403
SENTENCE_CHARACTERS = 300


class Decision(NamedTuple):
    """What the site has decided about the jobs of one create.

    :ivar refusal: why none of them is accepted; None: they are
    :ivar status: of the HTTP answer to a refusal
    :ivar changes: by UCloud's id; a job that is not there stays as it is
    """

    refusal: str | None
    status: int
    changes: Mapping[str, JobChanges]


UNCHANGED = Decision(None, DEFAULT_STATUS, {})


def read(output: str, ids: Collection[str]) -> Decision:
    """Reads what the program has printed. Nothing is printed where nothing is refused or changed.

    :param ids: of the jobs that it was asked about
    :raises HookFailedError: it is anything else than a decision about these jobs
    """
    if not output.strip():
        return UNCHANGED
    try:
        answer = json.loads(output)
    except (ValueError, RecursionError):
        raise HookFailedError(f"the program of job-accepted printed no JSON: {one_line(output, 100)}") from None
    if not isinstance(answer, dict) or not answer.keys() <= {"refuse", "status", "jobs"}:
        raise _unknown('should be an object with "refuse" and "status", or with "jobs"')
    if "refuse" in answer:
        return _refusal(answer["refuse"], answer.get("status", DEFAULT_STATUS))
    jobs = answer.get("jobs", {})
    if "status" in answer or not isinstance(jobs, dict) or not jobs.keys() <= {*ids}:
        raise _unknown('"jobs" should be an object with ids of jobs that it was asked about, and "status" is for "refuse"')
    return Decision(None, DEFAULT_STATUS, {job_id: _changes(change) for job_id, change in jobs.items()})


def text(changes: JobChanges | None) -> str | None:
    """The changes of a job as the database keeps them; None: there are none."""
    kept = {} if changes is None else {name: value for name, value in asdict(changes).items() if value is not None}
    return json.dumps(kept) if kept else None


def _refusal(sentence: Any, status: Any) -> Decision:
    if not isinstance(sentence, str) or not sentence.strip():
        raise _unknown('"refuse" should be a sentence for the researcher')
    if isinstance(status, bool) or status not in STATUSES:
        raise _unknown(f'"status" should be one of {", ".join(map(str, STATUSES))}')
    return Decision(one_line(sentence, SENTENCE_CHARACTERS), status, {})


def _changes(change: Any) -> JobChanges:
    try:
        return parse_table(JobChanges, change)
    except Misconfigured as error:
        raise _unknown(one_line("; ".join(error.sentences), 200)) from None


def _unknown(why: str) -> HookFailedError:
    return HookFailedError(f"the answer of the program of job-accepted cannot be used: {why}")
