"""Names that are derived from a job: its Slurm job, its folder and files, its web sessions, its fingerprint.

The name of the Slurm job is the key by which a job is found: squeue and sacct match a name exactly, and sacct has it
from the first row on, while a comment reaches the accounting database only when the job ends.
"""

from __future__ import annotations

import json
import re
import unicodedata
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ucloud_slurm.ucloud.jobs import Job

MAX_NAME_CHARACTERS = 64
SCRIPT_NAME = "job.sh"
PORT_FILE_PREFIX = "port-"


class LocalUser(NamedTuple):
    """The Unix user that a job runs as, with its home folder and its login shell."""

    user: str
    home: str
    shell: str
    uid: int | None = None  # None: the account does not exist


class JobPaths(NamedTuple):
    """A job's folder and the files in it. No other module knows this layout, except for the whitelist of as_user.

    :ivar folder: absolute path
    """

    folder: str

    @classmethod
    def of(cls, template: str, user: LocalUser, job_id: str) -> JobPaths:
        """The paths of a job.

        :param template: ``jobs.folder``, in which ``{home}`` and ``{user}`` are filled in
        """
        parent = template.replace("{home}", user.home).replace("{user}", user.user).rstrip("/")
        return cls(f"{parent}/{job_id}")

    @property
    def host_file(self) -> str:
        """The file with the names of the job's nodes, one in each line."""
        return f"{self.folder}/hostfile"

    def log(self, stream: str, rank: int | str) -> str:
        """The file that ``stdout`` or ``stderr`` of a rank is written to."""
        return f"{self.folder}/{stream}-{rank}.log"

    def log_pattern(self, stream: str) -> str:
        """The same file of every rank, as srun --output takes it in the job's folder.

        It has no folder: where a path has a backslash, srun replaces no pattern.
        """
        return f"{stream}-%t.log"

    def port_file(self, rank: int) -> str:
        """The file in which a rank announces the port of its web page or screen."""
        return f"{self.folder}/{PORT_FILE_PREFIX}{rank}"


def provider_id(job_id: str) -> str:
    """The id that UCloud stores beside its own (contract: providerGeneratedId; no comma, unique)."""
    return f"ucloud-{job_id}"


def slurm_name(job: Job) -> str:
    """``ucloud-<job id>``, followed by the name that the owner gave the job, in letters, digits and dashes."""
    name = provider_id(job.id)
    own = unicodedata.normalize("NFKD", job.specification.name or "")
    slug = re.sub(r"[^A-Za-z0-9]+", "-", own).strip("-")
    return f"{name}-{slug}"[:MAX_NAME_CHARACTERS].rstrip("-") if slug else name


def comment(provider: str, job_id: str) -> str:
    """The comment of the Slurm job, for readers of squeue."""
    return f"ucloud:{provider}:{job_id}"


def nonce(secret: str, attempt: int) -> str:
    """What an attempt adds to the comment of its Slurm job; nobody can know it before the attempt.

    :param secret: the job's own
    """
    return sha256(f"{secret}:{attempt}".encode()).hexdigest()[:16]


def label(pattern: str, job_id: str, rank: int, unique: str) -> str:
    """The name of a web session in its URL.

    A session has a unique name where the name is part of the host. Where all sessions share one host, the application
    must know its path before it starts, so the name is made of job and rank.

    :param pattern: ``sessions.url``
    :param unique: lower-case letters and digits
    """
    return f"{job_id}-{rank}" if pattern.endswith("*") else unique


def base_path(pattern: str | None, job_id: str, rank: int) -> str:
    """The path below which a browser finds the application; ``/`` where each session has a host name of its own."""
    if pattern is None or not pattern.endswith("*"):
        return "/"
    return "/" + pattern.replace("*", label(pattern, job_id, rank, "")).split("/", 3)[3] + "/"


def fingerprint(job: Job) -> str:
    """A hash over owner and specification, which must be equal when the same job id comes again.

    Status, support, updates and permissions differ from one message to the next and are left out.
    """
    # Sorted keys without defaults: neither the order of a map nor a field that a later release reads makes another job.
    parts = [part.model_dump(mode="json", by_alias=True, exclude_defaults=True) for part in (job.owner, job.specification)]
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
