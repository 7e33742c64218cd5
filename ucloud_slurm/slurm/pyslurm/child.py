"""The child process in which pyslurm runs: libslurm may abort or hang, and only this process does.

Its standard input is a socket. It checks whether the module can be used, says so, and then serves one request at a
time until the socket is closed. This is the only module that imports pyslurm; it imports as little else as it can.
The service has such processes, and so has the program that acts as a user (:mod:`ucloud_slurm.users.own_pyslurm`).
"""

import importlib
import importlib.util
import os
import re
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from ucloud_slurm.system import ipc
from ucloud_slurm.system.lean import boot_clock, end_at, end_no_more

START_SECONDS = 30.0  # until it must have said that it can be used
OLDEST = "25.11"  # release of pyslurm that can be used
SEND_SECONDS = 5.0  # for the other side to take an answer
COMMAND_SECONDS = 10.0  # for one of Slurm's commands
NOTHING = "(null)"  # as scontrol shows a setting without a value
IDLE_SECONDS = 366 * 86400.0  # without a request, after which it ends

_RELEASE = re.compile(rb"\x00([0-9]{2}\.[0-9]{2})\.[0-9]+[^\x00]{0,40}\x00")
_LIMITS = ("CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE", "MEMLOCK", "AS")

Message = dict[str, Any]


class PySlurmUnusableError(Exception):
    """pyslurm cannot be used here; the text says why, and what to do."""


class NotKnownYetError(Exception):
    """Slurm's commands do not answer, so that it is unknown whether pyslurm can be used."""


def main(commands: str, module: str = "") -> None:
    """Serves the process that started this one until it closes the socket.

    :param commands: folder of Slurm's commands
    :param module: the file of pyslurm, where this Python does not look for it
    """
    channel = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    try:
        end_at(boot_clock() + START_SECONDS)
        hello = _hello(commands, module)
        calls = PySlurmCalls(hello["limits"])
        end_no_more()
        ipc.send(channel, hello, within=SEND_SECONDS)
        while True:
            ipc.serve(channel, calls.answer, waits=IDLE_SECONDS, sends=SEND_SECONDS)
    except ipc.ConnectionLostError:
        sys.exit(0)
    except PySlurmUnusableError as error:
        ipc.send(channel, {"reason": str(error)}, within=SEND_SECONDS)
    except NotKnownYetError as error:
        ipc.send(channel, {"reason": str(error), "soon": True}, within=SEND_SECONDS)


def _hello(commands: str, file: str) -> Message:
    conf = os.environ["SLURM_CONF"]
    # Without a configuration libslurm retries for a minute and then ends the process.
    if not os.access(conf, os.R_OK):
        raise PySlurmUnusableError(f"{conf} cannot be read; name Slurm's configuration in slurm.conf")
    try:
        if file:
            _load(file)
        module = importlib.import_module("pyslurm")
    except Exception as error:  # noqa: BLE001  whatever a foreign module raises when it is loaded
        raise PySlurmUnusableError(f"the module cannot be imported ({type(error).__name__}: {error})") from None
    version = str(getattr(module, "__version__", "of an unknown release"))
    if not hasattr(module, "JobSubmitDescription") or not hasattr(getattr(module, "Job", None), "load"):
        raise PySlurmUnusableError(f"pyslurm {version} is of the older generation; release {OLDEST} or newer is needed")
    library, site = _release(version), _site_release(commands)
    if library != site:
        raise PySlurmUnusableError(f"its libslurm is of Slurm {library} and {commands}/sbatch of {site}; rebuild pyslurm")
    settings = _settings(commands)
    filters = settings.get("CliFilterPlugins", NOTHING)
    if filters not in (NOTHING, "cli_filter/none"):
        raise PySlurmUnusableError(f"the site has CliFilterPlugins={filters}, which only Slurm's own commands apply")
    # pyslurm turns it off for every job; sbatch leaves it to the site.
    if "oomkillstep" in settings.get("TaskPluginParam", NOTHING).lower():
        raise PySlurmUnusableError("the site has TaskPluginParam=OOMKillStep, which jobs that pyslurm submits would not get")
    return {"pyslurm": version, "slurm": library, "limits": _propagated(settings)}


def _load(file: str) -> None:
    """Loads pyslurm from its file; nothing else that lies beside it can be imported (python(1): -S)."""
    spec = importlib.util.spec_from_file_location("pyslurm", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no module")
    module = importlib.util.module_from_spec(spec)
    sys.modules["pyslurm"] = module
    spec.loader.exec_module(module)


def _release(version: str) -> str:
    """The release of the libslurm that was loaded, as the library itself contains it."""
    found: set[str] = set()
    with suppress(OSError), open("/proc/self/maps", encoding="utf-8") as maps:  # noqa: PTH123  pathlib is not loaded
        for path in {line.rpartition(" ")[2].strip() for line in maps if "/libslurm" in line}:
            with open(path, "rb") as library:  # noqa: PTH123
                found |= {match[1].decode() for match in _RELEASE.finditer(library.read())}
    if len(found) == 1:
        return found.pop()
    # A module that contains the library was built for the release that it is named after.
    return ".".join(version.split(".")[:2])


def _site_release(commands: str) -> str:
    release = re.search(r"([0-9]{2}\.[0-9]{2})\.", _output(f"{commands}/sbatch", "--version"))
    if release is None:
        raise PySlurmUnusableError(f"{commands}/sbatch does not print its release")
    return release[1]


def _settings(commands: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in _output(f"{commands}/scontrol", "show", "config").splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _propagated(settings: dict[str, str]) -> list[str]:
    """The resource limits that sbatch propagates to jobs here (slurm.conf(5), PropagateResourceLimits)."""
    listed = settings.get("PropagateResourceLimits", "ALL").split(",")
    excepted = settings.get("PropagateResourceLimitsExcept", NOTHING).split(",")
    wanted = [name for name in _LIMITS if name in listed or "ALL" in listed]
    return [] if "NONE" in listed else [name for name in wanted if name not in excepted]


def _output(*argv: str) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, check=False, timeout=COMMAND_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotKnownYetError(f"{argv[0]} cannot be asked ({type(error).__name__})") from None
    if done.returncode != 0:
        raise NotKnownYetError(f"{argv[0]} ended with {done.returncode}, so the site's Slurm is not known")
    return done.stdout.decode(errors="replace")


class PySlurmCalls:
    """The calls that the process serves. An answer is the result, or Slurm's error number and text."""

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

    def answer(self, asked: Message, _descriptors: Sequence[int] = ()) -> Message:
        """Makes the call that a message asks for."""
        try:
            # Also if it hangs and the other side has ended, or is stopped now and continued later.
            end_at(asked["deadline"])
            return {"done": self._calls[asked["call"]](asked)}
        except self._slurm.RPCError as error:
            return {"errno": int(error.errno), "text": str(error)}
        except Exception as error:  # noqa: BLE001  every failure is the answer of its call
            return {"unfit": f"{type(error).__name__}: {error}"}
        finally:
            end_no_more()

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
    """The variables of this process, and those that sbatch sets: where it was run, its umask and its resource limits."""
    mask = os.umask(0)
    os.umask(mask)
    found = {
        **os.environ,
        "SLURM_PRIO_PROCESS": str(os.getpriority(os.PRIO_PROCESS, 0)),
        "SLURM_SUBMIT_DIR": os.getcwd(),  # noqa: PTH109
        "SLURM_SUBMIT_HOST": socket.gethostname().partition(".")[0],
        "SLURM_UMASK": f"{mask:04o}",
    }
    for name in limits:
        soft, _ = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))
        # As sbatch sets them: unsigned, 64 bits.
        found[f"SLURM_RLIMIT_{name}"] = str(soft & 0xFFFFFFFFFFFFFFFF)
    return found
