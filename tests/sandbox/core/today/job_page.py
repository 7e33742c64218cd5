"""What the web page of today's UCloud makes of the status texts of a job's updates (webclient, Applications/Jobs/View.tsx)."""

from collections.abc import Iterator, Sequence
from typing import Any

from tests.sandbox.core.jobs import CoreJob

Json = dict[str, Any]
SSH = "SSH:"


def messages(job: CoreJob) -> list[str]:
    """The texts that are printed: not those that begin as a line for a box does."""
    return [text for text in _texts(job.updates) if not text.startswith((SSH, "Target:"))]


def ssh_command(job: CoreJob) -> str | None:
    """The command in the box SSH, which is there while the job runs; None where there is no such box."""
    if job.state != "RUNNING":
        return None
    for text in reversed(list(_texts(job.updates))):
        for line in text.split("\n"):
            if not line.startswith(SSH):
                continue
            # The page reads a word up to the blank behind it: without a blank there is none.
            words = line.removeprefix(SSH).lstrip().split(" ", 3)
            if words[0] == "Connected!" and words[1:3] == ["Available", "at:"]:
                return words[3].lstrip()
    return None


def _texts(updates: Sequence[Json]) -> Iterator[str]:
    for update in updates:
        if update["status"]:
            yield update["status"]
