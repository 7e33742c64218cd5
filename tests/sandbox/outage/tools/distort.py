"""Runs one of Slurm's commands and spoils its answer: ``distort.py KIND COMMAND ARGUMENT...``; only what Python brings."""

import fcntl
import os
import re
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

HANG_SECONDS = 60.0
TIMED_OUT = "error: Unable to contact slurm controller (connect failure)\n"
SUBMIT_TIMED_OUT = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation\n"
SEPARATOR = "\x1f"
A_DAY = 24 * 3600  # more than clocks may differ: slurmctld has no older job under a number that it has just given
COUNTED = "counted"
AFTER = ("fails-after", "dies-after", "hangs-after", "half", "garbage")
TOKENS = Path(__file__).parent.parent / "tokens"


def main() -> None:
    """Does what the kind says."""
    kind, command, *arguments = sys.argv[1:]
    if kind == "hangs-before":
        time.sleep(HANG_SECONDS)
    if kind == "unreachable":
        _end("", TIMED_OUT, 1)
    if kind == "nothing":  # an empty list that is none: Slurm's commands print it while the controller is away
        _end("", f"{command.rpartition('/')[2]}: {TIMED_OUT}", 0)
    done = subprocess.run([command, *arguments], capture_output=True, text=True, check=False)
    if kind == COUNTED:
        kind = _due() if done.returncode == 0 else ""
    if kind == "hangs-after":
        time.sleep(HANG_SECONDS)
    if kind == "fails-after":
        _end("", SUBMIT_TIMED_OUT if "sbatch" in command else TIMED_OUT, 1)
    if kind == "dies-after":
        os.kill(os.getpid(), 9)
    spoilt = _spoilt(kind, done.stdout, arguments)
    noise = "error: spank: plugin x11.so: cannot open shared object\n" if kind == "noise" else done.stderr
    _end(spoilt, noise, done.returncode)


def _due() -> str:
    """How this submission, which Slurm has, is spoilt: every so many of them are, each time in the next way.

    :returns: nothing where it is not
    """
    with suppress(FileNotFoundError), (TOKENS / "submissions").open("r+") as count:
        fcntl.flock(count, fcntl.LOCK_EX)
        number, every = (int(word) for word in count.read().split())
        count.seek(0)
        count.write(f"{number + 1} {every}\n")
        if number % every == every // 2:
            kind = AFTER[number // every % len(AFTER)]
            (TOKENS / f"met.sbatch.{os.getpid()}.{kind}").touch()
            return kind
    return ""


def _spoilt(kind: str, printed: str, arguments: list[str]) -> str:
    if kind == "garbage":
        return "Submitted batch job\n\x00\x01\n"
    if kind == "half":
        return printed[: len(printed) // 2]
    if kind == "unknown-state":
        return re.sub(r"\b(RUNNING|COMPLETED|PENDING)\b", "DREAMING", printed)
    if kind == "foreign":  # other jobs have these numbers: they were submitted a day before
        return "".join(earlier(line, arguments) for line in printed.splitlines(keepends=True))
    return printed


def earlier(line: str, arguments: list[str]) -> str:
    """A row of a job that was submitted a day before.

    :param arguments: of squeue or sacct, which say where the time of submission stands
    """
    given = dict(word.partition("=")[::2] for word in arguments)
    delimiter = given.get("--delimiter", SEPARATOR)
    names = [name.partition(":")[0] for name in (given.get("--format") or given.get("--Format") or "").split(",")]
    places = [place for place, name in enumerate(names) if name in ("SubmitTime", "Submit")]
    fields = line.split(delimiter)
    for place in places:
        if place < len(fields) and fields[place].isdigit():
            fields[place] = str(int(fields[place]) - A_DAY)
    return delimiter.join(fields)


def _end(printed: str, errors: str, status: int) -> None:
    sys.stdout.write(printed)
    sys.stdout.flush()
    sys.stderr.write(errors)
    sys.exit(status)


if __name__ == "__main__":
    main()
