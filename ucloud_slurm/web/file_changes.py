"""Changes of files: what takes a moment is done here, and what may take hours becomes a task."""

from collections.abc import Sequence

from ucloud_slurm.errors import Refused
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.tasks import LongWork, begin
from ucloud_slurm.ucloud.files import FileItem, FolderItem, MoveItem
from ucloud_slurm.users.files import TRASH, ConflictPolicy, CrossDeviceError, Place, Work
from ucloud_slurm.web.places import Caller, Located, below_the_drive


class FileChanges:
    """The changes of one call."""

    def __init__(self, provider: Provider, caller: Caller) -> None:
        self._provider = provider
        self._caller = caller

    def make_folder(self, item: FolderItem) -> None:
        """Makes a folder.

        :raises Problem: it cannot be made
        """
        at = below_the_drive(self._caller.located(item.id, item.resolved_collection, change=True))
        policy = ConflictPolicy(item.conflict_policy)
        name = self._caller.ask(at, lambda files, left: files.make_folder(at.place, policy, parents=False, within=left))
        self._caller.record("made the folder", at, _other_name(at, name))

    def move(self, item: MoveItem) -> None:
        """Renames something. Between two file systems it becomes a task.

        :raises Problem: it cannot be moved
        """
        # UCloud does not look at whether the drive that something is moved out of is read-only.
        source, target = self._both(item, change_source=True)
        policy = ConflictPolicy(item.conflict_policy)
        try:
            name = self._caller.ask(source, lambda files, left: files.move(source.place, target.place, policy, within=left))
        except CrossDeviceError:
            self._begin(source, [_work(Work.MOVE, source, target, policy)])
            self._caller.record("moves", source, f" to {str(target.path)!r}, as a task")
        else:
            self._caller.record("moved", source, f" to {str(target.path)!r}{_other_name(target, name)}")

    def copy(self, items: Sequence[MoveItem]) -> None:
        """Begins to copy, all or none.

        :raises Problem: one of them cannot be copied
        """
        works: list[LongWork] = []
        sources: list[Located] = []
        for item in items:
            source, target = self._both(item, change_source=False)
            sources.append(source)
            works.append(_work(Work.COPY, source, target, ConflictPolicy(item.conflict_policy)))
        if len({source.user for source in sources}) > 1:
            raise Refused("These drives are of different accounts of yours; please copy from one at a time.")
        self._begin(sources[0], works)
        for source, item in zip(sources, items, strict=True):
            self._caller.record("copies", source, f" to {item.new_id!r}, as a task")

    def trash(self, item: FileItem) -> None:
        """Moves something into the trash of its drive.

        :raises Problem: it cannot be moved
        """
        at = below_the_drive(self._caller.located(item.id, item.resolved_collection, change=True))
        if at.path.parts[0] == TRASH:
            raise Refused("It is in the trash already; empty the trash to delete it.")
        try:
            name = self._caller.ask(at, lambda files, left: files.trash(at.place, within=left))
        except CrossDeviceError:
            trash = Place(at.place.root, (TRASH,))
            self._caller.ask(
                at, lambda files, left: files.make_folder(trash, ConflictPolicy.REPLACE, parents=False, within=left)
            )
            drive = at.path.drive_id
            work = LongWork(Work.MOVE, at.place, trash.child(at.place.name), ConflictPolicy.RENAME, (drive, drive))
            self._begin(at, [work])
            self._caller.record("moves into the trash", at, ", as a task")
        else:
            self._caller.record("moved into the trash", at, _other_name(at, name))

    def empty_trash(self, item: FileItem) -> None:
        """Begins to delete what is in the trash of a drive, or something in it.

        :raises Refused: it is not the trash
        """
        at = self._caller.located(item.id, item.resolved_collection, change=True)
        if not at.path.parts or at.path.parts[0] != TRASH:
            raise Refused("Only the trash of a drive can be emptied.")
        self._begin(at, [LongWork(Work.ERASE, at.place, None, ConflictPolicy.REJECT, (at.path.drive_id,))])
        self._caller.record("empties", at, ", as a task")

    def _both(self, item: MoveItem, *, change_source: bool) -> tuple[Located, Located]:
        source = self._caller.located(item.old_id, item.resolved_old_collection, change=change_source)
        target = self._caller.located(item.new_id, item.resolved_new_collection, change=True)
        below_the_drive(source)
        below_the_drive(target)
        if source.user != target.user:
            raise Refused("These two drives are of different accounts on the cluster; download the files and upload them.")
        inside = target.place.parts[: len(source.place.parts)] == source.place.parts
        if source.place.root == target.place.root and inside and target.place != source.place:
            raise Refused("A folder cannot be put into itself.")
        return source, target

    def _begin(self, at: Located, works: Sequence[LongWork]) -> None:
        begin(self._provider, self._caller.username, at.user, works)


def _work(verb: Work, source: Located, target: Located, policy: ConflictPolicy) -> LongWork:
    return LongWork(verb, source.place, target.place, policy, (source.path.drive_id, target.path.drive_id))


def _other_name(at: Located, name: str) -> str:
    return "" if name == at.place.name else f" as {name!r}"
