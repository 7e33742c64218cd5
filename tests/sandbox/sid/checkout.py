"""The checkout that this program runs from, copied into the Debian: what git keeps, as it is at the moment."""

import os
import shutil
import subprocess
from pathlib import Path

import ucloud_slurm
from tests.sandbox.errors import SandboxError
from ucloud_slurm.errors import one_line

REQUIREMENTS = ("setup.cfg", "setup.py")


class Checkout:
    """A checkout of this project."""

    def __init__(self, folder: Path = Path(ucloud_slurm.__file__).parents[1]) -> None:
        self.folder = folder

    def files(self) -> list[str]:
        """Its files as git keeps them, without those that were deleted since.

        :raises SandboxError: when it is no checkout
        """
        # a checkout of somebody else's is fine: nothing but its list of files is read
        git = ["git", "-c", "safe.directory=*", "-C", str(self.folder), "ls-files", "-z"]
        try:
            done = subprocess.run(git, capture_output=True, check=False, timeout=60)
        except FileNotFoundError:
            raise SandboxError("git is not installed; it lists the files to be tried: apt-get install git") from None
        if done.returncode != 0 or not (self.folder / "setup.cfg").is_file():
            said = one_line(os.fsdecode(done.stderr), 200)
            raise SandboxError(
                f"{self.folder} is not a checkout of this project's repository, so there is nothing to try; "
                f"start this from one, after `make venv`. git says: {said or 'nothing'}"
            )
        names = [os.fsdecode(name) for name in done.stdout.split(b"\0") if name]
        return [name for name in names if (self.folder / name).is_file()]

    def requirements(self) -> str:
        """The text that says what must be installed for it."""
        return "\0".join((self.folder / name).read_text() for name in REQUIREMENTS)

    def copy(self, target: Path) -> None:
        """Puts the files, and only them, into a folder."""
        shutil.rmtree(target, ignore_errors=True)
        for name in self.files():
            copied = target / name
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(self.folder / name, copied)

    def fetch(self, source: Path, name: str) -> None:
        """Takes a file or a folder back from a copy.

        :raises SandboxError: when it is not there, or would be outside of the checkout
        """
        target = self.folder / name
        if not target.resolve().is_relative_to(self.folder.resolve()):
            raise SandboxError(f"{name} is not in the checkout; name a file or a folder in it.")
        made = source / name
        if made.is_dir():
            shutil.copytree(made, target, dirs_exist_ok=True)
        elif made.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(made, target)
        else:
            raise SandboxError(f"The command has made no {name}; look at what it said.")
