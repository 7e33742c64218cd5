"""The one rule of sudo that lets the service account become a researcher, for as long as the sandbox is there."""

import subprocess
from pathlib import Path
from typing import Protocol

from tests.sandbox.errors import SandboxError

FOLDER = Path("/etc/sudoers.d")


class Place(Protocol):
    """The cluster that a rule is for."""

    @property
    def service_user(self) -> str:
        """The account of the service."""

    @property
    def controller_port(self) -> int:
        """What no two sandboxes share."""


def rule(account: str, program: Path, group: str) -> str:
    """The rule, as the installation guide has it (sudoers(5)).

    Where sudo puts a terminal (``use_pty``) or pipes (``log_input``) in front of programs it must not here: their
    standard input is a socket. ``""`` allows no arguments.
    """
    switches = "!use_pty, !requiretty, !log_input, !log_output"
    return f'Defaults!{program} {switches}\n{account} ALL = (%{group}) NOPASSWD: {program} ""\n'


def allow(cluster: Place, program: Path, group: str) -> None:
    """Writes the rule.

    :raises SandboxError: when sudo would not accept it
    """
    path = _path(cluster)
    draft = path.with_suffix(".draft")  # sudo passes over names with a dot
    draft.touch(mode=0o440)
    draft.write_text(rule(cluster.service_user, program, group))
    checked = subprocess.run(["/usr/sbin/visudo", "-cqf", str(draft)], capture_output=True, text=True, check=False)
    if checked.returncode:
        draft.unlink()
        raise SandboxError(f"sudo does not accept the rule for the sandbox: {checked.stdout}{checked.stderr}")
    draft.replace(path)


def forbid(cluster: Place) -> None:
    """Takes the rule away."""
    _path(cluster).unlink(missing_ok=True)


def _path(cluster: Place) -> Path:
    return FOLDER / f"ucloud-slurm-sandbox-{cluster.controller_port}"
