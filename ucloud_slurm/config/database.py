"""The keys of the database and its backups."""

from dataclasses import dataclass
from pathlib import Path

from ucloud_slurm.config.types import Keep, Section, Size, key


@dataclass(frozen=True, kw_only=True)
class DatabaseSection(Section):
    """The SQLite database."""

    path: Path = key(
        default=Path("/var/lib/ucloud-slurm/ucloud-slurm.db"),
        description="The SQLite file, on a local disk of this host (its write-ahead log needs shared memory).",
    )
    keep: Keep = key(
        default=90 * 86400.0,
        description="How long a job is kept after its end, with its usage and the messages about it. Long enough for "
        "questions about the bill of the last quarter; at least a day, within which UCloud may repeat a create. "
        '"0s": for ever, and the file grows.',
    )
    minimum_free: Size = key(
        default=64 * 2**20,
        description="While the disk of the database has less free space, no new job is accepted. What is left serves the "
        "jobs that there are: their updates, charges and cancellations.",
    )
    backups: Path | None = key(
        default=None,
        example="/var/lib/ucloud-slurm/backups",
        description="Folder of the backups; left out: the folder backups beside the database. Choose another disk, if there "
        "is one.",
    )
    backups_kept: int = key(
        default=28,
        ge=1,
        description="How many backups are kept: a week of those that the timer makes. Those that are made before an upgrade "
        "changes the database are counted apart; 28 of them are kept.",
    )
    standby: Path | None = key(
        default=None,
        example="/shared/ucloud-slurm",
        description="Folder that two hosts see, the daemon user's alone (mode 700), if a second host is to take over: with the "
        "lease of the host that works, and copies of its database. ucloud-slurm-standby must run on both. Left out: this host "
        "works alone.",
    )

    @property
    def backup_folder(self) -> Path:
        """Where the backups are."""
        return self.backups or self.path.parent / "backups"
