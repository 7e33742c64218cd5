"""Builds of the product that are broken on purpose: the rig must find that out."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.sandbox.errors import SandboxError
from tests.sandbox.installation import Installation
from tests.sandbox.outage.disturbances import QUIET, Trouble


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

    :ivar invariant: what does not hold
    :ivar trouble: what gives it the occasion
    """

    what: str
    changes: tuple[Change, ...]
    invariant: str
    trouble: Trouble


BUILDS: Mapping[str, Broken] = {
    "repeated-submit": Broken(
        "a submission without an answer is repeated at once",
        (Change("slurm/sbatch.py", "raise OutcomeUnknownError(", "raise SchedulerUnavailableError(", times=2),),
        "doubled",
        replace(QUIET, submissions=6),
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
        "messages",
        replace(QUIET, first=("away UCloud",), live=3),
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
        "states",
        replace(QUIET, first=("away lists",), live=3),
    ),
}


def named(name: str) -> Broken:
    """The build of that name.

    :raises SandboxError: there is none
    """
    if name not in BUILDS:
        raise SandboxError(f"There is no broken build {name}; there are {', '.join(BUILDS)}.")
    return BUILDS[name]


def spoil(installation: Installation, build: Broken) -> dict[Path, bytes]:
    """Changes a copy of the product.

    :returns: the changed modules as they were
    :raises SandboxError: a text is not there, or not as often as it should be
    """
    before: dict[Path, bytes] = {}
    for change in build.changes:
        module = installation.folder / "ucloud_slurm" / change.module
        before.setdefault(module, module.read_bytes())
        text = module.read_text(encoding="utf-8")
        if text.count(change.before) != change.times:
            raise SandboxError(f"{change.module} has changed: the rig cannot break it any more ({build.what}).")
        module.write_text(text.replace(change.before, change.after), encoding="utf-8")
    return before


@contextmanager
def spoilt(installation: Installation, build: Broken) -> Iterator[None]:
    """A copy of the product is broken for a while.

    :raises SandboxError: see :func:`spoil`
    """
    before = spoil(installation, build)
    try:
        yield
    finally:
        for module, text in before.items():
            module.write_bytes(text)
