"""The verbs about files of ``ucloud-slurm-as-user``: each request has one exact form, and acts below the root that it names.

Loaded with the first of them: a program that only submits jobs starts without it. What is opened is sent over the socket that
came with the request. :mod:`ucloud_slurm.users.asked_files` is the other side.
"""

import os
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ucloud_slurm.errors import InvalidRequestError
from ucloud_slurm.system import beneath, listing, parts, placing, terminal
from ucloud_slurm.system.trees import opened
from ucloud_slurm.users import file_failures, file_jobs, folder_shell
from ucloud_slurm.users.file_failures import FailureError, failure
from ucloud_slurm.users.file_jobs import TRASH, At
from ucloud_slurm.users.pump import Begin

MOST_ROWS = 500  # of a page: an answer has 1 MiB, and JSON writes some characters in six
MOST_BYTES = 4095  # of all names
MOST_CURSOR = 400

Message = dict[str, Any]
Check = Callable[[object], bool]
Launch = Callable[[int, Begin], None]

_KEY = re.compile(r"[0-9a-f]{16}")
_EVERY = frozenset({"form", "user", "verb", "deadline"})  # of every request
_NUMBER_LIMIT = 1 << 63


def is_root(value: object) -> bool:
    """Whether it is an absolute path of names, and not that of the root of all."""
    text = value if isinstance(value, str) else ""
    folders = text.split("/")[1:]
    return text.startswith("/") and len(text) <= MOST_BYTES and bool(folders) and all(is_name(each) for each in folders)


def is_name(value: object) -> bool:
    """Whether it can be the name of an entry in a folder."""
    if not isinstance(value, str) or value in ("", ".", "..") or "/" in value or "\0" in value:
        return False
    try:
        return len(value.encode()) <= placing.NAME_BYTES
    except UnicodeEncodeError:
        return False


def are_parts(value: object) -> bool:
    """Whether it is a list of names."""
    if not isinstance(value, list) or not all(is_name(each) for each in value):
        return False
    return len("/".join(value).encode()) <= MOST_BYTES


def is_cursor(value: object) -> bool:
    """Whether it can be a cursor, or none."""
    return value is None or (isinstance(value, str) and 0 < len(value) <= MOST_CURSOR)


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _NUMBER_LIMIT


def _is_time(value: object) -> bool:
    """Milliseconds, of which a file system may hold nanoseconds."""
    return value is None or (_is_number(value) and isinstance(value, int) and value < _NUMBER_LIMIT // 10**6)


def _is_part(value: object) -> bool:
    return isinstance(value, str) and parts.PART.fullmatch(value) is not None


def _is_key(value: object) -> bool:
    return isinstance(value, str) and _KEY.fullmatch(value) is not None


def _up_to(most: int) -> Check:
    return lambda value: _is_number(value) and isinstance(value, int) and 1 <= value <= most


def _one_of(*words: str) -> Check:
    return lambda value: isinstance(value, str) and value in words


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


_PLACE: dict[str, Check] = {"root": is_root, "parts": are_parts}
_POLICY: dict[str, Check] = {"policy": _one_of(*placing.POLICIES)}
_FORMS: dict[str, dict[str, Check]] = {
    "list": _PLACE
    | {"after": is_cursor, "most": _up_to(MOST_ROWS), "by": _one_of("PATH", "MODIFIED_AT", "SIZE")}
    | {"descending": _is_bool, "hidden": _is_bool},
    "stat": _PLACE,
    "read": _PLACE,
    "begin": _PLACE | _POLICY | {"parents": _is_bool},
    "resume": _PLACE | {"part": _is_part},
    "finish": _PLACE | _POLICY | {"part": _is_part, "size": _is_number, "modified": _is_time},
    "drop": _PLACE | {"part": _is_part},
    "make-folder": _PLACE | _POLICY | {"parents": _is_bool},
    "move": _PLACE | _POLICY | {"to_root": is_root, "to_parts": are_parts},
    "trash": _PLACE,
    "shell": _PLACE | dict.fromkeys(("cols", "rows"), _up_to(terminal.LARGEST_SIZE)),
    "work": _PLACE
    | _POLICY
    | {"work": _one_of(file_jobs.COPY, file_jobs.MOVE, file_jobs.ERASE), "key": _is_key}
    | {"to_root": _or_none(is_root), "to_parts": _or_none(are_parts)},
}
WITH_SOCKET = frozenset({"read", "begin", "resume", "work", "shell"})


def answer(message: Message, descriptors: Sequence[int], late: Callable[[], bool], launch: Launch) -> Message:
    """Serves a request.

    :param descriptors: one end of a socket of packets where the answer is more than a message
    :param late: whether its time is over
    :param launch: runs work in a process or thread of its own, with a copy of that socket
    :raises InvalidRequestError: it is not in its form; nothing was done
    """
    verb = message.get("verb")
    form = _FORMS.get(verb) if isinstance(verb, str) else None
    if form is None or not isinstance(verb, str):
        raise InvalidRequestError("there is no such verb")
    if message.keys() - _EVERY != form.keys() or bool(descriptors) != (verb in WITH_SOCKET):
        raise InvalidRequestError(f"{verb}: not its form")
    wrong = next((key for key, check in form.items() if not check(message[key])), None)
    if wrong is not None:
        raise InvalidRequestError(f"{wrong}: not in its form")
    try:
        if verb == "work":
            return _work(message, descriptors[0], launch)
        with opened(_root(message["root"])) as root:
            names = _names(message["parts"])
            if verb == "list":
                return _list(message, root, names, late)
            if verb in ("move", "trash"):
                return _move(message, root, names) if verb == "move" else _trash(root, names)
            if verb == "shell":
                folder_shell.check(root, names)
                launch(descriptors[0], folder_shell.begin(message["root"], names, message["cols"], message["rows"]))
                return {}
            return _VERBS[verb](message, root, names, *descriptors)
    except file_failures.FAILURES as error:
        return file_failures.answer(failure(error))


def _names(values: Sequence[str]) -> tuple[bytes, ...]:
    return tuple(value.encode() for value in values)


def _root(path: str, *, target: bool = False) -> int:
    try:
        return beneath.open_root(path)
    except OSError as error:
        kind = "no-root" if isinstance(error, (FileNotFoundError, NotADirectoryError)) else failure(error).kind
        raise FailureError(kind, target=target) from None


@contextmanager
def _parent(root: int, names: Sequence[bytes], *, make: bool = False) -> Iterator[tuple[int, bytes]]:
    """The folder that something is in, and its name there."""
    if not names:
        raise FailureError("root")
    with opened(placing.make_all(root, names[:-1]) if make else beneath.open_beneath(root, names[:-1], folder=True)) as folder:
        yield folder, names[-1]


@contextmanager
def _new_parent(root: int, names: Sequence[bytes], *, make: bool) -> Iterator[tuple[int, bytes]]:
    if names and parts.is_reserved(names[-1]):
        raise FailureError("reserved")
    with _parent(root, names, make=make) as (folder, name):
        yield folder, name


def _list(message: Message, root: int, names: Sequence[bytes], late: Callable[[], bool]) -> Message:
    wanted = {key: message[key] for key in ("after", "most", "by", "descending", "hidden")}
    page = listing.page(root, names, **wanted, late=late)
    return {"rows": page.rows, "after": page.after, "unreadable": page.unreadable}


def _stat(_message: Message, root: int, names: Sequence[bytes]) -> Message:
    if not names:
        return {"row": listing.row_of_root(root)}
    with _parent(root, names) as (folder, name):
        return {"row": listing.row(root, names[:-1], folder, name)}


def _read(_message: Message, root: int, names: Sequence[bytes], channel: int) -> Message:
    with opened(beneath.open_beneath(root, names)) as place:
        descriptor = beneath.open_regular(place, os.O_RDONLY)
        if descriptor is None:
            raise FailureError("is-folder" if listing.kind_of(os.fstat(place)) == "folder" else "no-file")
    with opened(descriptor):
        _send(channel, descriptor)
    return {}


def _begin(message: Message, root: int, names: Sequence[bytes], channel: int) -> Message:
    with _new_parent(root, names, make=message["parents"]) as (folder, name):
        part, descriptor = parts.begin(folder, name, message["policy"])
        try:
            with opened(descriptor):
                _send(channel, descriptor)
        except BaseException:
            parts.drop(folder, part)
            raise
    return {"part": part.decode()}


def _resume(message: Message, root: int, names: Sequence[bytes], channel: int) -> Message:
    with _parent(root, names) as (folder, _), opened(parts.resume(folder, message["part"].encode())) as descriptor:
        _send(channel, descriptor)
    return {}


def _finish(message: Message, root: int, names: Sequence[bytes]) -> Message:
    with _new_parent(root, names, make=False) as (folder, name):
        facts = {"size": message["size"], "modified_ms": message["modified"]}
        return {"name": parts.finish(folder, message["part"].encode(), name, message["policy"], **facts).decode()}


def _drop(message: Message, root: int, names: Sequence[bytes]) -> Message:
    try:
        with _parent(root, names) as (folder, _):
            parts.drop(folder, message["part"].encode())
    except FileNotFoundError:
        pass
    return {}


def _make_folder(message: Message, root: int, names: Sequence[bytes]) -> Message:
    with _new_parent(root, names, make=message["parents"]) as (folder, name):
        return {"name": placing.make(folder, name, message["policy"]).decode()}


def _move(message: Message, root: int, names: Sequence[bytes]) -> Message:
    with _parent(root, names) as (folder, name), opened(_root(message["to_root"], target=True)) as to_root:
        beneath.status(folder, name)
        try:
            with _new_parent(to_root, _names(message["to_parts"]), make=False) as (to_folder, to_name):
                if name == to_name and os.path.samestat(os.fstat(folder), os.fstat(to_folder)):
                    return {"name": name.decode()}
                return {"name": placing.put(folder, name, to_folder, to_name, message["policy"]).decode()}
        except file_failures.FAILURES as error:
            raise failure(error, target=True) from None


def _trash(root: int, names: Sequence[bytes]) -> Message:
    if names[:1] == (TRASH,):
        raise FailureError("trash")
    with _parent(root, names) as (folder, name):
        beneath.status(folder, name)
        try:
            placing.make(root, TRASH, placing.REPLACE)
        except FileExistsError as error:  # it is no folder
            raise failure(error, target=True) from None
        with opened(beneath.open_beneath(root, (TRASH,), folder=True, links=False)) as trash:
            return {"name": placing.put(folder, name, trash, name, placing.RENAME).decode()}


def _work(message: Message, channel: int, launch: Launch) -> Message:
    source: At = message["root"], _names(message["parts"])
    target: At | None = None
    if (message["work"] == file_jobs.ERASE) == (message["to_root"] is not None or message["to_parts"] is not None):
        raise InvalidRequestError("work: only a copy and a move have a target")
    if message["to_root"] is not None:
        target = message["to_root"], _names(message["to_parts"] or [])
        if target[1] and parts.is_reserved(target[1][-1]):
            raise FailureError("reserved", target=True)
    launch(channel, file_jobs.begin(message["work"], source, target, message["policy"], message["key"]))
    return {}


def _send(channel: int, descriptor: int) -> None:
    with socket.socket(fileno=os.dup(channel)) as answering:
        socket.send_fds(answering, [b"."], [descriptor])


_VERBS: dict[str, Callable[..., Message]] = {
    "stat": _stat,
    "read": _read,
    "begin": _begin,
    "resume": _resume,
    "finish": _finish,
    "drop": _drop,
    "make-folder": _make_folder,
}
