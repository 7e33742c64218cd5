"""Packages of Debian's family, with dpkg-deb."""

import hashlib
import os
import subprocess
from pathlib import Path

from packages import scripts, tree
from packages.targets import DEBIAN_ARCHITECTURES, Release, Target, processor

# What runs in the background is not in Depends: sites build Slurm themselves, and some have another proxy.
CONTROL = """Package: ucloud-slurm
Version: {version}
Architecture: {architecture}
Maintainer: the ucloud-slurm contributors <ucloud-slurm@localhost>
Installed-Size: {kibibytes}
Depends: python{python}, systemd, libc6 (>= 2.28), libgcc-s1
Recommends: nginx, sudo
Suggests: slurm-client, munge
Section: admin
Priority: optional
Description: makes a Slurm cluster a provider of UCloud
 A service on a host where users submit jobs: researchers start jobs in UCloud,
 the cluster runs them as ordinary Slurm jobs, and UCloud shows their logs,
 shells, web pages, states and costs.
"""


def version(target: Target, release: Release) -> str:
    """As dpkg compares it (deb-version(7))."""
    return f"{release.version}-{release.revision}{target.suffix}"


def build(target: Target, release: Release, root: Path, into: Path) -> Path:
    """Makes the package of a tree; the same tree gives the same bytes.

    :param root: see :func:`packages.tree.make`; the control files are added to it
    :raises CalledProcessError: dpkg-deb failed, and has said why
    """
    names = list(tree.files(root))
    paths = [path for path in map(root.joinpath, names) if not path.is_symlink()]
    control = root / "DEBIAN"
    control.mkdir()
    control.chmod(0o755)
    text = CONTROL.format(
        version=version(target, release),
        architecture=DEBIAN_ARCHITECTURES[processor()],
        kibibytes=sum(-(-path.stat().st_size // 1024) for path in paths),
        python=target.python,
    )
    sums = [f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(root)}" for path in paths]  # noqa: S324
    written = {
        "control": text,
        "conffiles": "".join(f"/{name}\n" for name in names if name.startswith("etc/")),
        "md5sums": "".join(f"{line}\n" for line in sums if "  etc/" not in line),
        **scripts.of_deb(version(target, release)),
    }
    for name, content in written.items():
        (control / name).write_text(content)
        (control / name).chmod(0o755 if content.startswith("#!") else 0o644)
    made = into / f"ucloud-slurm_{version(target, release)}_{DEBIAN_ARCHITECTURES[processor()]}.deb"
    command = ["dpkg-deb", "--root-owner-group", "-Zxz", "--threads-max=1", "--build", str(root), str(made)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"SOURCE_DATE_EPOCH": str(release.epoch)})
    return made
