"""Slurm through its own commands: sbatch, squeue, sacct, scancel, sinfo. Works with Slurm 20.11 and newer."""

import logging
import pwd
import re
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from ucloud_slurm.errors import one_line
from ucloud_slurm.slurm import parse
from ucloud_slurm.slurm.errors import (
    SchedulerUnavailableError,
    action_failed,
    complaints,
    ends_in_communication_error,
    is_answer,
)
from ucloud_slurm.slurm.records import Load, Node, Partition, QueueRecord, RunRecord, SlurmJobId, Submission, TerminalCommand
from ucloud_slurm.slurm.sbatch import Sbatch, options
from ucloud_slurm.slurm.scheduler import PendingSubmission
from ucloud_slurm.system.accounts import own_account
from ucloud_slurm.system.process import CommandMissingError, CommandTimeoutError, Finished, Start, run

log = logging.getLogger(__name__)

IDS_PER_SACCT = 1000
MOST_COMPLAINTS = 20  # that one process passes on

_ENDED_ALREADY = re.compile(r"Invalid job id specified|already completing or completed", re.IGNORECASE)

T = TypeVar("T")


class Commands:
    """The Scheduler that runs Slurm's commands as the account of this process. Safe for several threads.

    :ivar counts: how often each command was run
    """

    def __init__(self, folder: Path, conf: Path, timeout: float, complain: Callable[[str], None] = log.warning) -> None:
        """Asks nothing yet.

        :param folder: of the commands
        :param conf: slurm.conf
        :param timeout: seconds that a command may take
        :param complain: gets each error that a command printed beside an answer, once
        """
        self._folder = folder
        self._timeout = timeout
        self._complain = complain
        self._complaints: set[str] = set()
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        account = pwd.getpwnam(own_account())
        # Nothing of this process's environment reaches Slurm or a job: SBATCH_* and SLURM_* would add options.
        self._env = {
            "PATH": f"{folder}:/usr/bin:/bin",
            "HOME": account.pw_dir,
            "USER": account.pw_name,
            "LOGNAME": account.pw_name,
            "SHELL": account.pw_shell,
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            "SLURM_CONF": str(conf),
        }
        # Only for reading: sbatch passes SLURM_* variables on to the job.
        self._reading_env = self._env | {"SLURM_TIME_FORMAT": "%s"}

    def begin(self) -> None:
        """See :class:`Scheduler`. There is nothing to prepare."""

    def close(self) -> None:
        """See :class:`Scheduler`. Nothing is kept."""

    def start(self, submission: Submission, as_user: Start) -> PendingSubmission:
        """See :class:`Scheduler`. sbatch(1) loads while it waits for the script on its standard input."""
        argv = [*self._command("sbatch"), *options(submission)]
        try:
            return Sbatch(as_user(argv, self._env), submission.script, self._timeout)
        except CommandMissingError as error:
            raise SchedulerUnavailableError(str(error)) from None

    def queue(self, users: Collection[str] | None) -> list[QueueRecord]:
        """See :class:`Scheduler`. squeue(1)."""
        if users is None:
            return self._squeue([], None)
        return self._squeue([f"--user={','.join(sorted(users))}"], None) if users else []

    def job(self, job: SlurmJobId, within: float) -> QueueRecord | None:
        """See :class:`Scheduler`. squeue(1)."""
        # For one unknown id squeue fails; for two it lists none of them.
        found = self._squeue([f"--jobs={job},{job}"], within)
        return next((record for record in found if record.id == job), None)

    def _squeue(self, which: Sequence[str], within: float | None) -> list[QueueRecord]:
        mark = _mark()
        argv = ["--noheader", "--all", "--array", "--states=all", f"--format={parse.queue_format(mark)}"]
        done = self._ask("squeue", [*argv, *which], within)
        return self._parsed("squeue", lambda output: parse.queue(output, mark), done)

    def runs(self, ids: Collection[SlurmJobId]) -> list[RunRecord]:
        """See :class:`Scheduler`. sacct(1), one call for each thousand ids."""
        found: list[RunRecord] = []
        for some in _chunks(sorted(ids), IDS_PER_SACCT):
            found += self._sacct([f"--jobs={','.join(str(id_) for id_ in some)}"])
        return found

    def runs_named(self, names: Collection[str], users: Collection[str], since: float) -> list[RunRecord]:
        """See :class:`Scheduler`. sacct(1)."""
        found: list[RunRecord] = []
        who = f"--user={','.join(sorted(users))}"
        for some in _chunks(sorted(names), IDS_PER_SACCT):
            # Without an end time sacct lists only jobs that have started, not pending ones.
            found += self._sacct([who, f"--name={','.join(some)}", f"--starttime={_utc(since)}", "--endtime=now+1days"])
        return found

    def _sacct(self, arguments: Sequence[str]) -> list[RunRecord]:
        mark = _mark()
        argv = ["--allocations", "--duplicates", "--noheader", "--parsable2", f"--delimiter={parse.delimiter(mark)}"]
        done = self._ask("sacct", [*argv, f"--format={parse.RUN_FORMAT}", *arguments])
        return self._parsed("sacct", lambda output: parse.runs(output, mark), done)

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
        return sorted(set(self._ask("sacctmgr", argv, within).output.split()))

    def is_operator(self, user: str, within: float) -> bool:
        """See :class:`Scheduler`. sacctmgr(1)."""
        argv = ["--noheader", "--parsable2", "show", "user", user, "format=adminlevel"]
        return self._ask("sacctmgr", argv, within).output.strip() in ("Operator", "Administrator")

    def version(self) -> str:
        return self._ask("squeue", ["--version"]).output.split()[-1]

    def settings(self) -> dict[str, str]:
        """The cluster's configuration, as ``scontrol show config`` prints it."""
        lines = self._ask("scontrol", ["show", "config"]).output.splitlines()
        pairs = (line.partition("=") for line in lines if "=" in line)
        return {name.strip(): value.strip() for name, _, value in pairs}

    def cancel(self, job: SlurmJobId, name: str, user: str, within: float) -> None:
        """See :class:`Scheduler`. scancel(1); with a name and a user it checks both before it signals."""
        done = self._run("scancel", [f"--name={name}", f"--user={user}", str(job)], within)
        # With a name and a user scancel reports a job that has ended as an error (22.05).
        errors = [line for line in done.errors.splitlines() if line.strip() and not _ENDED_ALREADY.search(line)]
        if done.status == 0:  # beside it a plugin may complain
            errors = [line for line in errors if "Kill job error" in line or ends_in_communication_error(line)]
        if errors or (done.status != 0 and not done.errors.strip()):
            raise action_failed("scancel", done.status, errors)

    def set_time_limit(self, job: SlurmJobId, minutes: int, within: float) -> None:
        """See :class:`Scheduler`. scontrol(1), update TimeLimit."""
        self._control(["update", f"JobId={job}", f"TimeLimit={minutes}"], within)

    def suspend(self, job: SlurmJobId, within: float) -> None:
        """See :class:`Scheduler`. scontrol(1)."""
        self._control(["suspend", str(job)], within)

    def resume(self, job: SlurmJobId, within: float) -> None:
        """See :class:`Scheduler`. scontrol(1)."""
        self._control(["resume", str(job)], within)

    def hold(self, job: SlurmJobId, within: float) -> None:
        """See :class:`Scheduler`. scontrol(1)."""
        self._control(["hold", str(job)], within)

    def release(self, job: SlurmJobId, within: float) -> None:
        """See :class:`Scheduler`. scontrol(1)."""
        self._control(["release", str(job)], within)

    def _control(self, arguments: Sequence[str], within: float) -> None:
        done = self._run("scontrol", arguments, within)
        if done.status == 0:
            return
        lines = [line for line in (done.errors or done.output).splitlines() if line.strip()]
        # Slurm 22.05 prints "Unexpected message received" for an unknown job and for an unreachable controller.
        raise action_failed("scontrol", done.status, lines)

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
            raise SchedulerUnavailableError(f"{name} ended with {done.status}: {one_line(done.errors or done.output, 200)}")
        for line in complaints(done.errors):
            self._pass_on(f"{name} answered, and printed: {one_line(line, 300)}")
        return done

    def _pass_on(self, complaint: str) -> None:
        with self._lock:
            if complaint in self._complaints or len(self._complaints) >= MOST_COMPLAINTS:
                return
            self._complaints.add(complaint)
        self._complain(complaint)

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


def _mark() -> str:
    return secrets.token_hex(8)


def _utc(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _chunks(values: Sequence[T], size: int) -> list[Sequence[T]]:
    return [values[start : start + size] for start in range(0, len(values), size)]
