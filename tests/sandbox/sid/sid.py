"""The Debian sid in a folder of its own: made once, used again, deleted."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.sandbox import packages
from tests.sandbox.commands import PLAIN
from tests.sandbox.errors import SandboxError
from tests.sandbox.folder import MARKER, Folder
from tests.sandbox.sid import recipe, settings
from tests.sandbox.sid.checkout import Checkout
from tests.sandbox.sid.chroot import Chroot
from tests.sandbox.sid.recipe import Step

FOLDER = Path("/var/tmp/ucloud-slurm-sid")  # Folder.prepare looks whose it is
DEBOOTSTRAP = ("debootstrap", "debian-archive-keyring")
ALONE = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
"""What debootstrap mounts while it works is gone with it, also when it is killed."""
PATH = {"PATH": f"{recipe.VENV}/bin:{PLAIN['PATH']}"}
PASSED_ON = ("TERM", "COLUMNS")


class Sid:
    """One such folder. One at a time builds, runs or removes; another one waits."""

    def __init__(self, folder: Path, say: Callable[[str], None], checkout: Checkout | None = None) -> None:
        """Describe it; nothing is touched.

        :param say: gets short sentences about what happens
        """
        self._place = Folder(folder)
        self._folder = folder
        self._say = say
        self._checkout = checkout or Checkout()
        self._chroot = Chroot(folder / "root")
        self._built = folder / "built.json"

    def build(self) -> None:
        """Make what is not there yet.

        :raises SandboxError: naming the step that failed, its log and what to do
        """
        with self._locked():
            self._build()
            self._say(f"in {self._folder}: {self._pair()}")

    def run(self, command: Sequence[str], *, online: bool = False, fetch: Sequence[str] = ()) -> int:
        """Build what is missing, and run a command in a copy of the checkout; gives its exit status.

        It has a network of its own without anybody else in it, and everything that it started ends with it.

        :param online: let it have this machine's network instead
        :param fetch: files and folders in the checkout to take back afterwards, whatever the exit status
        :raises SandboxError: when there is nothing to run it in, or something to fetch is not there
        """
        with self._locked():
            self._build()
            self._tidy()
            self._say(self._pair())
            ours = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
            more = settings.online() if online else {}
            status = self._chroot.run(command, folder=recipe.CHECKOUT, online=online, environment=more | ours | PATH)
            for name in fetch:
                self._checkout.fetch(self._inside(recipe.CHECKOUT), name)
            return status

    def _tidy(self) -> None:
        """Remove the clusters that killed runs have left, with their accounts. None of their processes lives."""
        for marker in sorted(self._inside("/var/tmp").glob(f"*/{MARKER}")):  # nobody else is in there
            left = f"/var/tmp/{marker.parent.name}"
            log = self._folder / "tidy.log"
            with log.open("wb") as sink:
                command = ["python", "-m", "tests.sandbox", "--folder", left, "remove"]
                if self._chroot.run(command, folder=recipe.CHECKOUT, online=False, environment=PATH, log=sink):
                    raise SandboxError(
                        f"What an earlier run left in {left} of the Debian cannot be removed; see {log}, or begin "
                        "anew with: python -m tests.sandbox sid remove"
                    )

    def remove(self) -> None:
        """Delete everything, if there is something.

        :raises SandboxError: when something is mounted in there, which would be deleted too
        """
        with self._place.lock() as here:
            if not here:
                return
            self._check_unmounted()
            self._place.delete()

    # ---- building

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if os.geteuid() != 0:
            raise SandboxError("Another Debian can be made and entered by root only; run this as root.")
        self._checkout.files()  # before anything is made
        self._place.prepare(shared=True)
        with self._place.lock() as here:
            if not here:
                raise SandboxError(f"{self._folder} was being removed; try again.")
            yield

    def _build(self) -> None:
        wanted = recipe.steps(self._checkout.requirements())
        for step in recipe.undone(wanted, self._done()):
            self._say(f"{step.what} (log: {self._log(step)})")
            self._forget_from(step, wanted)
            if step is recipe.BASE:
                self._make_base(step)
            else:
                self._take_settings_over()
                self._copy()
                self._inside_of(step)
            self._remember(step, wanted)
        self._copy()

    def _pair(self) -> str:
        return recipe.pair(self._chroot.slurm() or "(none)")

    def _make_base(self, step: Step) -> None:
        packages.install(packages.missing(DEBOOTSTRAP), self._log(step), self._say)
        self._check_unmounted()
        shutil.rmtree(self._chroot.root, ignore_errors=True)
        mirror = settings.apts_mirror()
        argv = [*ALONE, "debootstrap", "--variant=minbase", recipe.SUITE, str(self._chroot.root)]
        argv += [mirror] if mirror else []
        with self._log(step).open("ab") as log:
            try:
                done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False, timeout=step.seconds)
            except subprocess.TimeoutExpired:
                raise self._failed(step) from None
        if done.returncode != 0:
            raise self._failed(step)

    def _inside_of(self, step: Step) -> None:
        with self._log(step).open("ab") as log:
            try:
                status = self._chroot.run(
                    ["sh", "-exc", step.script],
                    online=True,
                    environment=settings.online() | {"DEBIAN_FRONTEND": "noninteractive"},
                    log=log,
                    timeout=step.seconds,
                )
            except subprocess.TimeoutExpired:
                raise self._failed(step) from None
        if status != 0:
            raise self._failed(step)

    def _failed(self, step: Step) -> SandboxError:
        slurm = self._chroot.slurm() if self._chroot.root.is_dir() else None
        return SandboxError(recipe.failure(step, str(self._log(step)), slurm))

    def _take_settings_over(self) -> None:
        self._inside(recipe.PLACE).mkdir(parents=True, exist_ok=True)
        (self._chroot.root / "etc/apt/apt.conf.d/00outside").write_text(settings.fetching())
        if bundle := settings.bundle():
            shutil.copyfile(bundle, self._inside(recipe.CERTIFICATES))

    def _copy(self) -> None:
        self._checkout.copy(self._inside(recipe.CHECKOUT))

    def _inside(self, path: str) -> Path:
        return self._chroot.root / path.lstrip("/")

    def _log(self, step: Step) -> Path:
        return self._folder / f"{step.name}.log"

    def _check_unmounted(self) -> None:
        if mounted := self._chroot.mounts():
            raise SandboxError(
                f"{mounted[0]} is mounted in the Debian to be deleted, and what is there would be deleted too; "
                f"unmount it first: umount {mounted[0]}"
            )

    # ---- what is done

    def _done(self) -> dict[str, str]:
        try:
            found = json.loads(self._built.read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _forget_from(self, step: Step, wanted: Sequence[Step]) -> None:
        after = {later.name for later in wanted[list(wanted).index(step) :]}
        self._write({name: word for name, word in self._done().items() if name not in after})

    def _remember(self, step: Step, wanted: tuple[Step, ...]) -> None:
        self._write(self._done() | {step.name: recipe.fingerprints(wanted)[step.name]})

    def _write(self, done: dict[str, str]) -> None:
        draft = self._built.with_suffix(".draft")
        draft.write_text(json.dumps(done, indent=2) + "\n")
        draft.replace(self._built)
