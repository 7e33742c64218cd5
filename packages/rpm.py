"""Packages of Enterprise Linux, with rpmbuild."""

import os
import shutil
import subprocess
from pathlib import Path

from packages import scripts, tree
from packages.targets import Release, Target, processor


def build(target: Target, release: Release, root: Path, into: Path) -> Path:
    """Makes the package of a tree; the same tree gives the same bytes.

    :param root: see :func:`packages.tree.make`
    :raises SystemExit: there is no rpmbuild, or it failed
    """
    if shutil.which("rpmbuild") is None:
        raise SystemExit("rpmbuild is missing; on Debian it is in the package rpm: apt-get install rpm")
    work = root.with_name(f"{root.name}-rpmbuild")
    work.mkdir()
    (work / "files").write_text("".join(f"{line}\n" for line in _files(root)))
    spec = work / "ucloud-slurm.spec"
    text = scripts.of_rpm(
        PROGRAM_VERSION=release.version,
        REVISION=f"{release.revision}{target.suffix}",
        PYTHON=target.python,
        FILES=str(work / "files"),
    )
    spec.write_text(text)
    defined = {"_topdir": "/tmp", "_rpmdir": str(work), "_rpmfilename": "made.rpm", "_build_name_fmt": "made.rpm"}  # noqa: S108
    defines = [word for name, value in defined.items() for word in ("--define", f"{name} {value}")]
    command = ["rpmbuild", "--quiet", "-bb", f"--target={processor()}", "--buildroot", str(root), *defines, str(spec)]
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(release.epoch), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise SystemExit(f"rpmbuild made no package:\n{done.stderr}")
    name = f"ucloud-slurm-{release.version}-{release.revision}{target.suffix}.{processor()}.rpm"
    shutil.move(work / "made.rpm", into / name)
    return into / name


def _files(root: Path) -> list[str]:
    lines = ["%defattr(-,root,root,-)", "%dir %verify(not mode group) /etc/ucloud-slurm", "%dir /opt/ucloud-slurm"]
    folders = [path for path in (root / "opt/ucloud-slurm").rglob("*") if path.is_dir() and not path.is_symlink()]
    lines += [f'%dir "/{path.relative_to(root)}"' for path in sorted(folders)]
    for name in tree.files(root):
        mark = "%config(noreplace) " if name.startswith("etc/") else "%doc " if name.startswith("usr/share/doc/") else ""
        lines.append(f'{mark}"/{name}"')
    return lines
