"""A program that starts commands, one after the other, and says how long each took.

It runs as the account that the commands are to run as, and imports little: a large process, or one that changes the
account at each start, makes a bare command look slower than it is from a shell. A question is a line of JSON, and so
is its answer. For several at a time, start several of these.
"""

import json
import os
import sys
import time
from typing import Any


def measured(argv: list[str], env: dict[str, str], stdin: str, times: int) -> dict[str, Any]:
    """Runs a command so many times.

    :param stdin: a file
    :returns: begin and end by the clock of the machine in seconds, the time of each in ms, the peak of memory in KiB,
        what was written to the disk in bytes and the seconds of a processor, the command's own children included
    """
    files = [(os.POSIX_SPAWN_OPEN, 0, stdin, os.O_RDONLY, 0), (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    took, peak, written, spent, statuses = [], 0, 0, 0.0, []
    first = time.perf_counter()
    for _ in range(times):
        begun = time.perf_counter()
        pid = os.posix_spawn(argv[0], argv, env, file_actions=files)
        _, status, usage = os.wait4(pid, 0)
        took.append((time.perf_counter() - begun) * 1000)
        peak = max(peak, usage.ru_maxrss)
        written += usage.ru_oublock * 512  # getrusage(2): blocks of 512 bytes
        spent += usage.ru_utime + usage.ru_stime
        statuses.append(os.waitstatus_to_exitcode(status))
    return {
        "begun": first,
        "ended": time.perf_counter(),
        "took": took,
        "peak": peak,
        "written": written,
        "spent": spent,
        "worst": max(statuses, key=abs, default=0),
    }


def main() -> None:
    """Answers until there is no further question."""
    for question in sys.stdin:
        print(json.dumps(measured(**json.loads(question))), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
