"""The places that attackers act from, and the tools that they run there."""

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

from tests.sandbox.errors import SandboxError
from tests.sandbox.installation import Installation
from tests.sandbox.living import Living

TOOL_SECONDS = 60.0


class Attacker:
    """A tool that runs until its input is closed, and prints JSON at its end."""

    def __init__(self, argv: Sequence[str], line: str = "") -> None:
        self._argv = argv
        self._line = line
        self.said: Any = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/"
        )
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        if self._line:
            stdin.write(f"{self._line}\n")
            stdin.flush()
        first = stdout.readline().strip()
        if first != "ready":
            self._process.kill()
            _, errors = self._process.communicate()
            raise SandboxError(f"A tool of the kit does not start: {first} {errors[-500:]}")
        return self

    def __exit__(self, *_: object) -> None:
        try:
            output, errors = self._process.communicate(timeout=TOOL_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            output, errors = self._process.communicate()
        if self._process.returncode == 0:
            self.said = json.loads(output)
        else:
            raise SandboxError(f"A tool of the kit ended with {self._process.returncode}: {errors[-500:]}")


class Attackers:
    """Runs the kit's tools: on the login node, on the internet, in the world of a unit."""

    def __init__(self, installation: Installation, living: Living) -> None:
        self.installation = installation
        self.living = living

    def command(self, tool: str, *arguments: object) -> list[str]:
        """The words that run one of the kit's tools, which every account can read."""
        path = self.installation.folder / "tests" / "sandbox" / "attack" / "tools" / f"{tool}.py"
        words = [each if isinstance(each, str) else json.dumps(each) for each in arguments]
        return [self.installation.python, "-IB", str(path), *words]

    def tool(self, user: str, tool: str, *arguments: object, stdin: str = "") -> Any:
        """Runs a tool on the login node to its end; returns the JSON that it prints."""
        return json.loads(self.living.run(*self.command(tool, *arguments), user=user, stdin=stdin))

    @contextmanager
    def attacker(self, user: str, tool: str, *arguments: object, line: str = "") -> Iterator["Attacker"]:
        """Runs a tool on the login node until the end of the block.

        :param line: what it reads first
        """
        with Attacker(self.living.argv(*self.command(tool, *arguments), user=user), line) as attacker:
            yield attacker

    @contextmanager
    def at(self, pid: int, tool: str, *arguments: object) -> Iterator["Attacker"]:
        """Runs a tool as root, and with the files that a process of a unit sees; to arrange what an account may not."""
        with Attacker(["nsenter", f"--target={pid}", "--mount", "--pid", "--", *self.command(tool, *arguments)]) as attacker:
            yield attacker

    @contextmanager
    def stranger(self, tool: str, *arguments: object) -> Iterator["Attacker"]:
        """Runs a tool that reaches nothing but the proxy."""
        with Attacker(self.command(tool, *arguments)) as attacker:
            yield attacker
