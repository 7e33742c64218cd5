"""The packets of long work with a user's files (:meth:`ucloud_slurm.users.files.FilesAs.work`), as the service reads them.

Each packet is a JSON object: ``entries`` and ``bytes``, which are done so far; in the last one also ``name`` and ``skipped``,
or ``failed`` and ``target``. The user's own processes could have written them: nothing else in them counts.
"""

import json
import socket
from collections.abc import Sequence
from typing import Any, NamedTuple

from ucloud_slurm.errors import Problem
from ucloud_slurm.system import ipc
from ucloud_slurm.users.asked_files import FilesNotAnsweringError
from ucloud_slurm.users.file_problems import problem

PACKET_BYTES = 8192
_LIMIT = 1 << 63


class Progress(NamedTuple):
    """How far it is.

    :ivar entries: files, folders and links that are done
    :ivar size: bytes that are copied
    """

    entries: int
    size: int


class Finished(NamedTuple):
    """It has ended.

    :ivar skipped: entries that were not copied, since they are no files or cannot be read
    :ivar problem: why it could not be done, or not all of it; None: it is done
    """

    entries: int
    size: int
    skipped: int = 0
    problem: Problem | None = None


def read_progress(
    channel: socket.socket, source: Sequence[str], target: Sequence[str] | None, within: float
) -> Progress | Finished | None:
    """The next packet.

    :param source: the names in the drive, for the sentences; so is ``target``
    :param within: seconds; None is returned after them, which says nothing: a file system may hang
    :raises FilesNotAnsweringError: the process has ended without a result; it can be begun again with the same key
    """
    channel.settimeout(max(within, 0.001))
    try:
        data = ipc.take(channel, PACKET_BYTES)
    except TimeoutError:
        return None
    except (OSError, ipc.MessageError) as error:
        raise FilesNotAnsweringError(f"the process has ended ({error})") from None
    if not data:
        raise FilesNotAnsweringError("the process has ended without a result")
    try:
        packet = json.loads(data)
    except (ValueError, RecursionError):
        packet = None
    if not isinstance(packet, dict):
        raise FilesNotAnsweringError("the process says what cannot be read")
    entries, size = _count(packet, "entries"), _count(packet, "bytes")
    if "failed" in packet:
        about = target if packet.get("target") is True and target is not None else source
        return Finished(entries, size, problem=problem(str(packet["failed"])[:40], about))
    if "name" in packet:
        return Finished(entries, size, _count(packet, "skipped"))
    return Progress(entries, size)


def _count(packet: dict[str, Any], key: str) -> int:
    value = packet.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LIMIT else 0
