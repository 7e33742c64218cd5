"""Long changes of files as rows of the table ``tasks``: what is written into them, and read out again."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from ucloud_slurm.errors import one_line
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.store.tasks import NewTask, Task
from ucloud_slurm.users.files import ConflictPolicy, Place, Work

_TITLES = {Work.COPY: "Copying {source} to {target}", Work.MOVE: "Moving {source} to {target}", Work.ERASE: "Deleting {source}"}
_TITLE_CHARACTERS = 120  # of each name in it


@dataclass(frozen=True, slots=True)
class LongWork:
    """A change of files that may take hours.

    :ivar source: of a copy or move; for ``ERASE`` what is deleted
    :ivar target: with the name that it shall have; None for ``ERASE``
    """

    verb: Work
    source: Place
    target: Place | None
    policy: ConflictPolicy

    @property
    def title(self) -> str:
        """What the user reads."""
        target = "" if self.target is None else _named(self.target.parent)
        return _TITLES[self.verb].format(source=_named(self.source), target=target)


def begin(provider: Provider, username: str, local_user: str, works: Sequence[LongWork]) -> None:
    """Writes tasks, all or none; the file unit begins with them within seconds.

    :param username: the user of UCloud who acts
    :param local_user: the Unix user whose rights count
    :raises TooMany: the user has too many that have not ended
    """
    tasks = [NewTask(work.verb, username, local_user, _written(work), work.title) for work in works]
    provider.tasks.add(tasks, provider.now())


def work_of(task: Task) -> LongWork:
    """What a task does."""
    data = json.loads(task.work)
    target = data["target"]
    return LongWork(Work(task.kind), _place(**data["source"]), target and _place(**target), ConflictPolicy(data["policy"]))


def _written(work: LongWork) -> str:
    return json.dumps({"source": asdict(work.source), "target": work.target and asdict(work.target), "policy": work.policy})


def _place(root: str, parts: list[str]) -> Place:
    return Place(root, tuple(parts))


def _named(place: Place) -> str:
    return one_line(place.name, _TITLE_CHARACTERS) or "the drive"
