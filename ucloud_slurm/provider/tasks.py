"""Long changes of files as rows of the table ``tasks``: what is written into them, and read out again."""

import json
from collections.abc import Sequence
from typing import NamedTuple

from ucloud_slurm.errors import one_line
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.drives import check_writable, resolve_again
from ucloud_slurm.store.tasks import NewTask, Task
from ucloud_slurm.users.files import ConflictPolicy, Place, Work

_TITLES = {Work.COPY: "Copying {source} to {target}", Work.MOVE: "Moving {source} to {target}", Work.ERASE: "Deleting {source}"}
_TITLE_CHARACTERS = 120  # of each name in it


class LongWork(NamedTuple):
    """A change of files that may take hours.

    :ivar source: of a copy or move; for ``ERASE`` what is deleted
    :ivar target: with the name that it shall have; None for ``ERASE``
    :ivar drives: UCloud's ids of the drives that they are in, in that order
    """

    verb: Work
    source: Place
    target: Place | None
    policy: ConflictPolicy
    drives: tuple[str, ...]

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


def check(provider: Provider, task: Task, work: LongWork, within: float) -> None:
    """Sees that a task may still be done: it may have waited for long.

    :param within: seconds for the mapping of users, and UCloud
    :raises Problem: its user or a drive is not there any more, or is another one; of 500 or more: that is not known now
    """
    for drive_id, place in zip(work.drives, (work.source, work.target), strict=False):
        if place is not None:
            found = resolve_again(provider, drive_id, place, task.username, task.local_user, within)
            if place is work.target or work.verb is not Work.COPY:
                check_writable(found)


def work_of(task: Task) -> LongWork:
    """What a task does."""
    data = json.loads(task.work)
    target = data["target"]
    places = _place(**data["source"]), target and _place(**target)
    return LongWork(Work(task.kind), *places, ConflictPolicy(data["policy"]), tuple(data["drives"]))


def _written(work: LongWork) -> str:
    places = {"source": work.source._asdict(), "target": work.target and work.target._asdict()}
    return json.dumps(places | {"policy": work.policy, "drives": work.drives})


def _place(root: str, parts: list[str]) -> Place:
    return Place(root, tuple(parts))


def _named(place: Place) -> str:
    return one_line(place.name, _TITLE_CHARACTERS) or "the drive"
