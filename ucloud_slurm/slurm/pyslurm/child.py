"""The small process in which pyslurm lives: libslurm may end it, or hang in it, and nothing else comes to harm.

It is started with a socket in the place of its standard input, looks whether the module can be used, says so, and
then does one thing at a time as it is asked. It ends when the other side has gone. This is the only module that
imports pyslurm; of ours it imports as little as it can.
"""

import importlib
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ucloud_slurm.system import ipc

SPARE = 5  # seconds after the limit of a call at which the process ends itself, should nobody do it
HELLO = 5.0  # seconds for the other side to take an answer
COMMAND = 10.0  # seconds for one of Slurm's commands
NOTHING = "(null)"  # as scontrol shows a setting without a value
FOR_EVER = 366 * 86400.0

_RELEASE = re.compile(rb"\x00([0-9]{2}\.[0-9]{2})\.[0-9]+[^\x00]{0,40}\x00")
_LIMITS = ("CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE", "MEMLOCK", "AS")

Message = dict[str, Any]


class PySlurmUnusableError(Exception):
    """pyslurm cannot be used here; the text says why, and what to do."""


class NotKnownYetError(Exception):
    """Slurm does not say whether pyslurm can be used."""


def main(commands: str, oldest: str) -> None:
    """Serves whoever started this process until it has gone.

    :param commands: folder of Slurm's commands
    :param oldest: the oldest release of pyslurm that will do
    """
    channel = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    try:
        hello = _hello(commands, oldest)
        calls = Calls(hello["limits"])
        ipc.send(channel, hello, within=HELLO)
        while True:
            ipc.serve(channel, calls.answer, waits=FOR_EVER, sends=HELLO)
    except ipc.ConnectionLostError:
        sys.exit(0)
    except PySlurmUnusableError as error:
        ipc.send(channel, {"reason": str(error)}, within=HELLO)
    except NotKnownYetError as error:
        ipc.send(channel, {"reason": str(error), "soon": True}, within=HELLO)


def _hello(commands: str, oldest: str) -> Message:
    conf = os.environ["SLURM_CONF"]
    # Without a configuration libslurm tries for a minute and ends the process.
    if not os.access(conf, os.R_OK):
        raise PySlurmUnusableError(f"{conf} cannot be read; name Slurm's configuration in slurm.conf")
    try:
        module = importlib.import_module("pyslurm")
    except Exception as error:  # noqa: BLE001  whatever a foreign module does when it is loaded
        raise PySlurmUnusableError(f"the module cannot be imported ({type(error).__name__}: {error})") from None
    version = str(getattr(module, "__version__", "of an unknown release"))
    if not hasattr(module, "JobSubmitDescription") or not hasattr(getattr(module, "Job", None), "load"):
        raise PySlurmUnusableError(f"pyslurm {version} is of the older generation; release {oldest} or newer is needed")
    library, site = _release(version), _of_site(commands)
    if library != site:
        raise PySlurmUnusableError(
            f"its libslurm is of Slurm {library} and {commands}/sbatch of {site}; build pyslurm anew"
        )
    settings = _settings(commands)
    filters = settings.get("CliFilterPlugins", NOTHING)
    if filters not in (NOTHING, "cli_filter/none"):
        raise PySlurmUnusableError(f"the site has CliFilterPlugins={filters}, which only Slurm's own commands heed")
    # pyslurm says no to it for every job, where sbatch leaves it to the site.
    if "oomkillstep" in settings.get("TaskPluginParam", NOTHING).lower():
        raise PySlurmUnusableError(
            "the site has TaskPluginParam=OOMKillStep, which jobs that pyslurm submits would not get"
        )
    return {"pyslurm": version, "slurm": library, "limits": _propagated(settings)}


def _release(version: str) -> str:
    """The release of the libslurm that was loaded, as the library itself holds it."""
    found: set[str] = set()
    with suppress(OSError), open("/proc/self/maps", encoding="utf-8") as maps:  # noqa: PTH123  pathlib is not loaded
        for path in {line.rpartition(" ")[2].strip() for line in maps if "/libslurm" in line}:
            with open(path, "rb") as library:  # noqa: PTH123
                found |= {match[1].decode() for match in _RELEASE.finditer(library.read())}
    if len(found) == 1:
        return found.pop()
    # A module that holds the library in itself was built for the release that it is named after.
    return ".".join(version.split(".")[:2])


def _of_site(commands: str) -> str:
    release = re.search(r"([0-9]{2}\.[0-9]{2})\.", _said(f"{commands}/sbatch", "--version"))
    if release is None:
        raise PySlurmUnusableError(f"{commands}/sbatch does not tell its release")
    return release[1]


def _settings(commands: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in _said(f"{commands}/scontrol", "show", "config").splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _propagated(settings: dict[str, str]) -> list[str]:
    """The limits of a process that the site hands on to its jobs (slurm.conf(5), PropagateResourceLimits)."""
    listed = settings.get("PropagateResourceLimits", "ALL").split(",")
    excepted = settings.get("PropagateResourceLimitsExcept", NOTHING).split(",")
    wanted = [name for name in _LIMITS if name in listed or "ALL" in listed]
    return [] if "NONE" in listed else [name for name in wanted if name not in excepted]


def _said(*argv: str) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, check=False, timeout=COMMAND)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotKnownYetError(f"{argv[0]} cannot be asked ({type(error).__name__})") from None
    if done.returncode != 0:
        raise NotKnownYetError(f"{argv[0]} ended with {done.returncode}, so the site's Slurm is not known")
    return done.stdout.decode(errors="replace")


class Calls:
    """What the process does, each in one exact form. An answer is what came of it, or Slurm's number and text."""

    def __init__(self, limits: list[str]) -> None:
        self._limits = limits
        self._slurm = importlib.import_module("pyslurm")
        self._calls: dict[str, Callable[[Message], Any]] = {
            "submit": self._submit,
            "job": self._job,
            "cancel": lambda asked: self._one(asked).cancel(),
            "time": lambda asked: self._one(asked).modify(self._change(time_limit=asked["time_limit"])),
            "suspend": lambda asked: self._one(asked).suspend(),
            "resume": lambda asked: self._one(asked).unsuspend(),
            "hold": lambda asked: self._one(asked).hold(),
            "release": lambda asked: self._one(asked).release(),
        }

    def answer(self, asked: Message) -> tuple[Message, list[int]]:
        """Does what a message asks for."""
        # Of what libslurm prints the last call's is kept, lest a file grow; it is read when this process has ended.
        os.ftruncate(2, 0)
        os.lseek(2, 0, os.SEEK_SET)
        # Should something hang while the other side has gone: the alarm ends the process.
        signal.alarm(int(asked["within"]) + SPARE)
        try:
            return {"done": self._calls[asked["call"]](asked)}, []
        except self._slurm.RPCError as error:
            return {"errno": int(error.errno), "text": str(error)}, []
        except Exception as error:  # noqa: BLE001  the other side must hear of it, whatever it is
            return {"unfit": f"{type(error).__name__}: {error}"}, []
        finally:
            signal.alarm(0)

    def _submit(self, asked: Message) -> Any:
        wanted = dict(asked["description"])
        wanted["environment"] = _own_environment(self._limits) | wanted["environment"]
        return self._slurm.JobSubmitDescription(user_id=os.getuid(), group_id=os.getgid(), **wanted).submit()

    def _job(self, asked: Message) -> Message:
        job = self._slurm.Job.load(asked["id"])
        return {name: getattr(job, name) for name in asked["attributes"]}

    def _one(self, asked: Message) -> Any:
        return self._slurm.Job(asked["id"])

    def _change(self, **changes: Any) -> Any:
        return self._slurm.JobSubmitDescription(**changes)


def _own_environment(limits: list[str]) -> dict[str, str]:
    """What sbatch sets for a job by the process that it is: where it was asked, and the process's own limits."""
    mask = os.umask(0)
    os.umask(mask)
    found = {
        "SLURM_PRIO_PROCESS": str(os.getpriority(os.PRIO_PROCESS, 0)),
        "SLURM_SUBMIT_DIR": os.getcwd(),  # noqa: PTH109
        "SLURM_SUBMIT_HOST": socket.gethostname().partition(".")[0],
        "SLURM_UMASK": f"{mask:04o}",
    }
    for name in limits:
        soft, _ = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))
        # As sbatch hands them on: 64 bits without a sign.
        found[f"SLURM_RLIMIT_{name}"] = str(soft & 0xFFFFFFFFFFFFFFFF)
    return found
