"""Builds of the product that are broken on purpose: whoever looks at it must find that out."""

from collections.abc import Mapping
from dataclasses import dataclass

from tests.sandbox.errors import SandboxError
from tests.sandbox.installation import Installation


@dataclass(frozen=True, slots=True)
class Change:
    """A piece of a module's text, and what takes its place."""

    module: str
    before: str
    after: str
    times: int = 1


@dataclass(frozen=True, slots=True)
class Broken:
    """A build.

    :ivar invariants: at least one of these does not hold
    """

    what: str
    changes: tuple[Change, ...]
    invariants: tuple[str, ...]


BUILDS: Mapping[str, Broken] = {
    "repeated-submit": Broken(
        "a submission without an answer is repeated at once",
        (Change("slurm/sbatch.py", "raise OutcomeUnknownError(", "raise SchedulerUnavailableError(", times=2),),
        ("doubled",),
    ),
    "lost-row": Broken(
        "a message that waits gives its place to the next one",
        (
            Change(
                "store/outbox.py",
                '            db.table("outbox").insert(row)\n',
                "            waits = 'outcome is null and job_id = ? and kind = ?'\n"
                '            self._store.change(f"delete from outbox where {waits}", [job_id, kind])\n'
                '            db.table("outbox").insert(row)\n',
            ),
        ),
        ("messages",),
    ),
    "invented-state": Broken(
        "a Slurm that does not answer has no jobs",
        (
            Change(
                "worker/run.py",
                "        provider.breaker.record_failure(SLURM, str(error), provider.now())\n        return None\n",
                "        provider.breaker.record_failure(SLURM, str(error), provider.now())\n        return []\n",
            ),
            Change(
                "worker/poll.py",
                '            log.warning("sacct could not be asked: %s", error)\n            return None\n',
                '            log.warning("sacct could not be asked: %s", error)\n            return {}\n',
            ),
        ),
        ("states",),
    ),
}


def named(name: str) -> Broken:
    """The build of that name.

    :raises SandboxError: there is none
    """
    if name not in BUILDS:
        raise SandboxError(f"There is no broken build {name}; there are {', '.join(BUILDS)}.")
    return BUILDS[name]


def spoil(installation: Installation, build: Broken) -> None:
    """Changes a copy of the product.

    :raises SandboxError: a text is not there, or not as often as it should be
    """
    for change in build.changes:
        module = installation.folder / "ucloud_slurm" / change.module
        text = module.read_text(encoding="utf-8")
        if text.count(change.before) != change.times:
            raise SandboxError(f"{change.module} has changed: the rig cannot break it any more ({build.what}).")
        module.write_text(text.replace(change.before, change.after), encoding="utf-8")
