"""What the program that acts as a user does for the runner: requests, each in one exact form (:mod:`.as_user`)."""

from __future__ import annotations

import _socket
import os

from ucloud_slurm.errors import InvalidRequestError, Problem
from ucloud_slurm.system import ipc
from ucloud_slurm.system.accounts import Account, PeopleRule, slurm_distrust, user_environment
from ucloud_slurm.system.files import NotARegularFileError, StagedFolder, make_folder, open_file, remove_folder
from ucloud_slurm.system.lean import boot_clock, end_at, end_no_more
from ucloud_slurm.system.slurm_options import unaccepted
from ucloud_slurm.system.waiting_command import CommandEndedError, CommandNotStartedError, Submission, WaitingCommand

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, TypeAlias

    from ucloud_slurm.users.own_pyslurm import OwnPySlurm

    Message: TypeAlias = dict[str, Any]

REQUEST_SECONDS = 60.0  # that one request may take
ANSWER_SECONDS = 2.0  # after the deadline of a request, for its answer; then the kernel ends the program

_SCRIPTS = frozenset({"sh", "txt"})  # how the names of files end that a job's folder is made with
_FILES = (("stdout-", ".log"), ("stderr-", ".log"), ("port-", ""))  # that can be opened: a number is between
_LETTERS, _DIGITS = "abcdefghijklmnopqrstuvwxyz", "0123456789"


class Operations:
    """What the program does; each request has one exact form.

    A submission is two requests: ``start`` has sbatch load and makes the job's folder, and ``go`` sends the job, or ``drop``
    gives it up. Nothing else is served in between.
    """

    def __init__(self, account: Account, caller: int, rule: PeopleRule) -> None:
        self._account = account
        self._caller = caller
        self._rule = rule
        self._waiting: Submission | None = None
        self._waits_until = 0.0  # when its command ends, by boot_clock
        self._pyslurm: OwnPySlurm | None = None
        self._operations: Mapping[str, Callable[[Message, float], Message]] = {
            "prepare": self._prepare,
            "trial": self._trial,
            "start": self._start,
        }
        self._operations_with_socket: Mapping[str, Callable[[Message, int], Message]] = {
            "open": self._open,
            "listen": self._listen,
            "terminal": self._terminal,
        }

    def answer(self, message: Message, descriptors: Sequence[int]) -> Message:
        """Serves a request. One that is not in its form is refused, and nothing is done.

        :param descriptors: one end of a socket of packets where the answer is more than a message
        """
        if ipc.is_of_other_release(message):
            return {"busy": "the runner is of another release than the program; restart the runner"}
        waiting = self._taken()
        try:
            deadline = min(_number(message, "deadline"), boot_clock() + REQUEST_SECONDS)
            # Also if it hangs where no time limit reaches, or is stopped now and continued later.
            end_at(deadline + ANSWER_SECONDS)
            if boot_clock() >= deadline:
                raise TimeoutError
            return self._answer(waiting, _text(message, "verb"), message, descriptors, deadline)
        except InvalidRequestError as error:
            return {"refused": str(error), "form": ipc.FORM}
        except Problem as error:
            return {"problem": error.why}
        except TimeoutError:
            return {"unknown": "the request came too late; nothing was done"}
        except (NotARegularFileError, OSError) as error:
            return {"trouble": str(error)}
        finally:
            if waiting is not None:
                waiting.drop()
            if self._waiting is None:
                end_no_more()
            else:
                end_at(self._waits_until + ANSWER_SECONDS)

    def _answer(
        self, waiting: Submission | None, verb: str, message: Message, descriptors: Sequence[int], deadline: float
    ) -> Message:
        if waiting is not None:
            if verb == "drop":
                return {}
            if verb != "go" or descriptors:
                raise InvalidRequestError("verb: neither go nor drop, and a job waits for one of them")
            return self._go(waiting, message, deadline)
        if verb in self._operations and not descriptors:
            return self._operations[verb](message, deadline)
        if verb in self._operations_with_socket and descriptors:
            from ucloud_slurm.users.pump import NotStartedError

            try:
                return self._operations_with_socket[verb](message, descriptors[0])
            except NotStartedError as error:
                return {"trouble": str(error)}
        # Programs that only submit start without these.
        from ucloud_slurm.users import file_verbs
        from ucloud_slurm.users.pump import detach

        return file_verbs.answer(message, descriptors, lambda: boot_clock() >= deadline, detach)

    def get_ready(self) -> None:
        """Prepares for the next request, after the answer to the last has been sent."""
        if self._pyslurm is not None and self._waiting is None:
            self._pyslurm.get_ready()

    def drop(self) -> None:
        """Gives up a submission that waits. Nothing was submitted."""
        if (waiting := self._taken()) is not None:
            waiting.drop()

    def _taken(self) -> Submission | None:
        waiting, self._waiting = self._waiting, None
        return waiting

    def _prepare(self, message: Message, _deadline: float) -> Message:
        make_folder(_path(message, "folder"), _files(message), home=self._account.home)
        return {}

    def _trial(self, message: Message, _deadline: float) -> Message:
        folder = _path(message, "folder")
        make_folder(folder, home=self._account.home)
        remove_folder(folder)
        return {}

    def _start(self, message: Message, _deadline: float) -> Message:
        argv = [self._command(message, "sbatch"), *_options(message.get("arguments"), self._rule)]
        ends = min(_number(message, "ends"), boot_clock() + REQUEST_SECONDS)
        folder = None if message.get("folder") is None else _path(message, "folder")
        files = {} if folder is None else _files(message)
        env = self._environment(message)
        try:
            submission = Submission(lambda: WaitingCommand(argv, env, ends), self._library(message, env))
        except CommandNotStartedError as error:
            return {"missing": str(error)}
        try:
            submission.folder = StagedFolder(folder, files, self._account.home) if folder else None
        except BaseException:
            submission.drop()
            raise
        self._waiting, self._waits_until = submission, ends
        return {"waits": True}

    def _library(self, message: Message, env: Mapping[str, str]) -> Callable[[str, float], Message | None] | None:
        """What submits instead of sbatch, where it can."""
        if (library := message.get("library")) is None:
            return None
        if not isinstance(library, dict):
            raise InvalidRequestError("library: not a description")
        from ucloud_slurm.users import own_pyslurm

        described = own_pyslurm.description(library)
        pyslurm = self._pyslurm = self._pyslurm or own_pyslurm.OwnPySlurm()
        file, commands = self._trusted(_path(library, "file")), os.path.dirname(_path(message, "command"))
        if not pyslurm.is_ready_for(file, commands, env):
            return None
        return lambda script, deadline: pyslurm.submit(described, script, deadline)

    def _go(self, waiting: Submission, message: Message, deadline: float) -> Message:
        try:
            return waiting.send(_text(message, "stdin"), deadline)
        except CommandNotStartedError as error:
            return {"missing": str(error)}
        except CommandEndedError as error:
            return {"unknown": str(error)}

    def _open(self, message: Message, channel: int) -> Message:
        path = _path(message, "path")
        if not _is_file(path.rpartition("/")[2]):
            raise InvalidRequestError("path: not a file of a job")
        descriptor = open_file(path)
        if descriptor is None:
            return {"found": False}
        try:
            answering = _socket.socket(fileno=os.dup(channel))
            ipc.send_descriptor(answering, descriptor)
            answering.close()
        finally:
            os.close(descriptor)
        return {"found": True}

    def _listen(self, message: Message, channel: int) -> Message:
        from ucloud_slurm.users.pump import run_watch

        run_watch(channel, _path(message, "folder"))
        return {"found": True}

    def _terminal(self, message: Message, channel: int) -> Message:
        from ucloud_slurm.users.pump import run_terminal

        words = message.get("arguments")
        if not isinstance(words, list) or words[-2:] != [self._account.shell, "-l"]:
            raise InvalidRequestError("arguments: not the login shell of the user")
        argv = [self._command(message, "srun"), *_options(words[:-2], self._rule, of_shell=True), *words[-2:]]
        env = self._environment(message) | {"TERM": "xterm-256color"}
        run_terminal(channel, argv, env, int(_number(message, "cols", 80)), int(_number(message, "rows", 24)))
        return {"found": True}

    def _environment(self, message: Message) -> dict[str, str]:
        folder = os.path.dirname(_path(message, "command"))
        conf = self._trusted(_path(message, "conf"))
        return user_environment(self._account.name, self._account.home, self._account.shell, folder) | {"SLURM_CONF": conf}

    def _command(self, message: Message, name: str) -> str:
        path = _path(message, "command")
        if path.rpartition("/")[2] != name:
            raise InvalidRequestError(f"command: not {name}")
        return self._trusted(path)

    def _trusted(self, path: str) -> str:
        """The path of a file that only the system's administrators can change, and Slurm's.

        Otherwise the caller could have the user run a program, or read a slurm.conf, that it wrote itself.
        """
        found = slurm_distrust(path, self._rule, self._caller)
        if found is not None:
            raise InvalidRequestError(found.why)
        # The path as it was given, not the real one: programs look at the name that they are called by.
        return path


def _files(message: Message) -> dict[str, str]:
    """The files that a job's folder is made with."""
    files = message.get("files")
    if not isinstance(files, dict) or not all(_is_script(name) for name in files):
        raise InvalidRequestError("files: not the files of a job")
    return {name: _text(files, name) for name in files}


def _is_script(name: str) -> bool:
    stem, _, end = name.partition(".")
    plain = all(each in _LETTERS or (place > 0 and each in _DIGITS + "-") for place, each in enumerate(stem))
    return end in _SCRIPTS and plain and 0 < len(stem) <= 31


def _is_file(name: str) -> bool:
    """Whether it is that of a log of a job, or of the file with its port."""
    for begin, end in _FILES:
        number = name.removeprefix(begin).removesuffix(end)
        if name == begin + number + end and 0 < len(number) <= 6 and not number.strip(_DIGITS):
            return True
    return False


def _text(message: Message, key: str) -> str:
    value = message.get(key)
    if not isinstance(value, str):
        raise InvalidRequestError(f"{key}: not a text")
    return value


def _number(message: Message, key: str, default: float | None = None) -> float:
    value = message.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e9:
        raise InvalidRequestError(f"{key}: not a number")
    return float(value)


def _path(message: Message, key: str) -> str:
    path = _text(message, key)
    if not path.startswith("/") or "\0" in path or ".." in path.split("/"):
        raise InvalidRequestError(f"{key}: not an absolute path")
    return path


def _options(words: object, rule: PeopleRule, *, of_shell: bool = False) -> list[str]:
    """The options of a command, each by the whole name of one that is accepted."""
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise InvalidRequestError("arguments: not options of a Slurm command")
    option = unaccepted(words, rule.plugin_options, of_shell=of_shell)
    if option is not None:
        raise InvalidRequestError(f"arguments: {option[:40]!r} is not an option that is accepted")
    return list(words)
