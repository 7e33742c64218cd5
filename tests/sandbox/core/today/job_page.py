"""What the web page of today's UCloud makes of the status texts of a job's updates (webclient, Applications/Jobs/View.tsx)."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from tests.sandbox.core.jobs import CoreJob

Json = dict[str, Any]
SSH = "SSH:"
TARGET = "Target: "


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


def targets(job: CoreJob) -> list[tuple[int, str]]:
    """Rank and name of the further web pages for which the page of a running job asks for sessions.

    :raises ValueError: a line that the page cannot read, so that nothing of it is shown any more
    """
    if job.state != "RUNNING":
        return []
    lines = [line for text in _texts(job.updates) for line in text.split("\n") if line.startswith(TARGET)]
    found = [json.loads(line.removeprefix(TARGET)) for line in lines]
    return [(each["rank"], each["target"]) for each in found if each.get("defaultName") is None and each["type"] == "WEB"]


def _texts(updates: Sequence[Json]) -> Iterator[str]:
    for update in updates:
        if update["status"]:
            yield update["status"]
