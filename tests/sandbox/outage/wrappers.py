"""Programs in front of Slurm's commands, which now and then spoil an answer."""

import random
import shutil
import threading
from collections import Counter
from pathlib import Path

from tests.sandbox.cluster import Cluster
from tests.sandbox.outage.tools import distort

# What each command can be made to do. Where it submits or changes something, that is done all the same.
READS = ("hangs-before", "unreachable", "nothing", "garbage", "half", "foreign", "unknown-state", "noise")
FAULTS: dict[str, tuple[str, ...]] = {
    "sbatch": ("hangs-after", "fails-after", "dies-after", "garbage", "half", "noise", "hangs-before", "unreachable"),
    "squeue": READS,
    "sacct": READS,
    "scancel": ("hangs-before", "hangs-after", "unreachable", "fails-after"),
    "scontrol": ("hangs-before", "hangs-after", "unreachable", "fails-after"),
    "sdiag": ("hangs-before", "unreachable", "nothing", "garbage", "half", "noise"),
    "sinfo": ("hangs-before", "unreachable", "nothing", "garbage", "half", "noise"),
}
PLAIN = ("sacctmgr", "srun")
# The token is taken by its renaming, so that one call meets it.
STUB = """#!/bin/sh
F={tokens}/{name}
if [ -e "$F.away" ]; then
    : > "{tokens}/met.{name}.$$.{away}"
    exec /usr/bin/python3 -I -S {distort} {away} {real} "$@"
fi
if [ -e "$F" ] && mv "$F" "$F.$$" 2>/dev/null; then
    read -r KIND < "$F.$$"
    mv "$F.$$" "{tokens}/met.{name}.$$.$KIND"
    exec /usr/bin/python3 -I -S {distort} "$KIND" {real} "$@"
fi
exec {plain} "$@"
"""
SUBMISSIONS = "submissions"
AWAY = "unreachable"


class Wrappers:
    """A folder of commands for ``slurm.commands``. The people's own programs run them too, so root owns them."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        """Writes them.

        :param folder: is made; people must be able to reach it
        """
        self.folder = folder / "commands"
        self._tokens = folder / "tokens"
        self.folder.mkdir(parents=True)
        self._tokens.mkdir()
        for path in (folder, self.folder):
            path.chmod(0o755)
        self._tokens.chmod(0o777)
        program = self.folder / "distort.py"
        shutil.copy(distort.__file__, program)
        program.chmod(0o644)
        for name in FAULTS:
            stub = self.folder / name
            real = cluster.commands / name
            counted = f"/usr/bin/python3 -I -S {program} {distort.COUNTED} {real}"
            plain = counted if name == "sbatch" else str(real)
            text = STUB.format(tokens=self._tokens, name=name, away=AWAY, distort=program, real=real, plain=plain)
            stub.write_text(text, encoding="utf-8")
            stub.chmod(0o755)
        for name in PLAIN:
            (self.folder / name).symlink_to(cluster.commands / name)

    def spoil(self, command: str, kind: str) -> None:
        """The next call of the command is spoilt, in place of what was to be done to it before."""
        draft = self._tokens / f"draft.{command}"
        draft.write_text(f"{kind}\n", encoding="utf-8")
        draft.replace(self._tokens / command)

    def spoil_one(self, chance: random.Random) -> None:
        """Spoils the next call of some command in some way."""
        command = chance.choice([*FAULTS, "sbatch", "squeue", "sacct"])
        self.spoil(command, chance.choice(FAULTS[command]))

    def spoil_submissions(self, every: int) -> None:
        """Of every so many submissions that Slurm has done, one is spoilt: its answer is lost."""
        count = self._tokens / SUBMISSIONS
        count.write_text(f"0 {every}\n", encoding="utf-8")
        count.chmod(0o666)

    def clear(self) -> None:
        """No single call is spoilt any more."""
        for command in FAULTS:
            (self._tokens / command).unlink(missing_ok=True)

    def away(self, command: str, *, on: bool) -> None:
        """Slurm answers no call of the command, until that is over."""
        token = self._tokens / f"{command}.away"
        token.touch() if on else token.unlink(missing_ok=True)

    def calm(self) -> None:
        """Nothing is spoilt any more."""
        self.clear()
        for command in FAULTS:
            self.away(command, on=False)
        (self._tokens / SUBMISSIONS).unlink(missing_ok=True)

    def met(self) -> Counter[str]:
        """How often a call was spoilt, by command and kind."""
        found: Counter[str] = Counter()
        for path in self._tokens.glob("met.*"):
            _, command, _, kind = path.name.split(".")
            found[f"{command} {kind}"] += 1
        return found


class Lists:
    """squeue and sacct as a part that goes away, as if there were too much to list: the other commands are answered."""

    name = "lists"
    _commands = ("squeue", "sacct")

    def __init__(self, wrappers: Wrappers) -> None:
        self._wrappers = wrappers

    def stop(self) -> bool:
        """See :class:`.Part`."""
        for command in self._commands:
            self._wrappers.away(command, on=True)
        return True

    kill = stop

    def freeze(self, over: threading.Event, seconds: float) -> bool:
        """See :class:`.Part`."""
        self.stop()
        over.wait(seconds)
        self.start()
        return True

    def start(self) -> None:
        """See :class:`.Part`."""
        for command in self._commands:
            self._wrappers.away(command, on=False)
