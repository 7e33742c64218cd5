"""Run as the service account: calls a Scheduler as its input says, one JSON list in each line."""

import enum
import json
import sys
from pathlib import Path
from typing import Any

from ucloud_slurm.slurm.commands import Commands
from ucloud_slurm.slurm.pyslurm.backend import PySlurm
from ucloud_slurm.slurm.records import RunFilter, Submission
from ucloud_slurm.slurm.scheduler import PendingSubmission
from ucloud_slurm.system.process import Command, Start
from ucloud_slurm.users.impersonation import RunnerClient

TIMEOUT = 10.0


def plain(value: Any) -> Any:
    """A record as a dictionary."""
    if hasattr(value, "_asdict"):
        return {name: plain(one) for name, one in value._asdict().items()}
    return [plain(one) for one in value] if isinstance(value, list | tuple) else value


def main(backend: str, commands: str, conf: str, runner: str = "", user: str = "") -> None:
    """Serves until the input ends.

    :param backend: "plain": Slurm's commands, each of which is started for its call
    :param runner: socket of a runner, through which jobs are submitted as ``user``
    """
    as_user: Start = RunnerClient(Path(runner), user).start if runner else Command
    kind = PySlurm if backend == "pyslurm" else Commands
    slurm = kind(Path(commands), Path(conf), TIMEOUT)
    if backend != "plain":
        slurm.begin()

    def start(wanted: dict[str, Any]) -> PendingSubmission:
        return slurm.start(Submission(**wanted | {"more": tuple(wanted["more"])}), as_user)

    def change(calls: list[list[Any]]) -> None:
        with slurm.changing() as changes:
            for name, *rest in calls:
                getattr(changes, name)(*rest)

    others: dict[str, Any] = {
        "ready": lambda within: slurm.ready(within) if isinstance(slurm, PySlurm) else True,
        "reason": lambda: slurm.reason if isinstance(slurm, PySlurm) else None,
        "counts": lambda: dict(slurm.counts),
        "submit": lambda wanted, within: start(wanted).send(within),
        "runs_named": lambda names, since: slurm.runs_since(since, RunFilter(names=frozenset(names))),
        "runs_of": lambda uids, since: slurm.runs_since(since, RunFilter(uids=frozenset(uids))),
        "some": lambda jobs, within: [*slurm.some(jobs, within).values()],
        "cancel": lambda jobs, within: {job: error.reason for job, error in slurm.cancel(jobs, within).items()},
        "changing": change,
        "abandon": lambda wanted: start(wanted).abandon(),
    }
    for line in sys.stdin:
        call, *arguments = json.loads(line)
        try:
            done = plain((others.get(call) or getattr(slurm, call))(*arguments))
            answer = {"done": done}
        except Exception as error:  # noqa: BLE001  the test looks at it
            answer = {"raised": type(error).__name__, "text": str(error)}
        sys.stdout.write(json.dumps(answer, default=lambda one: one.name if isinstance(one, enum.Enum) else str(one)))
        sys.stdout.write("\n")
        sys.stdout.flush()
    slurm.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
