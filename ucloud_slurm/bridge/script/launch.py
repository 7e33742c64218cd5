"""The last lines of a batch script: they start the program, in the batch shell or on every node by srun."""

import shlex
from typing import NamedTuple

from ucloud_slurm.bridge.naming import PORT_FILE_PREFIX, JobPaths
from ucloud_slurm.bridge.script.bash import sourced, stop
from ucloud_slurm.config import Product

ANNOUNCE = (
    "# Where the application listens: on UCLOUD_PORT of its node, or on what it writes into UCLOUD_PORT_FILE itself,",
    '# as "<port>" or "<port> <path with which a browser begins>"',
    "ucloud_announce() {",
    f'    export UCLOUD_PORT UCLOUD_PORT_FILE="$UCLOUD_JOB_FOLDER/{PORT_FILE_PREFIX}${{SLURM_PROCID:-0}}"',
    "    until UCLOUD_PORT=$((20000 + RANDOM % 12000)); ! (: < /dev/tcp/127.0.0.1/$UCLOUD_PORT) 2> /dev/null; do",
    "        :",
    "    done",
    '    [ "$UCLOUD_BASE_PATH" = / ] || export UCLOUD_BASE_PATH="${UCLOUD_BASE_PATH%-0/}-${SLURM_PROCID:-0}/"',
    '    echo "$UCLOUD_PORT" > "$UCLOUD_PORT_FILE"',
    "}",
    "export -f ucloud_announce",
)


class ProgramLaunch(NamedTuple):
    """How the program is started.

    :ivar nodes: one process runs on each
    :ivar cpus: of each process, None for the partition's default
    :ivar multi_node: the application can use several nodes, and may start steps of its own
    :ivar listens: the application is a web page or a screen, and needs a port
    :ivar warned: the program gets a signal before its time limit
    :ivar epilogue: a shell file of the site that is sourced after the application
    :ivar scripted: the application is a script, which starts its own steps
    """

    paths: JobPaths
    nodes: int
    cpus: int | None
    multi_node: bool
    listens: bool
    warned: bool
    epilogue: str | None
    scripted: bool = False

    @property
    def in_step(self) -> bool:
        """Whether srun starts the program. A shell that waits for the epilogue could not pass on a signal."""
        return not self.scripted and (self.nodes > 1 or (self.warned and self.epilogue is not None))

    def host_file(self) -> list[str]:
        """The lines that write the host file, and by which the application's own srun inherits its environment."""
        if not self.multi_node:
            return []
        names = 'scontrol show hostnames "$SLURM_JOB_NODELIST"' if self.nodes > 1 else 'echo "$SLURM_JOB_NODELIST"'
        lines = [
            "# The names of the job's nodes, one in each line. What srun starts gets the environment of its caller",
            f"export UCLOUD_HOSTFILE={shlex.quote(self.paths.host_file)} SLURM_EXPORT_ENV=ALL",
            f'{names} > "$UCLOUD_HOSTFILE" || {stop("the list of the nodes could not be written.")}',
        ]
        # The step of srun below holds everything that the job has; further steps must overlap with it.
        return lines + (["export SLURM_OVERLAP=1"] if self.nodes > 1 and self.in_step else [])

    def steps(self) -> list[str]:
        """The lines by which the steps of an application's script get the environment and the CPUs of the job."""
        # Since Slurm 22.05 srun does not inherit --cpus-per-task of sbatch.
        cpus = f" SRUN_CPUS_PER_TASK={self.cpus}" if self.cpus is not None else ""
        return ["# What srun starts gets the environment of its caller", f"export SLURM_EXPORT_ENV=ALL{cpus}"]

    def body(self, script: str) -> list[str]:
        """The last lines of the script of an application that is a script.

        :param script: bash
        """
        begin, end = (["("], [")"]) if self.epilogue is not None else ([], [])
        return [*self._begin(), *self._announce(), *begin, script, *end, *self._end()]

    def start(self, command: str) -> list[str]:
        """The last lines of the script of an application that is a program.

        :param command: the program and its arguments, quoted for bash
        """
        if self.in_step:
            return [*self._begin(), self._step(command), *self._end()]
        # exec runs no builtin of the shell, and the program gets the signals of the batch job.
        start = f"exec -- {command}" if self.epilogue is None else f"(exec -- {command})"
        return [*self._begin(), *self._announce(), start, *self._end()]

    def _begin(self) -> list[str]:
        return ["# The application", f"cd {shlex.quote(self.paths.folder)} || exit 1"]

    def _announce(self) -> list[str]:
        return ["ucloud_announce"] if self.listens else []

    def _end(self) -> list[str]:
        if self.epilogue is None:
            return []
        return [
            "ucloud_status=$?",
            "",
            "# The site's own end of a job",
            *sourced(self.epilogue, "the epilogue of the site"),
            'exit "$ucloud_status"',
        ]

    def _step(self, command: str) -> str:
        # --export=ALL: the site may have set SLURM_EXPORT_ENV.
        start = f"srun --export=ALL --nodes={self.nodes} --ntasks={self.nodes} --ntasks-per-node=1"
        # Since Slurm 22.05 srun does not inherit --cpus-per-task of sbatch.
        start += f" --cpus-per-task={self.cpus}" if self.cpus is not None else ""
        start += f" --open-mode=append --output={shlex.quote(self.paths.log_pattern('stdout'))}"
        start += f" --error={shlex.quote(self.paths.log_pattern('stderr'))}"
        first = "ucloud_announce; " if self.listens else ""
        return f"""{start} -- bash -c '{first}UCLOUD_RANK=$SLURM_PROCID exec -- "$@"' ucloud {command}"""


def warning_signal(product: Product, launch: ProgramLaunch) -> str | None:
    """The signal before the time limit (sbatch(1): --signal): to the batch shell (B:) or to the steps."""
    if product.signal is None:
        return None
    # The batch shell of an application that is a script would end by it at once.
    return product.signal if launch.in_step or launch.scripted else f"B:{product.signal}"
