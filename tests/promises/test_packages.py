"""The packages for distributions: what is in them, that they are reproducible, and what their scripts do to units."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from packages import deb, scripts, tree
from packages.targets import TARGETS, Release, Target, named

DEBIAN = named("debian12")
RELEASE = Release("1.2.3", 45, 1_790_000_000)
TIMERS = {"ucloud-slurm-worker.timer", "ucloud-slurm-backup.timer"}
WEB = {"ucloud-slurm.service"}


def make(target: Target, folder: Path) -> Path:
    """A tree whose modules are stand-ins."""
    for name in ("ucloud-slurm", "gunicorn", "pip"):
        info = folder / f"modules/{name}-1.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        (info / "entry_points.txt").write_text(f"[console_scripts]\n{name} = {name[:6]}.it:main\n")
        (info / "RECORD").write_text(f"{info.name}/METADATA,,\n../../bin/{name},sha256={folder},9\n")
    tree.make(target, RELEASE, folder / "modules", folder / "root")
    return folder / "root"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(DEBIAN, tmp_path_factory.mktemp("package"))


def test_a_package_has_all_that_an_administrator_needs(root: Path) -> None:
    found = set(tree.files(root))
    units = {path.name for path in (tree.ROOT / "systemd").iterdir() if path.suffix in tree.UNITS}
    assert {f"usr/lib/systemd/system/{name}" for name in units} <= found
    wanted = {"opt/ucloud-slurm/bin/ucloud-slurm", "opt/ucloud-slurm/bin/gunicorn", "usr/bin/ucloud-slurm"}
    wanted |= {"usr/share/man/man1/ucloud-slurm.1.gz", "usr/share/man/man5/ucloud-slurm-config.5.gz"}
    wanted |= {"usr/lib/sysusers.d/ucloud-slurm.conf", "usr/lib/tmpfiles.d/ucloud-slurm.conf"}
    wanted |= {"usr/share/bash-completion/completions/ucloud-slurm", "usr/share/zsh/vendor-completions/_ucloud-slurm"}
    examples = {"config.toml", "people.toml", "sudoers", "nginx.conf", "nginx-sessions.conf"}
    wanted |= {f"usr/share/doc/ucloud-slurm/examples/{name}" for name in examples}
    wanted |= {f"opt/ucloud-slurm/share/ucloud-slurm/etc/{name}" for name in examples}
    assert wanted <= found
    assert (root / "usr/share/man/man1/ucloud-slurm.1.gz").stat().st_size > 2000


def test_a_package_changes_nothing_in_etc_but_what_the_units_read(root: Path) -> None:
    inside = {name for name in tree.files(root) if name.startswith("etc/")}
    read = {match for unit in tree.units() for match in re.findall(r"/(etc/ucloud-slurm/\S+)", unit.read_text())}
    assert inside == read, "no rule of sudo and no keys: the administrator makes them"


def test_nothing_in_a_package_can_be_changed_by_others_than_root(root: Path) -> None:
    assert [path for path in root.rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o7022] == []


def test_the_paths_in_units_are_those_of_the_package(root: Path) -> None:
    for unit in tree.units():
        for program in re.findall(r"^ExecStart=/(\S+)", unit.read_text(), re.MULTILINE):
            assert os.access(root / program, os.X_OK), f"{unit.name} starts {program}"


def test_two_builds_give_the_same_package(root: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    first = deb.build(DEBIAN, RELEASE, shutil.copytree(root, tmp_path / "copy", symlinks=True), tmp_path / "a")
    before = os.umask(0o077)
    try:
        second = deb.build(DEBIAN, RELEASE, make(DEBIAN, tmp_path / "again"), tmp_path)
    finally:
        os.umask(before)
    assert first.name == second.name == "ucloud-slurm_1.2.3-45~deb12_amd64.deb".replace("amd64", first.stem.split("_")[-1])
    assert first.read_bytes() == second.read_bytes()
    field = subprocess.run(["dpkg-deb", "--info", first, "conffiles"], capture_output=True, text=True, check=True).stdout
    assert field.split() == [f"/etc/ucloud-slurm/{name}" for name in sorted(tree.CONFIGURATION)]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_later_commit_and_a_later_distribution_are_upgrades(target: Target) -> None:
    later = deb.version(target, Release("1.2.3", 46, 0))
    assert newer(later, deb.version(target, RELEASE))
    assert newer(deb.version(target, Release("1.3.0", 1, 0)), later)
    assert newer(deb.version(named("debian13"), RELEASE), deb.version(DEBIAN, RELEASE))


def newer(one: str, other: str) -> bool:
    return subprocess.run(["dpkg", "--compare-versions", one, "gt", other], check=False).returncode == 0


# -- the scripts ----------------------------------------------------------------------------------------------------


@pytest.fixture
def spec() -> str:
    return scripts.of_rpm(PROGRAM_VERSION="1.2.3", REVISION="45.el9", PYTHON="3.12", FILES="files")


def test_all_scripts_are_shell(spec: str) -> None:
    parts = re.split(r"^%(?:pre|post|posttrans|preun|postun|files.*)$", spec, flags=re.MULTILINE)[1:-1]
    for text in (*scripts.of_deb("1").values(), *(part.replace("%%", "%") for part in parts)):
        done = subprocess.run(["sh", "-n"], input=text, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert not re.search(r"@[A-Z_]+@", text)


class Systemctl:
    """A systemctl that knows which units are active and keeps what it is asked for."""

    def __init__(self, folder: Path, active: set[str]) -> None:
        self.folder = folder
        for unit in active:
            (folder / "active" / unit).parent.mkdir(exist_ok=True)
            (folder / "active" / unit).touch()
        program = folder / "systemctl"
        program.write_text(
            f"""#!/bin/sh
cd {folder}
echo "$*" >>calls
case $1 in
is-active) if [ -e active/$2 ]; then echo active; else echo inactive; exit 3; fi ;;
stop) shift; for unit; do rm -f active/$unit; done ;;
start) touch active/$3 ;;
esac
"""
        )
        program.chmod(0o755)

    def run(self, *functions: str) -> None:
        """Runs functions of the maintainer scripts, as one script."""
        text = scripts.of_deb("1")["postinst"].partition('case "$1"')[0]
        text = text.replace("/run/ucloud-slurm.paused", f"{self.folder}/paused").replace("[ -d /run/systemd/system ]", "true")
        environment = {"PATH": f"{self.folder}:{os.environ['PATH']}"}
        subprocess.run(["sh"], input="\n".join([text, *functions]), text=True, check=True, env=environment)

    @property
    def active(self) -> set[str]:
        return {path.name for path in (self.folder / "active").iterdir()}

    def calls(self, verb: str) -> list[list[str]]:
        """The words behind each call of a verb."""
        lines = (self.folder / "calls").read_text().splitlines()
        return [line.split()[1:] for line in lines if line.split()[0] == verb]


@pytest.mark.parametrize("active", [TIMERS | WEB, WEB, {"ucloud-slurm-worker.timer", "ucloud-slurm-listener.service"}])
def test_an_upgrade_starts_what_ran_and_nothing_else(tmp_path: Path, active: set[str]) -> None:
    systemctl = Systemctl(tmp_path, set(active))
    systemctl.run("pause")
    assert systemctl.active == active & WEB, "requests are answered meanwhile, and nothing new is started"
    systemctl.run("pause")  # the upgrade was broken off, and begins again
    systemctl.run("restart", "resume")
    assert systemctl.active == active
    systemctl.run("restart", "resume")
    assert len(systemctl.calls("start")) == len(active - WEB), "once each"
    assert not {unit for call in systemctl.calls("try-restart") for unit in call} & TIMERS


def test_every_unit_is_known_to_the_scripts() -> None:
    groups: Mapping[str, list[str]] = scripts.groups()
    sockets = {unit for unit in groups["UNITS"] if unit.endswith(".socket")}
    assert {*groups["UNITS"]} == {*groups["PAUSED_UNITS"], *groups["RESTARTED_UNITS"]} | sockets
    assert {"ucloud-slurm-worker.service", "ucloud-slurm-listener.service", *TIMERS} <= {*groups["PAUSED_UNITS"]}
    assert groups["PAUSED_UNITS"][-1] == "ucloud-slurm-standby.service", "nothing that needs the lease runs without it"


def test_an_installation_by_hand_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "pyvenv.cfg").write_text("home = /usr/bin\n")
    text = scripts.of_deb("1")["preinst"].replace("PROGRAM=/opt/ucloud-slurm", f"PROGRAM={tmp_path}")
    command = ["sh", "-s", "install"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"{tmp_path} was made by hand. Move it away, then install again: mv {tmp_path} {tmp_path}.old" in done.stderr
    (tmp_path / "pyvenv.cfg").write_text(tree.PYVENV)
    assert subprocess.run(command, input=text, capture_output=True, text=True, check=False).returncode == 0
