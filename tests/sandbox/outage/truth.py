"""The truth, from Slurm's accounting and the simulated UCloud, and what the service has made of it."""

import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

from tests.sandbox.core import CoreJob
from tests.sandbox.core.era import FINAL
from tests.sandbox.outage.memory import forgotten
from tests.sandbox.outage.plans import Played
from tests.sandbox.outage.rig import CATEGORY, LINKS, PROJECT, Rig

MINUTE = 60
HALF_A_UNIT = 30  # CPU-seconds
FIELDS = "JobIDRaw,Submit,State,ElapsedRaw,AllocCPUS,Start,End,SubmitLine"
REQUEUED = re.compile(r"job (\d+): Slurm job \d+ was requeued after its end")
SUBMITTED = re.compile(r"job (\d+): is Slurm job (\d+)")
OURS = re.compile(r"--comment=ucloud:example:(\d+)(?::\S+)?")
# Written anew from what UCloud's own module does, not taken from the product.
ENDS: Mapping[str, str] = {
    "COMPLETED": "SUCCESS",
    "CANCELLED": "SUCCESS",
    "FAILED": "FAILURE",
    "OUT_OF_MEMORY": "FAILURE",
    "NODE_FAIL": "FAILURE",
    "BOOT_FAIL": "FAILURE",
    "PREEMPTED": "FAILURE",
    "TIMEOUT": "EXPIRED",
    "DEADLINE": "EXPIRED",
}
STATES: Mapping[str, str] = {"SUCCESS": "COMPLETED", "FAILURE": "FAILED", "EXPIRED": "TIMEOUT"}
UNSUBMITTED = ("terminated", "terminated at once")
"""Lives in which UCloud may end a job that Slurm has not had yet."""


@dataclass(frozen=True, slots=True)
class Run:
    """A row of sacct."""

    job_id: str
    number: int
    submitted: str
    state: str
    seconds: int
    cpus: int
    ended: bool

    @property
    def closed(self) -> bool:
        """Whether an administrator has closed it, because slurmctld had lost its end (sacctmgr(1): runawayjobs)."""
        return self.state == "COMPLETED" and self.seconds == 0


@dataclass(slots=True)
class Findings:
    """What is not as it must be, by invariant; all empty where all held."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    wallets: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    failed_creates: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    harm: list[str] = field(default_factory=list)
    service: list[str] = field(default_factory=list)
    not_quiet: list[str] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """How many there are of each."""
        return {each.name: len(getattr(self, each.name)) for each in fields(self)}

    def all(self) -> list[str]:
        """Every one in a sentence."""
        return [f"{each.name}: {sentence}" for each in fields(self) for sentence in getattr(self, each.name)]


def runs(rig: Rig) -> dict[str, list[Run]]:
    """What Slurm's accounting has of jobs that were submitted for UCloud, by UCloud's ids; by the lines that submitted them."""
    printed = rig.cluster.run(
        "sacct", "-X", "-D", "-a", "-n", "-P", "--delimiter=\x1f", "-S", "now-2days", "-o", FIELDS, timeout=120
    )
    found: dict[str, list[Run]] = defaultdict(list)
    for line in printed.splitlines():
        number, submitted, state, seconds, cpus, _, ended, submit_line = line.split("\x1f")
        match = OURS.search(submit_line)
        if match:
            whole = ended not in ("Unknown", "None", "")
            run = Run(match[1], int(number), submitted, state.split()[0], int(seconds or 0), int(cpus or 0), whole)
            found[match[1]].append(run)
    return {job: sorted(each, key=lambda run: run.submitted) for job, each in found.items()}


def ends_by_log(log: str, number: int, *, again: bool) -> set[str]:
    """The ends that a job has had, by slurmctld's log: a killed slurmctld forgets some, and some are overwritten.

    :param again: whether it ran again after an end
    """
    ended = {"SUCCESS"} if f"REQUEST_KILL_JOB JobId={number} " in log else set()
    ended |= {"EXPIRED"} if f"Time limit exhausted for JobId={number}\n" in log else set()
    if again:
        statuses = re.findall(rf"_job_complete: JobId={number} (WEXITSTATUS \d+|WTERMSIG \d+)", log)
        ended |= {"SUCCESS" if status == "WEXITSTATUS 0" else "FAILURE" for status in statuses}
    return ended


def without_second_lives(
    reported_ends: Mapping[str, Sequence[str]], own: Mapping[str, list[Run]], log: str, requeued: Collection[str] = ()
) -> tuple[dict[str, list[Run]], set[str]]:
    """The runs of each job as far as Slurm stood by them.

    A slurmctld that is killed forgets ends that its database has already, and may run a job again, which has a
    further row then; or the row of a cancelled job gets another end. What was reported of the end before was true.

    :param reported_ends: the final states that UCloud has
    :param log: slurmctld's
    :param requeued: jobs that were requeued after their end
    :returns: and the jobs whose record is not what it was, because an end was taken back
    """
    found, changed, ends_forgotten = dict(own), set(), forgotten(log).ends
    for job_id, each in own.items():
        relapsed = each[-1].number in ends_forgotten
        if relapsed or any(run.closed for run in each):
            changed.add(job_id)
        ends = [ENDS.get(run.state) if run.ended else None for run in each]
        reported = reported_ends.get(job_id, [])
        if len(reported) != 1 or not ends or ends[-1] == reported[0]:
            continue
        truly = [end if relapsed or run.state != "NODE_FAIL" else None for end, run in zip(ends, each, strict=True)]
        place = next((place for place, end in enumerate(truly) if end == reported[0]), None)
        if place is not None:
            found[job_id] = each[: place + 1]
        elif reported[0] in ends_by_log(log, each[-1].number, again=relapsed or job_id in requeued):
            found[job_id] = [*each[:-1], replace(each[-1], state=STATES[reported[0]], ended=True)]
        else:
            continue
        changed.add(job_id)
    return found, changed


def examine(rig: Rig, played: Played, left: Sequence[str]) -> Findings:
    """Compares everything, when it has become quiet.

    :param left: what has not become quiet
    """
    findings = Findings(not_quiet=[*left])
    accepted = {job.id: job for job in rig.core.jobs if job.confirmed}
    ends = {job_id: [change.state for change in job.states if change.state in FINAL] for job_id, job in accepted.items()}
    log = (rig.cluster.folder / "log" / "slurmctld.log").read_text(errors="replace")
    own = {job: each for job, each in runs(rig).items() if int(job) >= rig.first_id}
    requeued = set(REQUEUED.findall(rig.site.log.read_text(errors="replace")))
    mine, changed = without_second_lives(ends, own, log, requeued)
    # What slurmctld had sent to the accounting of a job before it was killed may be there, without an end.
    gone = {job for job in _gone(rig, log) if all(run.closed or not run.ended for run in mine.get(job, ()))}
    # A story waits in vain for an end that slurmctld has lost, until an administrator closes the job.
    findings.not_quiet += [what for job, what in played.stuck if not any(run.closed for run in mine.get(job, ()))]
    played.taken_back, played.gone = len(changed), len(gone & set(accepted))
    for job_id, job in accepted.items():
        # Its number may have been given again, and its record with it.
        if job_id not in gone or (ends[job_id] != ["FAILURE"] and job_id in mine):
            _job(findings, played, job, mine.get(job_id, []))
    _failed_creates(findings, mine, {*accepted, *played.forgotten})
    _wallets(findings, rig, mine, played, gone | changed)
    _messages(findings, rig, accepted, {job: each for job, each in mine.items() if job not in changed}, played)
    _foreign(findings, rig, played.imitations)
    findings.harm += [f"UCloud has ended: {rig.core.ended}"] * (rig.core.ended is not None)
    findings.harm += sorted(set(rig.core.protocol_errors))
    findings.service += [f"passes that ended unexpectedly: {dict(rig.passes.ends)}"] * bool(rig.passes.wrong())
    findings.service += _traces(rig.site.log.read_text(errors="replace"))
    return findings


def _gone(rig: Rig, log: str) -> set[str]:
    """Jobs that Slurm had acknowledged, and has forgotten."""
    jobs = forgotten(log).jobs
    return {job for job, number in SUBMITTED.findall(rig.site.log.read_text(errors="replace")) if int(number) in jobs}


def _job(findings: Findings, played: Played, job: CoreJob, own: Sequence[Run]) -> None:
    numbers = sorted({run.number for run in own})
    life = played.jobs.get(job.id, "of a failed story")
    if len(numbers) > 1:
        findings.doubled.append(
            f"job {job.id} ({life}) is {numbers}: {[(run.submitted, run.state, run.seconds) for run in own]}"
        )
    finals = [change.state for change in job.states if change.state in FINAL]
    if not own:
        why = next((update["status"] for update in reversed(job.updates) if update["state"] in FINAL), "")
        if not (life in UNSUBMITTED and finals == ["SUCCESS"]):
            findings.lost.append(f"job {job.id} ({life}) is in no accounting; UCloud has {job.state} ({why})")
        return
    expected = ENDS.get(own[-1].state) if own[-1].ended else None
    if finals != [expected] or job.state != expected:
        said = [(update["state"], update["status"]) for update in job.updates]
        findings.states.append(f"job {job.id} ({life}): Slurm {[run.state for run in own]} {numbers}, UCloud received {said}")


def _failed_creates(findings: Findings, mine: Mapping[str, Sequence[Run]], accepted: set[str]) -> None:
    for job_id, own in mine.items():
        if job_id in accepted:
            continue
        numbers = {run.number for run in own}
        if len(numbers) > 1:
            findings.failed_creates.append(f"job {job_id}, whose create failed, is {sorted(numbers)}")
        if any(not run.ended for run in own):
            findings.failed_creates.append(f"job {job_id}, whose create failed, still runs")


def _wallets(findings: Findings, rig: Rig, mine: Mapping[str, Sequence[Run]], played: Played, unknown: set[str]) -> None:
    """UCloud's use beside Slurm's seconds: a wallet may differ by half a unit.

    :param unknown: jobs of which Slurm has lost what they used; what was reported of each is right to a unit
    """
    reported: dict[str, int] = defaultdict(int)
    for report in rig.core.accounts.reports:
        job_id = (report.scope or "").rpartition("/")[2]
        reported[job_id] = max(reported[job_id], report.usage)
    allowed: dict[str, int] = defaultdict(lambda: HALF_A_UNIT)
    payers = {job.id: job.project or job.owner for job in rig.core.jobs if job.confirmed} | played.payers
    used: dict[str, int] = defaultdict(int)
    for job_id in payers:
        if job_id in unknown:
            used[payers[job_id]] += reported[job_id] * MINUTE
            allowed[payers[job_id]] += MINUTE
        else:
            # Of a run whose end a killed slurmctld has lost, sacct counts on while the job runs again.
            used[payers[job_id]] += sum(run.seconds * run.cpus for run in mine.get(job_id, []) if run.ended)
    for payer in (*LINKS, PROJECT):
        account = (
            rig.core.accounts.get(payer, category=CATEGORY) if payer in LINKS else rig.core.accounts.get("", PROJECT, CATEGORY)
        )
        difference = account.usage * MINUTE - used[payer]
        if abs(difference) > allowed[payer]:
            findings.wallets.append(f"{payer}: UCloud has {account.usage} minutes, Slurm {used[payer] / MINUTE:.2f}")


def _messages(
    findings: Findings, rig: Rig, accepted: Mapping[str, CoreJob], mine: Mapping[str, Sequence[Run]], played: Played
) -> None:
    """Each state that was written, and that a job ran, has arrived, in order; nothing was refused of what UCloud knows.

    :param mine: the runs of the jobs whose record is what it was
    """
    sent: dict[str, list[str]] = defaultdict(list)
    for row in rig.rows("select job_id, body, outcome from outbox where kind = 'update' order by id"):
        state = json.loads(row["body"])["update"].get("state")
        if state:
            sent[row["job_id"]].append(state)
    for job_id, job in accepted.items():
        was = [change.state for change in job.states]
        if _changes(["IN_QUEUE", *sent[job_id]]) != _changes(was) and job_id not in played.refused:
            findings.messages.append(f"job {job_id} ({played.jobs.get(job_id)}): sent {sent[job_id]}, UCloud has {was}")
        if "RUNNING" not in was and job_id not in played.refused and any(run.seconds for run in mine.get(job_id, [])):
            findings.messages.append(f"job {job_id} ({played.jobs.get(job_id)}) ran, and UCloud has {was}")
    for row in rig.rows("select job_id, kind, answer from outbox where outcome = 'parked'"):
        if row["job_id"] in accepted:
            findings.messages.append(f"job {row['job_id']}: a message ({row['kind']}) was refused: {row['answer']}")


def _changes(states: Iterable[str]) -> list[str]:
    found: list[str] = []
    for state in states:
        if not found or found[-1] != state:
            found.append(state)
    return found


def _foreign(findings: Findings, rig: Rig, numbers: Sequence[int]) -> None:
    if not numbers:
        return
    which = ",".join(map(str, numbers))
    for line in rig.cluster.run("sacct", "-X", "-n", "-P", "-o", "JobIDRaw,State,SubmitLine", "-j", which).splitlines():
        number, state, submit_line = line.split("|", 2)
        if "CANCELLED" in state and not OURS.search(submit_line):
            findings.foreign.append(f"Slurm job {number} of somebody else was cancelled")


def _traces(log: str) -> list[str]:
    places = [match.start() for match in re.finditer("Traceback", log)]
    return [" ".join(log[place : place + 1500].split())[-500:] for place in places[:5]]
