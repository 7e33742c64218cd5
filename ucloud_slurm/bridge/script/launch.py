"""How the program of a job is started: in the batch shell, or on every node by srun; and how it is warned."""

import shlex
from dataclasses import dataclass

from ucloud_slurm.bridge.script.bash import sourced, stop
from ucloud_slurm.config import Product

ANNOUNCE = (
    "# Where the application listens: on UCLOUD_PORT of its node, or on what it writes into UCLOUD_PORT_FILE itself,",
    '# as "<port>" or "<port> <path with which a browser begins>"',
    "ucloud_announce() {",
    '    export UCLOUD_PORT UCLOUD_PORT_FILE="$UCLOUD_JOB_FOLDER/port-${SLURM_PROCID:-0}"',
    "    until UCLOUD_PORT=$((20000 + RANDOM % 12000)); ! (: < /dev/tcp/127.0.0.1/$UCLOUD_PORT) 2> /dev/null; do",
    "        :",
    "    done",
    '    [ "$UCLOUD_BASE_PATH" = / ] || export UCLOUD_BASE_PATH="${UCLOUD_BASE_PATH%-0/}-${SLURM_PROCID:-0}/"',
    '    echo "$UCLOUD_PORT" > "$UCLOUD_PORT_FILE"',
    "}",
    "export -f ucloud_announce",
)


@dataclass(frozen=True, slots=True)
class Launch:
    """Where the program runs.

    :ivar nodes: one process on each
    :ivar cpus: for each process, None for the partition's default
    :ivar multi_node: the application can use several nodes, and may want to start steps of its own
    :ivar listens: the application is a web page or a screen, and needs a port
    :ivar warned: the program gets a signal before its time is over
    :ivar epilogue: a shell file of the site that is sourced in the end
    :ivar scripted: the application is a script of its own, which starts its steps itself
    """

    folder: str
    nodes: int
    cpus: int | None
    multi_node: bool
    listens: bool
    warned: bool
    epilogue: str | None
    scripted: bool = False

    @property
    def in_step(self) -> bool:
        """Whether srun starts the program. A shell that waits for the epilogue could not hand on a signal."""
        return not self.scripted and (self.nodes > 1 or (self.warned and self.epilogue is not None))

    def host_file(self) -> list[str]:
        """The lines that write the list of nodes and let the application's own srun do as ours."""
        if not self.multi_node:
            return []
        names = 'scontrol show hostnames "$SLURM_JOB_NODELIST"' if self.nodes > 1 else 'echo "$SLURM_JOB_NODELIST"'
        lines = [
            "# The names of the job's nodes, one in each line. What srun starts gets the environment of its caller",
            f"export UCLOUD_HOSTFILE={shlex.quote(f'{self.folder}/hostfile')} SLURM_EXPORT_ENV=ALL",
            f'{names} > "$UCLOUD_HOSTFILE" || {stop("the list of the nodes could not be written.")}',
        ]
        # Our own step holds all that the job has; others must be let in beside it.
        return lines + (["export SLURM_OVERLAP=1"] if self.nodes > 1 and self.in_step else [])

    def steps(self) -> list[str]:
        """The lines by which the steps of the application's own script get the environment and the CPUs of the job."""
        # Since Slurm 22.05 srun does not ask for what sbatch got.
        cpus = f" SRUN_CPUS_PER_TASK={self.cpus}" if self.cpus is not None else ""
        return ["# What srun starts gets the environment of its caller", f"export SLURM_EXPORT_ENV=ALL{cpus}"]

    def body(self, script: str) -> list[str]:
        """The last lines of a job whose application is a script.

        :param script: bash
        """
        lines = ["# The application", f"cd {shlex.quote(self.folder)} || exit 1"]
        lines += ["ucloud_announce"] if self.listens else []
        return [
            *lines,
            *(["("] if self.epilogue is not None else []),
            script,
            *([")"] if self.epilogue is not None else []),
            *self._end(),
        ]

    def start(self, command: str) -> list[str]:
        """The last lines of the script.

        :param command: the program and its arguments, as bash reads them
        """
        lines = ["# The application", f"cd {shlex.quote(self.folder)} || exit 1"]
        if self.in_step:
            lines.append(self._step(command))
        else:
            lines += ["ucloud_announce"] if self.listens else []
            # By exec no word is taken for one of the shell's own; and the program gets the signals of the batch job.
            lines.append(f"exec -- {command}" if self.epilogue is None else f"(exec -- {command})")
        return lines + self._end()

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
        # --export=ALL: sbatch was told to start with a clean environment, and srun would do so again.
        start = f"srun --export=ALL --nodes={self.nodes} --ntasks={self.nodes} --ntasks-per-node=1"
        # Since Slurm 22.05 srun does not ask for what sbatch got.
        start += f" --cpus-per-task={self.cpus}" if self.cpus is not None else ""
        start += f" --open-mode=append --output={shlex.quote(_pattern(self.folder, 'stdout'))}"
        start += f" --error={shlex.quote(_pattern(self.folder, 'stderr'))}"
        first = "ucloud_announce; " if self.listens else ""
        return f"""{start} -- bash -c '{first}UCLOUD_RANK=$SLURM_PROCID exec -- "$@"' ucloud {command}"""


def warning(product: Product, launch: Launch) -> str | None:
    """The signal before the end, as sbatch --signal takes it: to the batch shell (B:) or to the steps."""
    if product.signal is None:
        return None
    # The shell of a script would end by it at once.
    return product.signal if launch.in_step or launch.scripted else f"B:{product.signal}"


def _pattern(folder: str, stream: str) -> str:
    return f"{folder.replace('%', '%%')}/{stream}-%t.log"
