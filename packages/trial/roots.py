"""Clean root folders of the distributions, made once by debootstrap and never changed: trials work on a layer above."""

import os
import shutil
import subprocess
from pathlib import Path

FOLDER = Path("/var/cache/ucloud-slurm-packages")
SUITES = {"debian12": "bookworm", "debian13": "trixie", "ubuntu24.04": "noble"}
# The package for Enterprise Linux is tried where its release of Python is: its own distribution cannot be made here.
STAND_INS = {"el9": "ubuntu24.04"}
INCLUDED = ("systemd", "dbus", "python3", "sudo", "curl", "ca-certificates", "procps")
MORE = {"debian12": ("slurm-client",)}
SCRIPTS = Path("/usr/share/debootstrap")
KEYRING = "usr/share/keyrings/ubuntu-archive-keyring.gpg"


def root(name: str) -> Path:
    """The root folder for a target; made unless it is there, which needs root, a network and some minutes.

    :raises SystemExit: debootstrap is missing or failed
    """
    distribution = STAND_INS.get(name, name)
    made = FOLDER / SUITES[distribution]
    if not (made / ".complete").exists():
        if shutil.which("debootstrap") is None:
            raise SystemExit("debootstrap is missing: apt-get install debootstrap")
        shutil.rmtree(made, ignore_errors=True)
        _debootstrap(distribution, made)
    if name in STAND_INS and not (made / "usr/bin/rpm").exists():
        _inside(made, "apt-get -q update && apt-get -q install -y --no-install-recommends rpm")
    (made / ".complete").touch()
    return made


def _debootstrap(distribution: str, made: Path) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    print(f"making {made}: see {made}.log", flush=True)
    command = ["debootstrap", "--variant=minbase", f"--include={','.join((*INCLUDED, *MORE.get(distribution, ())))}"]
    environment = dict(os.environ)
    if distribution.startswith("ubuntu"):
        # Debian has the keys of Ubuntu's archive, and a release that is older than Ubuntu's does not know its name.
        command += [f"--keyring={_ubuntu_keys()}", "--components=main,universe"]
        scripts = FOLDER / "debootstrap"
        if not scripts.exists():
            shutil.copytree(SCRIPTS, scripts, symlinks=True)
        if not (scripts / "scripts" / made.name).exists():
            (scripts / "scripts" / made.name).symlink_to("gutsy")
        environment["DEBOOTSTRAP_DIR"] = str(scripts)
    with Path(f"{made}.log").open("wb") as log:
        done = subprocess.run(
            [*command, made.name, str(made)], env=environment, stdout=log, stderr=log, check=False, timeout=1800
        )
    if done.returncode != 0:
        raise SystemExit(f"debootstrap failed: see {made}.log")


def _ubuntu_keys() -> Path:
    keys = FOLDER / "keyring" / KEYRING
    if not keys.exists():
        debian = root("debian13")
        _inside(debian, "cd /tmp && apt-get -q download ubuntu-keyring && dpkg-deb -x ubuntu-keyring*.deb /tmp/keyring")
        shutil.copytree(debian / "tmp/keyring", FOLDER / "keyring", dirs_exist_ok=True)
    return keys


def _inside(made: Path, script: str) -> None:
    with Path(f"{made}.log").open("ab") as log:
        done = subprocess.run(["chroot", made, "sh", "-ec", script], stdout=log, stderr=log, check=False, timeout=900)
    if done.returncode != 0:
        raise SystemExit(f"{script} failed in {made}: see {made}.log")
