"""The program that sudo starts as a user. Nothing else in the product runs with another user's rights.

It takes no arguments; its standard input is a socket to the runner. It verifies its identity, drops the environment
that it was given, and serves a fixed set of requests: make a job's folder, run sbatch, open a file of a job, watch a
folder, open a shell with srun, and what users do with their files below a folder (:mod:`ucloud_slurm.users.file_verbs`).
It ends when it is idle. It imports the standard library only, and modules of this package that do the same.
"""

import ctypes
import grp
import os
import pwd
import re
import resource
import signal
import socket
import stat
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ucloud_slurm.errors import InvalidRequestError, Misconfigured, Problem
from ucloud_slurm.system import ipc
from ucloud_slurm.system.accounts import Account, PeopleRule, ineligible, read_rule, root_group, slurm_distrust
from ucloud_slurm.system.files import NotARegularFileError, make_folder, open_file, remove_folder
from ucloud_slurm.system.process import CommandMissingError, CommandTimeoutError, boot_clock, end_at, run_by, user_environment
from ucloud_slurm.system.slurm_options import unaccepted
from ucloud_slurm.users.pump import NotStartedError, detach, run_terminal, run_watch

IDLE_SECONDS = 75.0  # without a request, after which it ends
REQUEST_SECONDS = 60.0  # that one request may take
ANSWER_SECONDS = 2.0  # after the deadline of a request, for its answer; then the kernel ends the program
MARGIN_SECONDS = 5.0  # for the runner to take a message

_SCRIPT = re.compile(r"[a-z][a-z0-9-]{0,30}\.(sh|txt)")
_FILE = re.compile(r"(stdout|stderr)-[0-9]{1,6}\.log|port-[0-9]{1,6}")

_PR_SET_DUMPABLE = 4  # prctl(2)

Message = dict[str, Any]


def main() -> None:
    """Serves the runner until it closes the socket or sends nothing for a while."""
    try:
        _protect()
        rule = read_rule()
        channel, account, caller = _verify(rule)
    except (InvalidRequestError, Misconfigured) as error:
        sys.exit(f"ucloud-slurm-as-user: {error}")
    _reset(account)
    operations = Operations(account, caller, rule)
    try:
        ipc.send(channel, {"user": account.name, "uid": account.uid}, within=MARGIN_SECONDS)
        while True:
            ipc.serve(channel, operations.answer, waits=IDLE_SECONDS, sends=MARGIN_SECONDS, descriptors=1)
    except ipc.ConnectionLostError:
        sys.exit(0)


def _protect() -> None:
    """Makes this process not dumpable, so that no other process of its user reads its memory or traces it (ptrace(2)).

    What it starts is dumpable again (execve(2)).

    :raises InvalidRequestError: the kernel refuses
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise InvalidRequestError(f"cannot protect its memory ({os.strerror(ctypes.get_errno())})")


def _verify(rule: PeopleRule) -> tuple[socket.socket, Account, int]:
    """Verifies that sudo gave this process the identity of an eligible user, and nothing more.

    :param rule: who is eligible
    :returns: the socket to the runner, the account of this process, and the uid of the account that called sudo
    :raises InvalidRequestError: it did not
    """
    if len(sys.argv) > 1:
        raise InvalidRequestError("takes no arguments; the runner starts it")
    if len({*os.getresuid()}) > 1 or len({*os.getresgid()}) > 1:
        raise InvalidRequestError("has more than one identity")
    caller = os.environ.get("SUDO_UID", "")
    if not caller.isascii() or not caller.isdigit():
        raise InvalidRequestError("was not started by sudo; the runner starts it")
    try:
        entry = pwd.getpwuid(os.getuid())
    except KeyError:
        raise InvalidRequestError(f"the account {os.getuid()} does not exist") from None
    account = Account(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_shell, entry.pw_dir)
    reason = ineligible(account, rule, own_uid=int(caller))
    if reason is not None:
        raise InvalidRequestError(reason)
    group = root_group({os.getgid(), *os.getgroups()}, rule)
    if group is not None:
        raise InvalidRequestError(f"{account.name} is in the group {group}, whose members can become root")
    if os.getgid() != account.gid or {*os.getgroups(), account.gid} != {*os.getgrouplist(account.name, account.gid)}:
        groups = ", ".join(grp.getgrgid(number).gr_name for number in sorted(os.getgroups()))
        raise InvalidRequestError(f"has groups that are not those of {account.name} ({groups})")
    return _channel(int(caller)), account, int(caller)


def _channel(caller: int) -> socket.socket:
    if not stat.S_ISSOCK(os.fstat(0).st_mode):
        raise InvalidRequestError("its standard input is not a socket; the runner starts it")
    channel = socket.socket(fileno=os.dup(0))
    if channel.family != socket.AF_UNIX or channel.type != socket.SOCK_STREAM:
        raise InvalidRequestError("its standard input is not a local socket; the runner starts it")
    if ipc.peer(channel) != caller:
        raise InvalidRequestError("its standard input is a socket of another account")
    return channel


def _reset(account: Account) -> None:
    """Inherits nothing from the process that started it: no environment, folder, descriptor, limit or signal mask."""
    kept = {
        "HOME": account.home,
        "USER": account.name,
        "LOGNAME": account.name,
        "SHELL": account.shell,
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
    }
    os.environ.clear()
    os.environ.update(kept)
    os.umask(0o077)
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC, resource.RLIMIT_CPU):
        _, hard = resource.getrlimit(limit)
        resource.setrlimit(limit, (hard, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class Operations:
    """What the program does; each request has one exact form."""

    def __init__(self, account: Account, caller: int, rule: PeopleRule) -> None:
        self._account = account
        self._caller = caller
        self._rule = rule
        self._operations: dict[str, Callable[[Message, float], Message]] = {
            "prepare": self._prepare,
            "trial": self._trial,
            "run": self._run,
        }
        self._operations_with_socket: dict[str, Callable[[Message, int], Message]] = {
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
        try:
            deadline = min(_number(message, "deadline"), boot_clock() + REQUEST_SECONDS)
            # Also if it hangs where no time limit reaches, or is stopped now and continued later.
            end_at(deadline + ANSWER_SECONDS)
            verb = _text(message, "verb")
            if verb in self._operations and not descriptors:
                return self._operations[verb](message, deadline)
            if verb in self._operations_with_socket and descriptors:
                return self._operations_with_socket[verb](message, descriptors[0])
            from ucloud_slurm.users import file_verbs  # programs that only submit start without them

            return file_verbs.answer(message, descriptors, lambda: boot_clock() >= deadline, detach)
        except InvalidRequestError as error:
            return {"refused": str(error), "form": ipc.FORM}
        except Problem as error:
            return {"problem": error.why}
        except TimeoutError:
            return {"unknown": "the request came too late; nothing was done"}
        except (NotARegularFileError, NotStartedError, OSError) as error:
            return {"trouble": str(error)}
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _prepare(self, message: Message, _deadline: float) -> Message:
        files = message.get("files")
        if not isinstance(files, dict) or not all(_SCRIPT.fullmatch(name) for name in files):
            raise InvalidRequestError("files: not the files of a job")
        make_folder(_path(message, "folder"), {name: _text(files, name) for name in files}, home=self._account.home)
        return {}

    def _trial(self, message: Message, _deadline: float) -> Message:
        folder = _path(message, "folder")
        make_folder(folder, home=self._account.home)
        remove_folder(folder)
        return {}

    def _run(self, message: Message, deadline: float) -> Message:
        argv = [self._command(message, "sbatch"), *_options(message.get("arguments"), self._rule)]
        try:
            done = run_by(deadline, argv, self._environment(message), _text(message, "stdin"))
        except CommandMissingError as error:
            return {"missing": str(error)}
        except CommandTimeoutError as error:
            return {"unknown": str(error)}
        return {"status": done.status, "output": done.output[:65536], "errors": done.errors[:65536]}

    def _open(self, message: Message, channel: int) -> Message:
        path = _path(message, "path")
        if not _FILE.fullmatch(path.rpartition("/")[2]):
            raise InvalidRequestError("path: not a file of a job")
        descriptor = open_file(path)
        if descriptor is None:
            return {"found": False}
        try:
            with socket.socket(fileno=os.dup(channel)) as answering:
                socket.send_fds(answering, [b"."], [descriptor])
        finally:
            os.close(descriptor)
        return {"found": True}

    def _listen(self, message: Message, channel: int) -> Message:
        run_watch(channel, _path(message, "folder"))
        return {"found": True}

    def _terminal(self, message: Message, channel: int) -> Message:
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
