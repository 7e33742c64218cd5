"""The names by which a UCloud job is known in Slurm and to UCloud, and its own folder.

The Slurm job's name is the key: squeue and sacct match it exactly, and it stands in the first row of sacct,
while a comment reaches the accounting database only when the job ends.
"""

from __future__ import annotations

import json
import re
import unicodedata
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ucloud_slurm.ucloud.jobs import Job


LONGEST_NAME = 64


def provider_id(job_id: str) -> str:
    """The id that UCloud stores beside its own (contract: providerGeneratedId; no comma, unique)."""
    return f"ucloud-{job_id}"


def slurm_name(job: Job) -> str:
    """``ucloud-<job id>``, and behind it the user's own name for the job in letters, digits and dashes."""
    name = provider_id(job.id)
    own = unicodedata.normalize("NFKD", job.specification.name or "")
    slug = re.sub(r"[^A-Za-z0-9]+", "-", own).strip("-")
    return f"{name}-{slug}"[:LONGEST_NAME].rstrip("-") if slug else name


def comment(provider: str, job_id: str) -> str:
    """The comment of the Slurm job, for people who look at squeue."""
    return f"ucloud:{provider}:{job_id}"


def folder(template: str, home: str, user: str, job_id: str) -> str:
    """The job's folder: the configured place with ``{home}`` and ``{user}`` filled in, then the job's id."""
    return f"{template.replace('{home}', home).replace('{user}', user).rstrip('/')}/{job_id}"


def port_file(job_folder: str, rank: int) -> str:
    """The file in which a rank of the job announces the port of its web page or screen."""
    return f"{job_folder}/port-{rank}"


def label(pattern: str, job_id: str, rank: int, unique: str) -> str:
    """The name of a web session in its link.

    Each has a name of its own where it is part of the host. Where all share one host the application must know its
    path before it starts, so there the name is that of the job and the rank.

    :param pattern: ``sessions.url``
    :param unique: lower-case letters and digits
    """
    return f"{job_id}-{rank}" if pattern.endswith("*") else unique


def base_path(pattern: str | None, job_id: str, rank: int) -> str:
    """The path below which a browser finds the application; ``/`` where it has a host name of its own."""
    if pattern is None or not pattern.endswith("*"):
        return "/"
    return "/" + pattern.replace("*", label(pattern, job_id, rank, "")).split("/", 3)[3] + "/"


def fingerprint(job: Job) -> str:
    """What must be the same when the same id comes again: owner and specification.

    Status, support, updates and permissions vary from one message to the next and do not count.
    """
    # Keys in order and without what was not said: neither the order of a map nor a field that a later release
    # reads makes it another job.
    parts = [
        part.model_dump(mode="json", by_alias=True, exclude_defaults=True) for part in (job.owner, job.specification)
    ]
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
