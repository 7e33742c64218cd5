"""``python -m packages.trial [DISTRIBUTION...]``: builds two packages and tries them; exits with 0 if all went right.

The package to upgrade from is that of the commit that ``FROM`` names, else of the one before. Needs root and a network. With a
Slurm of the distribution on this machine, a job runs meanwhile.
"""

import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from packages.__main__ import build, release
from packages.targets import TARGETS, Target, named
from packages.tree import ROOT
from packages.trial import roots
from packages.trial.story import APPLICATION, PERSON, STEPS, NotTriedError, Story
from packages.trial.world import World
from tests.conftest import _describe
from tests.sandbox.claim import new_cluster
from tests.sandbox.cluster import Cluster
from tests.sandbox.core import ERAS, SimulatedCore
from tests.sandbox.core.errors import CoreError
from tests.sandbox.errors import SandboxError

ROOM = Path("/var/tmp")
WITH_SLURM = "debian12"


def older(target: Target, scratch: Path) -> Path:
    """The package of an earlier commit, built by what that commit has for it."""
    checkout = scratch / "older"
    subprocess.run(["git", "clone", "--quiet", "--shared", "--no-checkout", ROOT, checkout], check=True)
    commit = subprocess.run(
        ["git", "-C", ROOT, "rev-parse", os.environ.get("FROM", "HEAD~1")], check=True, capture_output=True, text=True
    ).stdout.strip()
    subprocess.run(["git", "-C", checkout, "checkout", "--quiet", "--detach", commit], check=True)
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    subprocess.run([sys.executable, "-m", "packages", target.name], cwd=checkout, env=environment, check=True)
    (made,) = (checkout / "build/packages").iterdir()
    return made


def play(target: Target, cluster: Cluster | None, scratch: Path) -> bool:
    """Tries the package of one distribution; says every step."""
    root = roots.root(target.name)
    shop = scratch / "packages"
    shop.mkdir()
    old = Path(shutil.move(older(target, scratch), shop))
    new = build(target, release(), shop)
    places = [shop]
    core = SimulatedCore(provider="example", era=ERAS["today"], first_id=811_000)
    core.start()
    core.catalogue.add_application(APPLICATION)
    core.accounts.set_quota(10**9, PERSON)
    if cluster is not None:
        places.append(cluster.folder)
    try:
        with World(root, scratch / "world", places) as world:
            print(
                f"{target.name}: {world.do('sh', '-c', '. /etc/os-release; echo $PRETTY_NAME')}, {old.name} -> {new.name}",
                flush=True,
            )
            story = Story(target, world, str(old), str(new), core, cluster)
            story.prepare()
            for step in STEPS:
                begun = time.monotonic()
                try:
                    step(story)
                except NotTriedError as reason:
                    print(f"  not tried   {step.__name__.replace('_', ' ')}: {reason}", flush=True)
                    continue
                except (AssertionError, OSError, subprocess.TimeoutExpired, SandboxError, CoreError) as failed:
                    print(f"  FAILED  {step.__name__.replace('_', ' ')}: {failed}", flush=True)
                    print(world.said("journalctl", "--no-pager", "-n", "40", "-u", "ucloud-slurm*"))
                    return False
                print(f"  ok {time.monotonic() - begun:5.1f} s  {step.__name__.replace('_', ' ')}", flush=True)
    finally:
        core.stop()
    return True


def main() -> None:
    """Tries what is named, or all."""
    chosen = [named(name) for name in sys.argv[1:]] or TARGETS
    good = True
    for target in chosen:
        with ExitStack() as stack:
            scratch = Path(stack.enter_context(TemporaryDirectory(prefix="ucloud-slurm-trial-", dir=ROOM)))
            scratch.chmod(0o755)
            here = target.name == WITH_SLURM and shutil.which("slurmctld") is not None and _is_debian12()
            cluster = stack.enter_context(new_cluster(ROOM, _describe)) if here else None
            good = play(target, cluster, scratch) and good
    sys.exit(0 if good else 1)


def _is_debian12() -> bool:
    return "VERSION_CODENAME=bookworm" in Path("/etc/os-release").read_text()


if __name__ == "__main__":
    main()
