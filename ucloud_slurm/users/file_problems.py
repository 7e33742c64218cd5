"""The sentences that researchers read when something cannot be done with their files, and the exceptions that carry them."""

from collections.abc import Callable, Sequence

from ucloud_slurm.errors import Conflict, Forbidden, NotFound, Problem, Refused, StorageError, StorageFullError, one_line
from ucloud_slurm.users.file_failures import failure
from ucloud_slurm.users.files import CrossDeviceError, names

_SHOWN = 200  # characters of a path

_CLASSES: dict[str, tuple[Callable[[str], Problem], str]] = {
    "missing": (NotFound, "{path} does not exist."),
    "no-root": (
        NotFound,
        "The folder of this drive does not exist on the cluster. Log in to the cluster once, so that it is made; if that does "
        "not help, ask the cluster's support.",
    ),
    "denied": (Forbidden, "The cluster refuses this to your account there: you have no permission for {path}."),
    "read-only": (Forbidden, "{path} is on a file system of the cluster that cannot be written."),
    "leads-out": (Forbidden, "{path} leads out of this drive by a link, which is not followed. Open it in a shell."),
    "exists": (Conflict, "{path} exists already."),
    "is-folder": (Refused, "{path} is a folder."),
    "no-folder": (Refused, "{path} is not a folder, or is in something that is not one."),
    "no-file": (Refused, "{path} is not a file: it is a pipe, a device or a socket."),
    "inside": (Refused, "A folder cannot be copied or moved into itself."),
    "impossible": (Refused, "{path} cannot be moved there; a folder, for example, does not go into itself."),
    "too-long": (Refused, "The path {path} is too long for the cluster's file system."),
    "too-large": (Refused, "{path} would be larger than a file may be there."),
    "too-deep": (Refused, "{path} has too many folders in folders; use a shell for it."),
    "too-slow": (Refused, "This folder is too large to be shown; open it in a shell."),
    "cursor": (Refused, "The folder has changed too much to be shown further in this order; open it again."),
    "root": (Refused, "The folder of the drive itself cannot be changed."),
    "trash": (Refused, "Only what is in the trash can be deleted for good, and it cannot be moved to the trash again."),
    "reserved": (Refused, "Names like that of {path} are for uploads that are not complete; choose another one."),
    "no-part": (Conflict, "What was uploaded of {path} so far is not there any more; upload it again."),
    "wrong-size": (Conflict, "The upload of {path} is not complete."),
    "busy": (Conflict, "{path} is being changed or used at the moment; try again."),
    "not-copied": (Conflict, "{path} was not moved: parts of it cannot be read by you, or are no files."),
    "not-deleted": (Forbidden, "Not everything in {path} could be deleted: parts of it are not yours."),
    "full": (StorageFullError, "The cluster's file system is full; delete something there, or ask the cluster's support."),
    "quota": (StorageFullError, "Your quota on the cluster is used up; delete something and try again."),
    "storage": (StorageError, "The cluster's file system reported an error for {path}; try again later."),
    "other-device": (CrossDeviceError, "{path} is on another file system of the cluster."),
}


def problem(kind: str, parts: Sequence[str]) -> Problem:
    """The problem of a kind (:data:`ucloud_slurm.users.file_failures.KINDS`); of no known kind: an error of the storage.

    :param parts: the names that it is about, in the drive
    """
    make, sentence = _CLASSES.get(kind, _CLASSES["storage"])
    return make(sentence.format(path=f'"{one_line(names(parts), _SHOWN)}"'))


def problem_of(error: OSError, parts: Sequence[str]) -> Problem:
    """The problem that an error of reading or writing an open file is: no quota, for example."""
    return problem(failure(error).kind, parts)
