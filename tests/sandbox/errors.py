"""What the sandbox says when it cannot do something."""

import subprocess


class SandboxError(Exception):
    """One sentence for the person at the terminal: what cannot be done, and the next step."""


class CommandFailed(subprocess.CalledProcessError):
    """A program ended with an error; unlike its parent this shows what the program said."""

    def __str__(self) -> str:
        said = (self.stderr or self.output or "").strip()
        return f"{super().__str__()} It said: {said or 'nothing'}"
