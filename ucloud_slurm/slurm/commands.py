"""Slurm through its own commands: sbatch, squeue, sacct, scancel, sinfo. Works with Slurm 20.11 and newer."""

import os
import pwd
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any, TypeVar

from ucloud_slurm.errors import one_line
from ucloud_slurm.slurm import parse
from ucloud_slurm.slurm.complaints import Complaints
from ucloud_slurm.slurm.errors import (
    ActionRefusedError,
    SchedulerUnavailableError,
    complaints,
    is_answer,
    is_unknown_job,
    not_cancelled,
)
from ucloud_slurm.slurm.records import (
    Candidate,
    Load,
    Node,
    Partition,
    QueueRecord,
    RunFilter,
    RunRecord,
    SlurmJobId,
    Submission,
    TerminalCommand,
)
from ucloud_slurm.slurm.sbatch import Sbatch, options
from ucloud_slurm.slurm.scheduler import Changes, PendingSubmission
from ucloud_slurm.slurm.scontrol import KeptScontrol, loaded
from ucloud_slurm.slurm.session import Session
from ucloud_slurm.system.accounts import own_account, user_environment
from ucloud_slurm.system.process import Command, CommandMissingError, CommandTimeoutError, Finished, Start, Started, run

IDS_PER_SACCT = 1000
FEW = 4  # for a list of numbers squeue loads all jobs of the cluster, for one number one job

# What squeue prints for a user or a field that it does not know (opts.c).
_INVALID_USER, _INVALID_FIELD = "Invalid user", "Invalid field"
# Of a federation only the jobs of this cluster, whatever the site's default; and slurmctld is not asked for the others.
_ALL_JOBS = ("--noheader", "--all", "--array", "--states=all", "--local")

T = TypeVar("T")


class Commands(KeptScontrol):
    """The Scheduler that runs Slurm's commands as the account of this process. Safe for several threads.

    :ivar counts: how often each command was run
    """

    def __init__(self, folder: Path, conf: Path, timeout: float, complaints: Complaints | None = None) -> None:
        self._folder = folder
        self._timeout = timeout
        self._complaints = complaints or Complaints()
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.cluster = _cluster(conf)
        account = pwd.getpwnam(own_account())
        # Nothing of this process's environment reaches Slurm or a job: SBATCH_* and SLURM_* would add options.
        self._env = user_environment(account.pw_name, account.pw_dir, account.pw_shell, folder) | {"SLURM_CONF": str(conf)}
        # Only for reading: sbatch passes its environment on to the job.
        self._reading_env = self._env | {"SLURM_TIME_FORMAT": "%s", "TZ": "UTC"}

    def start(self, submission: Submission, as_user: Start) -> PendingSubmission:
        """See :class:`Scheduler`. sbatch(1) loads while it waits for the script on its standard input."""
        return self._sbatch(submission, as_user)

    def _sbatch(self, submission: Submission, as_user: Start, by_library: Mapping[str, Any] | None = None) -> Sbatch:
        argv = [*self._command("sbatch"), *options(submission)]
        try:
            return Sbatch(as_user(argv, self._env, by_library), submission.script, self._timeout)
        except CommandMissingError as error:
            raise SchedulerUnavailableError(str(error)) from None

    def queue(self, uids: Collection[int] | None) -> list[QueueRecord]:
        """See :class:`Scheduler`. squeue(1)."""
        if uids is None:
            return self._squeue([])[0]
        if not uids:
            return []
        try:
            records, errors = self._squeue([f"--user={','.join(str(uid) for uid in sorted(uids))}"])
        except SchedulerUnavailableError as error:
            if _INVALID_USER not in str(error):
                raise
            records, errors = [], str(error)
        if _INVALID_USER in errors:
            # An account that is gone, or a name service that does not answer: its jobs would be left out.
            records = [record for record in self._squeue([])[0] if record.uid is None or record.uid in uids]
        return records

    def job(self, job: SlurmJobId, within: float) -> QueueRecord | None:
        """See :class:`Scheduler`. One number is one small request to slurmctld, several load all jobs: squeue(1)."""
        until = time.monotonic() + within
        found = self._shown(job, within)
        if found is None:
            try:
                found, _ = self._squeue([f"--jobs={job}"], max(until - time.monotonic(), 0.0))
            except SchedulerUnavailableError as error:
                if is_unknown_job(str(error)):
                    return None
                raise
        return next((record for record in found if record.id == job), None)

    def some(self, jobs: Collection[SlurmJobId], within: float) -> Mapping[SlurmJobId, QueueRecord]:
        """See :class:`Scheduler`. squeue(1)."""
        until = time.monotonic() + within
        if len(jobs) <= FEW:
            found = [self.job(job, until - time.monotonic()) for job in jobs]
        else:
            found = [*self._squeue([f"--jobs={','.join(str(job) for job in sorted(jobs))}"], within)[0]]
        return {record.id: record for record in found if record is not None}

    def _squeue(self, which: Sequence[str], within: float | None = None) -> tuple[list[QueueRecord], str]:
        """The jobs, and what was printed as errors."""
        mark = _mark()
        done = self._ask("squeue", [*_ALL_JOBS, f"--Format={parse.queue_format(mark)}", *which], within)
        return self._parsed("squeue", lambda output: parse.queue(output, mark), done), done.errors

    def runs(self, ids: Collection[SlurmJobId]) -> list[RunRecord]:
        """See :class:`Scheduler`. sacct(1), one call for each thousand ids."""
        found: list[RunRecord] = []
        for some in _chunks(sorted(ids), IDS_PER_SACCT):
            found += self._sacct([f"--jobs={','.join(str(id_) for id_ in some)}"])
        return found

    def accounting_backlog(self, within: float) -> int:
        """See :class:`Scheduler`. sdiag(1)."""
        found = re.search(r"^DBD Agent queue size:\s*(\d+)$", self._ask("sdiag", [], within).output, re.MULTILINE)
        if found is None:
            raise SchedulerUnavailableError("sdiag printed no size of the queue of the DBD agent")
        return int(found[1])

    def queue_named(self, names: Collection[str] | None) -> list[Candidate]:
        """See :class:`Scheduler`. squeue(1)."""
        mark = _mark()
        argv = [*_ALL_JOBS, f"--Format={parse.named_format(mark)}"]
        argv += [f"--name={','.join(sorted(names))}"] if names is not None else []
        return self._parsed("squeue", lambda output: parse.named(output, mark), self._ask("squeue", argv))

    def runs_since(self, since: float, which: RunFilter) -> list[RunRecord]:
        """See :class:`Scheduler`. sacct(1)."""
        # Without an end time sacct lists only jobs that have started, not pending ones.
        start = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(since))
        argv = ["--allusers", f"--starttime={start}", "--endtime=now+1days"]
        argv += [f"--name={','.join(sorted(which.names))}"] if which.names is not None else []
        argv += [f"--partition={','.join(sorted(which.partitions))}"] if which.partitions is not None else []
        users = [] if which.uids is None else [f"--user={','.join(str(uid) for uid in sorted(which.uids))}"]
        fields: Sequence[str] = parse.SUBMITTED_FIELDS
        while True:
            try:
                found = self._sacct([*argv, *users], fields)
                return [run for run in found if which.uids is None or run.uid is None or run.uid in which.uids]
            except SchedulerUnavailableError as error:
                if users and _INVALID_USER in str(error):
                    users = []  # an account that is gone: all are asked for
                elif len(fields) > len(parse.RUN_FIELDS) and _INVALID_FIELD in str(error):
                    fields = parse.RUN_FIELDS  # Slurm before 21.08
                else:
                    raise

    def _sacct(self, arguments: Sequence[str], fields: Sequence[str] = parse.RUN_FIELDS) -> list[RunRecord]:
        mark = _mark()
        argv = ["--allocations", "--duplicates", "--noheader", "--noconvert", "--parsable2"]
        argv += [f"--delimiter={parse.delimiter(mark)}", f"--format={','.join(fields)}"]
        done = self._ask("sacct", [*argv, *arguments])
        return self._parsed("sacct", lambda output: parse.runs(output, mark, fields), done)

    def ping(self, within: float) -> None:
        """See :class:`Scheduler`. scontrol(1), ping: it exits with 0 if one of the controllers is up."""
        self._ask("scontrol", ["ping"], within)

    def partitions(self, within: float) -> list[Partition]:
        """See :class:`Scheduler`. sinfo(1)."""
        argv = ["--noheader", "--all", "--exact", "--noconvert", f"--format={parse.PARTITION_FORMAT}"]
        return self._parsed("sinfo", parse.partitions, self._ask("sinfo", argv, within))

    def nodes(self, node_list: str, within: float) -> list[Node]:
        """See :class:`Scheduler`. scontrol(1), show hostnames; sinfo(1)."""
        until = time.monotonic() + within
        names = self._ask("scontrol", ["show", "hostnames", node_list], within).output.split()
        argv = ["--noheader", "--all", "--Node", f"--nodes={node_list}", f"--format={parse.ADDRESS_FORMAT}"]
        found = self._parsed("sinfo", parse.addresses, self._ask("sinfo", argv, until - time.monotonic()))
        return [Node(name, found.get(name, name)) for name in names]

    def load(self, partitions: Collection[str], within: float) -> Load:
        """See :class:`Scheduler`. sinfo(1) and squeue(1)."""
        until = time.monotonic() + within
        which = f"--partition={','.join(sorted(partitions))}"
        argv = ["--noheader", "--Node", "--exact", f"--Format={','.join(parse.CAPACITY_FIELDS)}", which]
        capacity = self._parsed("sinfo", parse.capacity, self._ask("sinfo", argv, within))
        argv = ["--noheader", "--all", "--array", "--states=PENDING,RUNNING,SUSPENDED", "--format=%T", which]
        states = Counter(self._ask("squeue", argv, until - time.monotonic()).output.split())
        pending = states.pop("PENDING", 0)
        return Load(*capacity, running=states.total(), pending=pending)

    def accounts(self, user: str, within: float) -> list[str]:
        """See :class:`Scheduler`. sacctmgr(1)."""
        argv = ["--noheader", "--parsable2", "show", "associations", "where", f"user={user}", "format=account"]
        return sorted(set(re.findall(r"^[ \t]*(\S+)[ \t]*$", self._ask("sacctmgr", argv, within).output, re.MULTILINE)))

    def is_operator(self, user: str, within: float) -> bool:
        """See :class:`Scheduler`. sacctmgr(1)."""
        argv = ["--noheader", "--parsable2", "show", "user", user, "format=adminlevel"]
        return self._ask("sacctmgr", argv, within).output.strip() in ("Operator", "Administrator")

    def trial(self, submission: Submission) -> tuple[list[str], dict[str, str]]:
        """The command that asks Slurm whether it would take a job, and its environment. sbatch(1), --test-only."""
        return [*self._command("sbatch"), "--test-only", *options(submission)], self._env

    def ask(self, name: str, arguments: Sequence[str], within: float) -> str:
        """What a command prints that only reads."""
        return self._ask(name, arguments, within).output

    def version(self) -> str:
        return " ".join(re.findall(r"\d+\.\S+", self._ask("squeue", ["--version"]).output)) or "of an unknown release"

    def settings(self) -> dict[str, str]:
        """The cluster's configuration, as ``scontrol show config`` prints it."""
        pairs = re.findall(r"^([^=\n]+)=(.*)$", self._ask("scontrol", ["show", "config"]).output, re.MULTILINE)
        return {name.strip(): value.strip() for name, value in pairs}

    def cancel(self, jobs: Collection[SlurmJobId], within: float) -> Mapping[SlurmJobId, ActionRefusedError]:
        """See :class:`Scheduler`. scancel(1)."""
        if not jobs:
            return {}
        done = self._run("scancel", [str(job) for job in jobs], within)
        return not_cancelled(jobs, done.status, done.errors)

    def changing(self) -> AbstractContextManager[Changes]:
        """See :class:`Scheduler`. scontrol(1)."""
        return loaded(self._started, self._timeout) if self._session is None else nullcontext(self)

    def _started(self) -> Started:
        return Command(self._command("scontrol"), self._reading_env)

    def _kept(self) -> Session:
        return Session([str(self._folder / "scontrol"), "--all", "--local"], self._reading_env)

    def terminal(self, job: SlurmJobId, rank: int, folder: str, shell: str) -> TerminalCommand:
        """See :class:`Scheduler`. srun(1): with --overlap the step shares the resources of the job's other steps."""
        argv = (
            *self._command("srun"), f"--jobid={job}", "--overlap", "--nodes=1", "--ntasks=1", f"--relative={rank}",
            f"--chdir={folder}", "--job-name=ucloud-shell", "--quiet", "--pty", shell, "-l",
        )  # fmt: skip
        return TerminalCommand(argv, tuple((self._env | {"TERM": "xterm-256color"}).items()))

    def _command(self, name: str) -> list[str]:
        with self._lock:
            self.counts[name] += 1
        return [str(self._folder / name)]

    def _ask(self, name: str, arguments: Sequence[str], within: float | None = None) -> Finished:
        done = self._run(name, arguments, within)
        if not is_answer(name, done.status, done.output, done.errors):
            why = one_line(done.errors or done.output, 200) or "it printed nothing"
            raise SchedulerUnavailableError(f"{name} ended with {done.status}: {why}")
        for line in complaints(done.errors):
            self._complaints.add(f"{name} answered, and printed: {one_line(line, 300)}")
        return done

    def _run(self, name: str, arguments: Sequence[str], within: float | None) -> Finished:
        limit = self._timeout if within is None else min(within, self._timeout)
        try:
            return run([*self._command(name), *arguments], self._reading_env, limit)
        except (CommandMissingError, CommandTimeoutError) as error:
            raise SchedulerUnavailableError(str(error)) from None

    def _parsed(self, name: str, read: Callable[[str], T], done: Finished) -> T:
        try:
            return read(done.output)
        except parse.ParseError as error:
            raise SchedulerUnavailableError(f"{name} printed something unexpected: {one_line(str(error), 200)}") from None


def _cluster(conf: Path) -> str | None:
    """ClusterName of slurm.conf(5). A cluster without that file on its login nodes has it in its controller only."""
    with suppress(OSError):
        name = re.search(r"^\s*ClusterName\s*=\s*(\S+)", conf.read_text(errors="replace"), re.IGNORECASE | re.MULTILINE)
        return name[1].lower() if name else None
    return None


def _mark() -> str:
    return os.urandom(8).hex()  # as secrets does, which loads slowly


def _chunks(values: Sequence[T], size: int) -> list[Sequence[T]]:
    return [values[start : start + size] for start in range(0, len(values), size)]
