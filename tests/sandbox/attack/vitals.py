"""The processes of the units: which live, how many descriptors they hold, how much memory they take."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.sandbox.living import Living
from tests.sandbox.processes import everyone

UNITS = ("ucloud-slurm.service", "ucloud-slurm-runner.service", "ucloud-slurm-link.service", "ucloud-slurm-listener.service")
_UNIT = re.compile(r"/(ucloud-slurm[a-z-]*\.service)")
DATABASE = "ucloud-slurm.db"
_PROGRAM = b"ucloud-slurm-as-user"


@dataclass(frozen=True, slots=True)
class UnitProcess:
    """One process of a unit.

    :ivar memory: MiB that are its own
    :ivar kinds: what its descriptors are, such as ``socket`` or the name of a file, each with how many there are
    """

    pid: int
    unit: str
    state: str
    uid: int
    kinds: Counter[str]
    memory: float
    command: bytes

    @property
    def descriptors(self) -> int:
        """How many it holds, without those of the database, which each thread keeps."""
        return sum(number for kind, number in self.kinds.items() if not kind.startswith(DATABASE))

    def words(self) -> str:
        """What it is, for an error."""
        return f"{self.pid} {self.state} {self.command.replace(bytes(1), b' ').decode(errors='replace')[-90:]}"

    @property
    def is_program(self) -> bool:
        """Whether it acts as a person."""
        return _PROGRAM in self.command


@dataclass(frozen=True, slots=True)
class Vitals:
    """One look at all units.

    :ivar lives: unit -> its first process, and how often systemd has started it anew
    """

    lives: dict[str, tuple[int, int]]
    processes: tuple[UnitProcess, ...]

    @classmethod
    def of(cls, living: Living) -> "Vitals":
        """Looks."""
        shown = living.systemctl("show", "--property=Id,MainPID,NRestarts", *UNITS)
        lives = {}
        for part in shown.split("\n\n"):
            facts = dict(line.split("=", 1) for line in part.splitlines())
            lives[facts["Id"]] = (int(facts["MainPID"]), int(facts["NRestarts"]))
        return cls(lives, tuple(_processes(living.first)))

    def restarted(self, before: "Vitals") -> list[str]:
        """The units that do not live as they did; the socket's own may have begun since."""
        return [unit for unit, life in before.lives.items() if life[0] and self.lives[unit] != life]

    def descriptors(self) -> int:
        """Of the service, the runner, the daemons; without those of people's programs and of passes."""
        return sum(each.descriptors for each in self.processes if each.unit in UNITS and not each.is_program)

    def more(self, before: "Vitals") -> str:
        """What they hold that they did not hold before, in words."""
        kinds = self._kinds() - before._kinds()
        return ", ".join(f"{number} {kind}" for kind, number in kinds.most_common(5))

    def _kinds(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for each in self.processes:
            if each.unit in UNITS and not each.is_program:
                found.update({f"{kind} of {each.unit.removesuffix('.service')}": number for kind, number in each.kinds.items()})
        return found

    def count(self) -> int:
        """Processes, without passes of the worker."""
        return sum(each.unit in UNITS for each in self.processes)

    def programs(self) -> int:
        """Programs that act as people."""
        return sum(each.is_program for each in self.processes)

    def memory(self) -> float:
        """MiB of the service, the runner and the daemons."""
        return sum(each.memory for each in self.processes if each.unit in UNITS and not each.is_program)


def listening(processes: Iterable[UnitProcess]) -> list[int]:
    """The TCP ports at which they listen (proc(5): state 0A is LISTEN)."""
    links = set()
    for each in processes:
        with suppress(OSError):
            for link in Path(f"/proc/{each.pid}/fd").iterdir():
                with suppress(OSError):
                    links.add(str(link.readlink()))
    rows = [line.split() for table in ("tcp", "tcp6") for line in Path("/proc/net", table).read_text().splitlines()[1:]]
    return sorted({int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in links})


def _kind(link: Path) -> str:
    """What a descriptor is: the name of its file, or the word before the number of a socket or pipe."""
    try:
        return link.readlink().name.partition(":[")[0]
    except OSError:
        return "closed"


def _processes(first: int) -> Iterator[UnitProcess]:
    """The processes of our units in the world whose first process that is."""
    world = Path(f"/proc/{first}/ns/pid").readlink()
    for process in everyone():
        place = Path(f"/proc/{process.pid}")
        with suppress(OSError):
            unit = _UNIT.search((place / "cgroup").read_text())
            if unit is None or (place / "ns/pid").readlink() != world:
                continue
            memory = re.search(r"^Anonymous: +(\d+)", (place / "smaps_rollup").read_text(), re.MULTILINE)
            yield UnitProcess(
                process.pid,
                unit[1],
                (place / "stat").read_text().rpartition(")")[2].split()[0],
                place.stat().st_uid,
                Counter(_kind(link) for link in (place / "fd").iterdir()),
                int(memory[1]) / 1024 if memory else 0.0,
                (place / "cmdline").read_bytes(),
            )
