"""The files of a package: a folder that looks as ``/`` does after the installation."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packages import manual
from packages.targets import Release, Target, processor

ROOT = Path(__file__).parent.parent
CONFIGURATION = ("gunicorn.conf.py", "gunicorn-files.conf.py")
"""The files of ``etc/`` that the units need as they are; the others are examples."""
UNITS = (".service", ".socket", ".timer")
COMMANDS = ("ucloud-slurm", "gunicorn", "pip")
SCRIPT = """#!/opt/ucloud-slurm/bin/python3 -I
import sys
from {module} import {attribute}
sys.exit({attribute}())
"""
# `package` is ours: a virtual environment that was made by hand has none, and is not overwritten.
PYVENV = """home = /usr/bin
include-system-site-packages = false
version = {python}
package = ucloud-slurm
"""
DOCUMENTS = "usr/share/doc/ucloud-slurm"
# The kinds of wheels that run with the C libraries of all targets (PEP 600: glibc 2.28).
PLATFORMS = ("manylinux_2_28", "manylinux_2_17", "manylinux2014")


def install_modules(target: Target, folder: Path) -> None:
    """Puts what the lock lists, and the program, into a folder, for the Python of a distribution. Needs a package index.

    pip compares the hash of every file with the lock, and compiles nothing.

    :raises CalledProcessError: pip failed, and has said why
    """
    quiet = ("--quiet", "--disable-pip-version-check", "--no-input", "--no-deps")
    pip = (sys.executable, "-m", "pip")
    into = ("install", *quiet, "--no-compile", "--only-binary", ":all:", "--target", str(folder))
    python = ["--implementation", "cp", "--python-version", target.python]
    for abi in (f"cp{target.python.replace('.', '')}", "abi3", "none"):
        python += ["--abi", abi]
    for each in PLATFORMS:
        python += ["--platform", f"{each}_{processor()}"]
    subprocess.run([*pip, *into, *python, "--require-hashes", "-r", ROOT / "etc/requirements.lock"], check=True)
    shutil.rmtree(folder / "bin")  # with the interpreter of this machine in their first lines
    wheels = folder.with_name("wheels")
    for left_over in (wheels, ROOT / "build/lib"):
        shutil.rmtree(left_over, ignore_errors=True)
    subprocess.run([*pip, "wheel", *quiet, "--no-build-isolation", "--wheel-dir", wheels, ROOT], check=True)
    subprocess.run([*pip, *into, *python, "--no-index", "--find-links", wheels, "ucloud-slurm"], check=True)
    for elsewhere in ("bin", "share"):
        shutil.rmtree(folder / elsewhere)


def make(target: Target, release: Release, modules: Path, root: Path) -> None:
    """Makes the tree.

    :param modules: see :func:`install_modules`; it is moved away
    :param root: a folder that is not there yet
    """
    site = root / target.site
    site.parent.mkdir(parents=True)
    shutil.move(modules, site)
    for record in site.glob("*.dist-info/RECORD"):
        # The hashes of what is not in the package depend on the machine that built it.
        lines = record.read_text().splitlines(keepends=True)
        record.write_text("".join(line for line in lines if (site / line.partition(",")[0]).is_file()))
    _environment(target, root / "opt/ucloud-slurm", site)
    for unit in units():
        _copy(unit, root / "usr/lib/systemd/system" / unit.name)
    _copy(ROOT / "systemd/ucloud-slurm.sysusers", root / "usr/lib/sysusers.d/ucloud-slurm.conf")
    _copy(ROOT / "systemd/ucloud-slurm.tmpfiles", root / "usr/lib/tmpfiles.d/ucloud-slurm.conf")
    for name in CONFIGURATION:
        _copy(ROOT / "etc" / name, root / "etc/ucloud-slurm" / name)
    for folder in ("etc", "systemd"):  # where setup looks for them
        for path in (path for path in (ROOT / folder).rglob("*") if path.is_file()):
            _copy(path, root / "opt/ucloud-slurm/share/ucloud-slurm" / path.relative_to(ROOT))
    for path in examples():
        _copy(path, root / DOCUMENTS / "examples" / path.relative_to(ROOT / "etc"))
    for path in [*ROOT.glob("*.rst"), *(ROOT / "docs").rglob("*.rst")]:
        _copy(path, root / DOCUMENTS / path.relative_to(ROOT))
    _copy(ROOT / "LICENSE", root / DOCUMENTS / "copyright")
    if (bill := ROOT / "build/sbom.json").is_file():
        _copy(bill, root / DOCUMENTS / "sbom.json")
    manual.write(release, root / "usr/share/man")
    _completion(target, root / "usr/share")
    _normalize(root, release.epoch)


def units() -> list[Path]:
    """The units of systemd."""
    return sorted(path for path in (ROOT / "systemd").iterdir() if path.suffix in UNITS)


def examples() -> list[Path]:
    """What an administrator copies and changes: configuration, nginx, sudo."""
    found = (path for path in (ROOT / "etc").rglob("*") if path.is_file())
    return sorted(path for path in found if path.suffix != ".lock" and path.name not in CONFIGURATION)


def files(root: Path) -> Iterator[str]:
    """The paths of all files and links of a tree, without the first slash, in order."""
    yield from sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_symlink() or path.is_file())


def _environment(target: Target, folder: Path, site: Path) -> None:
    """What makes a virtual environment (PEP 405) of the folder."""
    commands = folder / "bin"
    commands.mkdir()
    (commands / "python3").symlink_to(f"/usr/bin/python{target.python}")
    (commands / "python").symlink_to("python3")
    (folder / "lib64").symlink_to("lib")
    (folder / "pyvenv.cfg").write_text(PYVENV.format(python=target.python))
    known = {entry.name: entry for each in installed(site) for entry in each.entry_points if entry.group == "console_scripts"}
    for name in COMMANDS:
        text = SCRIPT.format(module=known[name].module, attribute=known[name].attr)
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    public = folder.parents[1] / "usr/bin/ucloud-slurm"
    public.parent.mkdir(parents=True)
    public.symlink_to("/opt/ucloud-slurm/bin/ucloud-slurm")


def installed(site: Path) -> list[Distribution]:
    """The distributions in a folder."""
    return list(distributions(path=[str(site)]))


def _completion(target: Target, share: Path) -> None:
    from click.shell_completion import BashComplete, FishComplete, ZshComplete

    from ucloud_slurm.cli.main import main

    zsh = "zsh/vendor-completions" if target.kind == "deb" else "zsh/site-functions"
    places = {
        BashComplete: "bash-completion/completions/ucloud-slurm",
        FishComplete: "fish/vendor_completions.d/ucloud-slurm.fish",
        ZshComplete: f"{zsh}/_ucloud-slurm",
    }
    for kind, place in places.items():
        made = kind(main, {}, "ucloud-slurm", "_UCLOUD_SLURM_COMPLETE")
        path = share / place
        path.parent.mkdir(parents=True)
        path.write_text(made.source_template % made.source_vars())


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _normalize(root: Path, epoch: int) -> None:
    """One time and plain modes, whatever the umask and the clock of the build are."""
    for path in [root, *root.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.parent == root / "opt/ucloud-slurm/bin" else 0o644)
        os.utime(path, (epoch, epoch), follow_symlinks=False)
