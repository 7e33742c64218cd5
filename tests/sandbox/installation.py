"""The product and what it needs, copied to where the service account can read it.

A checkout may lie in a folder that only its owner may enter; the daemon runs as an account of its own.
"""

import compileall
import importlib.util
import shutil
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

import ucloud_slurm
from tests.sandbox.errors import SandboxError
from ucloud_slurm.users import bundle

NAME = "ucloud-slurm"
RULE = "/etc/ucloud-slurm-people.toml"
OPTIONAL = ("pyslurm",)
"""What is copied where it is installed; without it the product works as well."""


class Installation:
    """A folder with the packages that the product imports. ``environment()`` makes Python use them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def python(self) -> str:
        """The interpreter in a virtual environment, as an administrator has it: packages of the host cost no start time."""
        return str(self.folder / "bin" / "python3")

    @property
    def interpreter(self) -> str:
        """The one below the virtual environment of this process."""
        base = Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
        return str(base.resolve())

    def environment(self) -> dict[str, str]:
        """Variables that make the interpreter import from here."""
        return {"PYTHONPATH": str(self.folder), "PYTHONNOUSERSITE": "1", "PYTHONDONTWRITEBYTECODE": "1"}

    def make(self) -> None:
        """Copies the packages as they are now; a copy of before goes away.

        :raises SandboxError: when the interpreter cannot be used by other accounts
        """
        self._check_interpreter()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(mode=0o755, parents=True)
        package = Path(ucloud_slurm.__file__).parent
        shutil.copytree(package, self.folder / package.name)
        shutil.copytree(Path(__file__).parent, self.folder / "tests" / "sandbox")
        self._place_rule()
        for name in sorted(_requirements(NAME, set())):
            _copy(metadata.distribution(name), self.folder)
        for name in OPTIONAL:
            with suppress(metadata.PackageNotFoundError):
                _copy(metadata.distribution(name), self.folder)
        # As pip does: without it every start would compile what it imports, and could not keep it.
        compileall.compile_dir(self.folder / package.name, quiet=2)
        for path in self.folder.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        self._make_program()

    @property
    def program(self) -> Path:
        """The small program that sudo starts as a user."""
        return self.folder / "bin" / bundle.NAME

    @property
    def rule(self) -> Path:
        """Where this copy looks for the rule about people: not where that of the machine is."""
        return self.folder.parent / "people.toml"

    def _place_rule(self) -> None:
        module = self.folder / "ucloud_slurm" / "system" / "accounts.py"
        text = module.read_text(encoding="utf-8")
        if text.count(RULE) != 1:
            raise SandboxError(f"{module} names the rule about people in another way than the sandbox expects.")
        module.write_text(text.replace(RULE, str(self.rule)), encoding="utf-8")

    def command(self, *arguments: str) -> list[str]:
        """``ucloud-slurm``, as the script of pip starts it."""
        return [self.python, str(self.folder / "bin" / NAME), *arguments]

    def _make_program(self) -> None:
        self.program.parent.mkdir(mode=0o755, exist_ok=True)
        bundle.write(self.program, self.folder)
        Path(self.python).symlink_to(self.interpreter)
        script = "import sys\nfrom ucloud_slurm.__main__ import main\nsys.exit(main())\n"
        (self.folder / "bin" / NAME).write_text(script, encoding="utf-8")
        settings = f"home = {Path(self.interpreter).parent}\ninclude-system-site-packages = false\n"
        (self.folder / "pyvenv.cfg").write_text(settings, encoding="utf-8")

    def _check_interpreter(self) -> None:
        path = Path(self.interpreter)
        closed = [folder for folder in path.parents if not folder.stat().st_mode & 0o001]
        if closed:
            raise SandboxError(
                f"{path} cannot be used by other accounts, because {closed[0]} is closed to them; make the virtual "
                "environment from a Python of the system, such as /usr/bin/python3."
            )


def _requirements(name: str, seen: set[str]) -> set[str]:
    for text in metadata.distribution(name).requires or []:
        requirement = Requirement(text)
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if wanted and requirement.name not in seen:
            seen.add(requirement.name)
            _requirements(requirement.name, seen)
    return seen


def _copy(distribution: metadata.Distribution, folder: Path) -> None:
    """Copies a package, with the bytecode that lies beside it: pip lists that only where it made it."""
    for file in distribution.files or []:
        source = Path(str(distribution.locate_file(file)))
        if ".." in file.parts or not source.is_file():
            continue
        copies = {source: folder / file}
        if file.suffix == ".py":
            bytecode = Path(importlib.util.cache_from_source(str(source)))
            copies[bytecode] = folder / file.parent / bytecode.parent.name / bytecode.name
        for before, after in copies.items():
            if before.is_file():
                after.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(before, after)  # with its time: bytecode counts for a module of that time
