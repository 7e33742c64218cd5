"""The servers of the private cluster: how each is started, as whom, and how it shows that it answers."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from subprocess import TimeoutExpired

from tests.sandbox import commands, database, processes
from tests.sandbox.daemons import Daemon
from tests.sandbox.errors import CommandFailed
from tests.sandbox.slurm_conf import ClusterFacts

CONTROLLER = "slurmctld"
NODE = "slurmd-"
LOST = ("unk", "down", "no_respond")


@dataclass(frozen=True, slots=True)
class Owners:
    """Accounts that the servers run as; None means the caller's own.

    :ivar munge: account of munged
    :ivar database: account of MariaDB
    :ivar slurm: account of slurmctld and slurmdbd
    """

    munge: str | None
    database: str | None
    slurm: str | None


PACKAGED = Owners(munge="munge", database="mysql", slurm="slurm")
ALL_MINE = Owners(munge=None, database=None, slurm=None)


def servers(facts: ClusterFacts, owners: Owners, conf: Path) -> tuple[Daemon, ...]:
    """List the servers in the order in which they need each other."""
    munge = facts.folder / "munge"
    found = [
        Daemon(
            "munged",
            [
                "/usr/sbin/munged",
                "--foreground",
                f"--key-file={munge}/key",
                f"--socket={facts.munge_socket}",
                f"--pid-file={munge}/pid",
                f"--log-file={munge}/log",
                f"--seed-file={munge}/seed",
            ],
            owners.munge,
            None,
            lambda: commands.succeeds(["munge", "-n", "-S", str(facts.munge_socket)]),
        )
    ]
    if facts.accounting:
        found += [
            Daemon(
                "mariadbd",
                ["/usr/sbin/mariadbd", f"--defaults-file={facts.folder}/etc/my.cnf"],
                owners.database,
                facts.database_port,
                lambda: database.answers(facts),
                patience=60,
            ),
            Daemon(
                "slurmdbd",
                ["/usr/sbin/slurmdbd", "-D"],
                owners.slurm,
                facts.accounting_port,
                _port(facts, facts.accounting_port),
                patience=90,  # it makes its tables the first time
            ),
        ]
    found.append(
        Daemon(
            CONTROLLER,
            ["/usr/sbin/slurmctld", "-D", *_forgiving(facts)],
            owners.slurm,
            facts.controller_port,
            lambda: controller_answers(conf),
            patience=60,
        )
    )
    found += [
        Daemon(
            f"{NODE}{node.name}",
            ["/usr/sbin/slurmd", "-D", "-N", node.name],
            None,
            node.port,
            _node(facts, node.name, node.port, conf),
            patience=60,
        )
        for node in facts.nodes
    ]
    return tuple(found)


def _forgiving(facts: ClusterFacts) -> list[str]:
    # Slurm 26.05 does not start with a part of its state; one that was killed in its first minutes left a part
    return [] if (facts.folder / "state" / "assoc_usage").exists() else ["-i"]


def knows_jobs(name: str) -> bool:
    """Tell whether a server, by its name, is one of those that keep track of jobs."""
    return name == CONTROLLER or name.startswith(NODE)


def controller_answers(conf: Path) -> bool:
    """Tell whether slurmctld answers."""
    return commands.succeeds(["scontrol", "ping"], environment={"SLURM_CONF": str(conf)})


def _port(facts: ClusterFacts, port: int) -> Callable[[], bool]:
    return lambda: processes.answers(facts.address, port)


def _node(facts: ClusterFacts, name: str, port: int, conf: Path) -> Callable[[], bool]:
    """A node answers when its port is open and the controller, if it is there to be asked, counts on it."""

    def ready() -> bool:
        if not processes.answers(facts.address, port):
            return False
        return not controller_answers(conf) or _counted_on(name, conf)

    return ready


def _counted_on(node: str, conf: Path) -> bool:
    command = ["sinfo", "-h", "-N", "-n", node, "-o", "%t"]
    try:
        states = commands.run(command, environment={"SLURM_CONF": str(conf)}, timeout=5).split()
    except (CommandFailed, TimeoutExpired):
        return False
    return bool(states) and not any(state.endswith("*") or state.startswith(LOST) for state in states)
