"""Programs that measure, run as the service account; they are asked in lines of JSON."""

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.sandbox import commands
from tests.sandbox.errors import SandboxError
from tests.sandbox.installation import Installation


class Program:
    """One of them while it runs."""

    def __init__(self, process: "subprocess.Popen[str]", name: str, log: Path) -> None:
        self._process = process
        self._name = name
        self._log = log

    def send(self, question: Mapping[str, Any]) -> None:
        """Asks without waiting for the answer."""
        if self._process.stdin is not None:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        """Waits for the answer to the oldest question.

        :raises SandboxError: the program has ended instead
        """
        answer = self._process.stdout.readline() if self._process.stdout else ""
        if not answer:
            raise SandboxError(f"The bench's {self._name} has ended: {self.last_words()}")
        found: dict[str, Any] = json.loads(answer)
        return found

    def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Asks and waits; see :meth:`receive`."""
        self.send(question)
        return self.receive()

    def last_words(self) -> str:
        """The end of what it and its commands printed as errors, in one line."""
        return " ".join(self._log.read_text(errors="replace")[-500:].split())


@contextmanager
def running(installation: Installation, user: str | None, name: str, log: Path, python: str | None = None) -> Iterator[Program]:
    """Starts a program of this folder, and ends it.

    :param user: whom it runs as; None is the caller
    :param name: its module, which imports nothing of ours
    :param log: file for what it prints as errors
    :param python: another interpreter than that of the installation, with its own packages
    """
    identity = commands.identity_of(user)
    program = installation.folder / "tests" / "sandbox" / "bench" / f"{name}.py"
    how = [python] if python else [installation.python, "-I", "-S"]
    with log.open("a") as errors:
        process = subprocess.Popen(
            [*how, str(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd="/",
            env=commands.PLAIN,
            user=identity.uid,
            group=identity.gid,
            extra_groups=identity.groups,
        )
    try:
        yield Program(process, name, log)
    finally:
        process.kill()
        process.communicate()


@dataclass(frozen=True, slots=True)
class Timed:
    """What commands took.

    :ivar took: ms of each
    :ivar seconds: from the begin of the first to the end of the last
    :ivar peak: MiB of memory that the largest had
    :ivar written: bytes that all of them wrote to the disk
    :ivar spent: seconds of a processor that all of them took
    """

    took: Sequence[float]
    seconds: float
    peak: float
    written: int
    spent: float


class Timer:
    """Runs commands as the service account, in several loops at a time where that is wanted."""

    def __init__(self, loops: Sequence[Program]) -> None:
        self._loops = loops

    def run(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        *,
        times: int = 1,
        loops: int = 1,
        stdin: Path = Path("/dev/null"),
        may_end_with: Sequence[int] = (0,),
    ) -> Timed:
        """Runs a command.

        :param times: in each loop
        :param may_end_with: statuses that are no failure
        :raises SandboxError: when one failed
        """
        question = {"argv": [*argv], "env": dict(env), "stdin": str(stdin), "times": times}
        for program in self._loops[:loops]:
            program.send(question)
        answers = [program.receive() for program in self._loops[:loops]]
        for program, answer in zip(self._loops, answers, strict=False):
            if answer["worst"] not in may_end_with:
                raise SandboxError(f"{argv[0]} ended with {answer['worst']}: {program.last_words()}")
        return Timed(
            [took for answer in answers for took in answer["took"]],
            max(answer["ended"] for answer in answers) - min(answer["begun"] for answer in answers),
            max(answer["peak"] for answer in answers) / 1024,
            sum(answer["written"] for answer in answers),
            sum(answer["spent"] for answer in answers),
        )


@dataclass(frozen=True, slots=True)
class Answered:
    """What requests took.

    :ivar begun: when the first request was sent, as ``time.perf_counter`` has it in every process
    :ivar took: ms of each answer
    :ivar seconds: from the first request to the last answer
    :ivar wrong: what was answered that is no success
    :ivar spent: seconds of a processor that the client itself took
    """

    begun: float
    took: Sequence[float]
    seconds: float
    wrong: Sequence[str]
    spent: float


class Http:
    """The client of a site."""

    def __init__(self, program: Program, url: str, path: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        self._program = program
        self._where = {"host": parts.hostname, "port": parts.port, "path": path, "headers": dict(headers)}

    def post(self, bodies: Sequence[str], clients: int = 1, *, strict: bool = True) -> Answered:
        """Sends bodies.

        :param clients: that begin together and share the bodies
        :raises SandboxError: with the first answer that is no success, if strict
        """
        answer = self._program.ask(self._where | {"bodies": [*bodies], "clients": clients})
        if strict and answer["wrong"]:
            raise SandboxError(f"{len(answer['wrong'])} requests failed; the first: {answer['wrong'][0]}")
        begun, ended = answer["begun"], answer["ended"]
        return Answered(begun, answer["took"], ended - begun, answer["wrong"], answer["spent"])
