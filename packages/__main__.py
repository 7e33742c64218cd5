"""``python -m packages [DISTRIBUTION...]``: builds the packages into ``build/packages``."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import ucloud_slurm
from packages import deb, rpm, tree
from packages.targets import TARGETS, Release, Target, named

INTO = tree.ROOT / "build/packages"


def release() -> Release:
    """What is checked out. ``SOURCE_DATE_EPOCH`` wins over the time of the commit; sources without git have no commits."""
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH") or _git("log", "-1", "--format=%ct") or 0)
    return Release(ucloud_slurm.__version__, int(_git("rev-list", "--count", "HEAD") or 0), epoch)


def _git(*words: str) -> str:
    if not (tree.ROOT / ".git").exists():
        return ""
    return subprocess.run(["git", "-C", tree.ROOT, *words], capture_output=True, text=True, check=True).stdout.strip()


def build(target: Target, release: Release, into: Path) -> Path:
    """Makes the package of a distribution."""
    with TemporaryDirectory(prefix="ucloud-slurm-package-") as scratch:
        folder = Path(scratch)
        tree.install_modules(target, folder / "modules")
        tree.make(target, release, folder / "modules", folder / "root")
        into.mkdir(parents=True, exist_ok=True)
        make = deb.build if target.kind == "deb" else rpm.build
        return make(target, release, folder / "root", into)


def main() -> None:
    """Builds what is named, or all."""
    chosen = [named(name) for name in sys.argv[1:]] or TARGETS
    if not sys.argv[1:]:
        shutil.rmtree(INTO, ignore_errors=True)
    made = release()
    for target in chosen:
        try:
            print(build(target, made, INTO).relative_to(tree.ROOT), flush=True)
        except subprocess.CalledProcessError as failed:
            sys.exit(f"No package for {target.name}: {failed.cmd[0]} ended with {failed.returncode}.")


if __name__ == "__main__":
    main()
