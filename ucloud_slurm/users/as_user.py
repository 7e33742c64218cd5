"""The program that sudo starts as a user. Nothing else in the product runs with another user's rights.

It takes no arguments; its standard input is a socket to the runner. It verifies its identity, drops the environment
that it was given, and serves a fixed set of requests: make a job's folder, run sbatch, open a file of a job, watch a
folder, open a shell with srun, and what users do with their files below a folder (:mod:`ucloud_slurm.users.file_verbs`).
It ends when it is idle. It imports the standard library only, and modules of this package that do the same.
"""

from __future__ import annotations

import _ctypes
import _signal  # type: ignore[import-not-found]
import _socket
import grp
import os
import pwd
import resource
import stat
import sys

from ucloud_slurm.errors import InvalidRequestError, Misconfigured
from ucloud_slurm.system import ipc
from ucloud_slurm.system.accounts import Account, PeopleRule, ineligible, read_rule, root_group
from ucloud_slurm.users.operations import Operations

IDLE_SECONDS = 330.0  # without a request, after which it ends: later than the runner gives it up
MARGIN_SECONDS = 5.0  # for the runner to take a message

_PR_SET_DUMPABLE = 4  # prctl(2)


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
            operations.get_ready()
    except ipc.ConnectionLostError:
        operations.drop()
        sys.exit(0)


def _protect() -> None:
    """Makes this process not dumpable, so that no other process of its user reads its memory or traces it (ptrace(2)).

    What it starts is dumpable again (execve(2)).

    :raises InvalidRequestError: the kernel refuses
    """
    prctl = _ctypes.dlsym(_ctypes.dlopen("", os.RTLD_NOW), "prctl")  # ctypes itself loads slowly
    if _ctypes.call_function(prctl, (_PR_SET_DUMPABLE, 0, 0, 0, 0)) != 0:
        raise InvalidRequestError("cannot protect its memory (prctl(2): PR_SET_DUMPABLE)")


def _verify(rule: PeopleRule) -> tuple[_socket.socket, Account, int]:
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


def _channel(caller: int) -> _socket.socket:
    if not stat.S_ISSOCK(os.fstat(0).st_mode):
        raise InvalidRequestError("its standard input is not a socket; the runner starts it")
    channel = _socket.socket(fileno=os.dup(0))
    if channel.family != _socket.AF_UNIX or channel.type != _socket.SOCK_STREAM:
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
    for number in (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP, _signal.SIGALRM, _signal.SIGCHLD):
        _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, [])
    for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC, resource.RLIMIT_CPU):
        _, hard = resource.getrlimit(limit)
        resource.setrlimit(limit, (hard, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
