"""A model of Slurm for tests that need it to do on demand what a real one does by chance.

It is a `slurm.scheduler.Scheduler`, and can be down, lose answers, forget jobs and use ids again.
"""

import pwd
import zlib
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from tests.support import foreign
from ucloud_slurm.slurm.errors import ActionRefusedError, OutcomeUnknownError, SchedulerUnavailableError, SubmissionRefusedError
from ucloud_slurm.slurm.records import (
    Candidate,
    Load,
    Node,
    NodeGroup,
    Partition,
    QueueRecord,
    RunFilter,
    RunRecord,
    SlurmJobId,
    Submission,
    TerminalCommand,
)
from ucloud_slurm.slurm.sbatch import options
from ucloud_slurm.slurm.states import Phase, SlurmState
from ucloud_slurm.system.process import Start

# What the real commands say, as their errors are shortened.
CONTROLLER_AWAY = "squeue ended with 1: slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
ACCOUNTING_AWAY = (
    "sacct ended with 1: sacct: error: slurm_persist_conn_open_without_init: failed to open per"
    "sistent connection to host:head1:6819: Connection refused sacct: error: Sending PersistIni"
    "t msg: Connection refused sacct: error:…"
)


def uid_of(user: str) -> int:
    """The uid of a user, who need not have an account on this machine."""
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return 60_000 + zlib.crc32(user.encode()) % 5_000


def tres_of(nodes: int, cpus: int, gpus: int = 0) -> str:
    """TRES as Slurm prints them."""
    return f"cpu={cpus},mem={100 * cpus}M,node={nodes},billing={cpus}" + (f",gres/gpu={gpus}" if gpus else "")


@dataclass
class ModelJob:
    """A job of the model: its runs, the last of which is the present one."""

    submission: Submission
    user: str
    runs: list[RunRecord]
    in_queue: bool = True
    in_accounting: bool = True
    minutes: int | None = None
    changed_comment: str | None = None
    held: str | None = None  # the reason that squeue shows

    @property
    def comment(self) -> str:
        return self.changed_comment if self.changed_comment is not None else self.submission.comment

    @property
    def partition(self) -> str:
        return self.run.partition

    @property
    def run(self) -> RunRecord:
        return self.runs[-1]


@dataclass
class ModelSubmission:
    """A submission that is not sent yet."""

    model: "Model"
    submission: Submission

    def send(self, within: float) -> SlurmJobId:
        return self.model.submit(self.submission, within)

    def abandon(self) -> None:
        self.model.counts["abandoned"] += 1


class Commands(Counter[str]):
    """How often each of Slurm's commands was run. None of them is run in a write transaction of the database."""

    def __setitem__(self, command: str, times: int) -> None:
        foreign.refuse(command)
        super().__setitem__(command, times)


@dataclass
class Model:
    """A cluster whose time is the test's."""

    now: Callable[[], float]
    user: str = "nobody"
    jobs: list[ModelJob] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Commands)
    controller: bool = True
    accounting: bool = True
    backlog: int = 0  # records that wait for the accounting
    lose_answers: int = 0  # so many submissions land without an answer
    drop_requests: int = 0  # so many submissions have no answer and never land
    refuse: str | None = None
    next_id: int = 100
    cancels_reach: bool = True
    operator: bool = True
    of_user: tuple[str, ...] = ()  # accounts
    gres: str = ""  # of each node
    cluster: str | None = "model"
    submit_lines: bool = True  # Slurm 21.08 and newer
    terminal_command: tuple[str, ...] = ("/bin/cat",)

    # -- the Scheduler --------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Nothing is kept ready."""

    def close(self) -> None:
        """Nothing is kept."""

    def start(self, submission: Submission, as_user: Start) -> "ModelSubmission":
        return ModelSubmission(self, submission)

    def submit(self, submission: Submission, within: float) -> SlurmJobId:
        self.counts["sbatch"] += 1
        if not self.controller:
            raise OutcomeUnknownError("Unable to contact slurm controller")
        if self.refuse:
            raise SubmissionRefusedError(self.refuse)
        if self.drop_requests:
            self.drop_requests -= 1
            raise OutcomeUnknownError("Socket timed out")
        job = self.add(submission, submission.user)
        if self.lose_answers:
            self.lose_answers -= 1
            raise OutcomeUnknownError("Socket timed out")
        return job.run.id

    def queue(self, uids: Collection[int] | None) -> list[QueueRecord]:
        self.counts["squeue"] += 1
        self._ask(self.controller)
        return [self._listed(job) for job in self.jobs if job.in_queue and (uids is None or uid_of(job.user) in uids)]

    def queue_named(self, names: Collection[str] | None) -> list[Candidate]:
        self.counts["squeue"] += 1
        self._ask(self.controller)
        return [
            Candidate(
                id=job.run.id,
                name=job.run.name,
                uid=uid_of(job.user),
                submitted=job.run.submitted,
                comment=job.comment,
                partition=job.partition,
                account="proj-a",
                nodes=job.run.nodes,
                cpus=job.run.cpus,
                folder=job.submission.folder,
            )
            for job in self.jobs
            if job.in_queue and (names is None or job.run.name in names)
        ]

    def job(self, job: SlurmJobId, within: float) -> QueueRecord | None:
        self.counts["squeue"] += 1
        self._ask(self.controller)
        return next((self._listed(found) for found in self.jobs if found.in_queue and found.run.id == job), None)

    def some(self, jobs: Collection[SlurmJobId], within: float) -> dict[SlurmJobId, QueueRecord]:
        self.counts["squeue"] += 1
        self._ask(self.controller)
        return {found.run.id: self._listed(found) for found in self.jobs if found.in_queue and found.run.id in jobs}

    def runs(self, ids: Collection[SlurmJobId]) -> list[RunRecord]:
        if not ids:
            return []
        self.counts["sacct"] += -(-len(ids) // 1000)
        self._ask_accounting()
        return [self._run(run) for job in self.jobs if job.in_accounting for run in job.runs if run.id in ids]

    def runs_since(self, since: float, which: RunFilter) -> list[RunRecord]:
        self.counts["sacct"] += 1
        self._ask_accounting()
        return [
            self._run(run)._replace(submit_line=" ".join(["sbatch", *options(job.submission)]) if self.submit_lines else "")
            for job in self.jobs
            if job.in_accounting and (which.uids is None or uid_of(job.user) in which.uids)
            for run in job.runs
            if (which.names is None or run.name in which.names)
            and (which.partitions is None or run.partition in which.partitions)
            and (run.ended is None or run.ended >= since)
        ]

    def cancel(self, jobs: Collection[SlurmJobId], within: float) -> dict[SlurmJobId, ActionRefusedError]:
        self.counts["scancel"] += 1
        self._ask(self.controller)
        for found in self.jobs:
            if found.run.id in jobs and found.in_queue and self.cancels_reach:
                self.end(found, SlurmState.CANCELLED)
        return {}

    def changing(self) -> AbstractContextManager["Model"]:
        return nullcontext(self)

    def accounting_backlog(self, within: float) -> int:
        self.counts["sdiag"] += 1
        self._ask(self.controller)
        return self.backlog

    def ping(self, within: float) -> None:
        self.counts["ping"] += 1
        self._ask(self.controller)

    def partitions(self, within: float) -> list[Partition]:
        self.counts["sinfo"] += 1
        self._ask(self.controller)
        return [Partition("cpu", up=True, minutes=600, nodes_max=None, groups=(NodeGroup(4, 16, 8000, self.gres),))]

    def nodes(self, node_list: str, within: float) -> list[Node]:
        self._ask(self.controller)
        return [Node(name, "127.0.0.1") for name in node_list.split(",")]

    def load(self, partitions: Collection[str], within: float) -> Load:
        self.counts["sinfo"] += 1
        self._ask(self.controller)
        running = sum(job.run.state is SlurmState.RUNNING for job in self.jobs)
        pending = sum(job.run.state is SlurmState.PENDING for job in self.jobs)
        return Load(64, running, 32000, 0, running, pending)

    def accounts(self, user: str, within: float) -> list[str]:
        self.counts["sacctmgr"] += 1
        self._ask_accounting()
        return list(self.of_user)

    def is_operator(self, user: str, within: float) -> bool:
        self.counts["sacctmgr"] += 1
        self._ask_accounting()
        return self.operator

    def set_time_limit(self, job: SlurmJobId, minutes: int, within: float) -> None:
        self.counts["scontrol"] += 1
        self._found(job).minutes = minutes

    def suspend(self, job: SlurmJobId, within: float) -> None:
        self._switch(job, SlurmState.RUNNING, SlurmState.SUSPENDED)

    def resume(self, job: SlurmJobId, within: float) -> None:
        self._switch(job, SlurmState.SUSPENDED, SlurmState.RUNNING)

    def hold(self, job: SlurmJobId, within: float) -> None:
        self.counts["hold"] += 1
        found = self._found(job)
        if found.run.state is not SlurmState.PENDING:
            raise ActionRefusedError("Job is no longer pending execution")
        found.held = "JobHeldAdmin"

    def release(self, job: SlurmJobId, within: float) -> None:
        self.counts["release"] += 1
        self._found(job).held = None

    def terminal(self, job: SlurmJobId, rank: int, folder: str, shell: str) -> TerminalCommand:
        return TerminalCommand(self.terminal_command, (("PATH", "/usr/bin:/bin"), ("TERM", "xterm")))

    def _switch(self, job: SlurmJobId, before: SlurmState, after: SlurmState) -> None:
        self.counts["scontrol"] += 1
        found = self._found(job)
        if found.run.state is not before:
            raise ActionRefusedError(f"Job is not {before.name.lower()}")
        found.runs[-1] = found.run._replace(state=after, state_text=after.name)

    def _found(self, job: SlurmJobId) -> ModelJob:
        self._ask(self.controller)
        if not self.operator:
            raise ActionRefusedError("Access/permission denied")
        found = next((each for each in self.jobs if each.in_queue and each.run.id == job), None)
        if found is None:
            raise ActionRefusedError("Invalid job id specified")
        return found

    def version(self) -> str:
        return "22.05.8"

    # -- what happens on the cluster ------------------------------------------------------------------------

    def of(self, job_id: str) -> list[ModelJob]:
        """All Slurm jobs that were made for a UCloud job."""
        return [job for job in self.jobs if job_id in job.submission.comment.split(":")]

    def begin_run(self, job: ModelJob) -> None:
        if job.run.state is SlurmState.PENDING and job.held is None:
            job.runs[-1] = job.run._replace(state=SlurmState.RUNNING, state_text="RUNNING", started=self._now())

    def end(self, job: ModelJob, state: SlurmState = SlurmState.COMPLETED, exit_code: int = 0) -> None:
        if job.run.state is None or job.run.state.phase is Phase.ENDED:
            return
        started = job.run.started
        job.runs[-1] = job.run._replace(
            state=state,
            state_text=state.name,
            ended=self._now(),
            exit_code=exit_code,
            elapsed=self._now() - started if started is not None else 0,
        )

    def requeue(self, job: ModelJob, state: SlurmState = SlurmState.REQUEUED) -> None:
        if job.run.state is not SlurmState.RUNNING:
            return
        self.end(job, state)
        job.runs.append(self._new_run(job.submission, job.user, job.run.id, max(self._now(), job.run.submitted + 1)))

    def change(self, job: ModelJob, comment: str | None = None, gpus: int = 0, cpus: int | None = None, **more: Any) -> None:
        """``scontrol update`` of a job that waits (all fields) or runs (its name, comment and account)."""
        if job.run.state is None or job.run.state.phase is Phase.ENDED:
            return
        if cpus is not None and job.run.state is SlurmState.PENDING:
            tres = tres_of(job.run.nodes, cpus, gpus)
            more |= {"cpus": cpus, "tres": tres, "requested": tres}
        job.runs[-1] = job.run._replace(**more)
        job.changed_comment = comment if comment is not None else job.changed_comment

    def resize(self, job: ModelJob, cpus: int) -> None:
        """``scontrol update`` of the size of a job that runs: sacct begins a row, which keeps the start of the job."""
        if job.run.state is not SlurmState.RUNNING:
            return
        before, now = self._run(job.run), max(self._now(), job.run.submitted + 1)
        job.runs[-1] = before._replace(state=SlurmState.RESIZING, state_text="RESIZING", ended=now)
        tres = tres_of(before.nodes, cpus)
        job.runs.append(before._replace(submitted=now, cpus=cpus, tres=tres))

    def purge(self, job: ModelJob) -> None:
        """slurmctld forgets an ended job."""
        if job.run.state is not None and job.run.state.phase is Phase.ENDED:
            job.in_queue = False

    def used(self, job: ModelJob) -> int:
        """Seconds of the allocation."""
        return sum(seconds for seconds, _ in self._sizes(job))

    def cpu_seconds(self, job: ModelJob) -> int:
        """CPU-seconds of the allocation."""
        return sum(seconds * cpus for seconds, cpus in self._sizes(job))

    def _sizes(self, job: ModelJob) -> list[tuple[int, int]]:
        """Seconds and CPUs of each size. Rows of several sizes of one run count from the same start."""
        sizes = [(self._run(run), run.started) for run in job.runs if run.started is not None]
        return [(started + run.elapsed - max(started, run.submitted), run.cpus) for run, started in sizes]

    def _now(self) -> int:
        return int(self.now())

    def _ask(self, up: bool) -> None:
        if not up:
            raise SchedulerUnavailableError(CONTROLLER_AWAY)

    def _ask_accounting(self) -> None:
        if not self.accounting:
            raise SchedulerUnavailableError(ACCOUNTING_AWAY)

    def add(self, submission: Submission, user: str | None = None) -> ModelJob:
        """A job that has arrived, of any submitter."""
        user = user or self.user
        id_ = SlurmJobId(self.next_id)
        self.next_id += 1
        runs = [self._new_run(submission, user, id_, self._now())]
        job = ModelJob(submission, user, runs, minutes=submission.minutes)
        self.jobs.append(job)
        return job

    @staticmethod
    def _new_run(submission: Submission, user: str, id_: SlurmJobId, when: int) -> RunRecord:
        return RunRecord(
            id=id_,
            name=submission.name,
            user=user,
            state=SlurmState.PENDING,
            state_text="PENDING",
            submitted=when,
            started=None,
            ended=None,
            elapsed=0,
            exit_code=0,
            signal=0,
            nodes=submission.nodes,
            cpus=submission.nodes * (submission.cpus or 1),
            node_list="n1",
            uid=uid_of(user),
            partition=submission.partition,
            account="proj-a",
            tres=tres_of(submission.nodes, submission.nodes * (submission.cpus or 1)),
            requested=tres_of(submission.nodes, submission.nodes * (submission.cpus or 1)),
            folder=submission.folder,
        )

    def _run(self, run: RunRecord) -> RunRecord:
        if run.started is None:
            return run._replace(tres="")  # nothing is allocated
        if run.ended is None:
            return run._replace(elapsed=self._now() - run.started)
        return run

    def _listed(self, job: ModelJob) -> QueueRecord:
        run = self._run(job.run)
        return QueueRecord(
            id=run.id,
            name=run.name,
            user=run.user,
            state=run.state,
            state_text=run.state_text,
            reason=job.held or "Priority",
            submitted=next(each.submitted for each in job.runs if each.started == run.started),  # a new size is no requeue
            started=run.started,
            elapsed=run.elapsed,
            nodes=run.nodes,
            cpus=run.cpus,
            node_list=run.node_list,
            minutes=job.minutes,
            account="proj-a",
            partition=job.partition,
            uid=run.uid,
            restarts=sum(each.state is not SlurmState.RESIZING for each in job.runs) - 1,
            tres=run.tres or run.requested,
        )
