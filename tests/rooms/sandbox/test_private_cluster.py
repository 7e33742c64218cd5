"""What the private cluster is put together from: packages, accounts, its folder. Starts no server."""

import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.sandbox import packages, processes
from tests.sandbox.accounts import Accounts, Wanted
from tests.sandbox.claim import PREFIX, alone, new_cluster
from tests.sandbox.cli import sandbox
from tests.sandbox.cluster import Cluster, ClusterSettings, SandboxError
from tests.sandbox.daemons import Daemons
from tests.sandbox.folder import MARKER, Folder
from tests.sandbox.processes import wait_until

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

OURS = Wanted("sandbox-test-a", groups=("sandbox-test-g",))
THEIRS = Wanted("sandbox-test-b")


def silence(_sentence: str) -> None:
    pass


def has_account(name: str) -> bool:
    return any(entry.pw_name == name for entry in pwd.getpwall())


def has_group(name: str) -> bool:
    return subprocess.run(["getent", "group", name], capture_output=True, check=False).returncode == 0


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that all accounts can reach, with the test's own accounts gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="sandbox-test-", dir="/var/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)
    if os.geteuid() == 0:
        for command in ("userdel", OURS.name), ("userdel", THEIRS.name), ("groupdel", *OURS.groups):
            subprocess.run(command, capture_output=True, check=False)


# ---- accounts


@needs_root
def test_remove_deletes_only_accounts_it_made(folder: Path) -> None:
    subprocess.run(["useradd", "--create-home", "--base-dir", folder, THEIRS.name], check=True)
    accounts = Accounts(folder, silence)
    accounts.make([OURS, THEIRS])
    home = Path(pwd.getpwnam(OURS.name).pw_dir)
    assert home == folder / "home" / OURS.name
    assert home.owner() == OURS.name
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert "sandbox-test-g" in subprocess.check_output(["id", "-Gn", OURS.name], text=True).split()
    with (folder / "accounts").open("a") as record:
        record.write(f"user {THEIRS.name}\nuser root\n")
    left_behind = subprocess.Popen(["sleep", "600"], user=OURS.name, cwd="/")
    accounts.remove()
    assert left_behind.wait(10) < 0
    assert not has_account(OURS.name)
    assert not has_group("sandbox-test-g")
    assert has_account(THEIRS.name)
    assert has_account("root")


@needs_root
def test_homes_can_be_reached_whatever_the_umask(folder: Path) -> None:
    strict = os.umask(0o077)
    try:
        Accounts(folder, silence).make([OURS])
    finally:
        os.umask(strict)
    subprocess.run(["touch", folder / "home" / OURS.name / "here"], user=OURS.name, check=True)


@needs_root
def test_a_group_that_was_there_stays(folder: Path) -> None:
    subprocess.run(["groupadd", *OURS.groups], check=True)
    accounts = Accounts(folder, silence)
    accounts.make([OURS])
    accounts.remove()
    assert not has_account(OURS.name)
    assert has_group("sandbox-test-g")


@needs_root
def test_accounts_are_recognised_after_their_folder_was_deleted_by_hand(folder: Path) -> None:
    Accounts(folder, silence).make([OURS])
    shutil.rmtree(folder / "home")
    (folder / "accounts").unlink()
    again = Accounts(folder, silence)
    again.make([OURS])
    assert (folder / "home" / OURS.name).owner() == OURS.name
    again.remove()
    assert not has_account(OURS.name)


@needs_root
def test_an_account_without_a_home_is_refused_by_name(folder: Path) -> None:
    subprocess.run(["useradd", "--no-create-home", "--home-dir", "/no/home", THEIRS.name], check=True)
    with pytest.raises(SandboxError, match=f"{THEIRS.name} is there but its home /no/home is not"):
        Accounts(folder, silence).make([THEIRS])


# ---- folder


def test_a_folder_with_something_else_is_refused_and_never_deleted(folder: Path) -> None:
    (folder / "thesis.tex").touch()
    cluster = Cluster(ClusterSettings(folder=folder))
    with pytest.raises(SandboxError, match="holds something else"):
        cluster.start()
    cluster.stop()
    cluster.remove()
    assert (folder / "thesis.tex").exists()


@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_a_folder_that_others_can_write_to_is_refused(folder: Path, mode: int) -> None:
    folder.chmod(mode)
    with pytest.raises(SandboxError, match="not a folder that only you can write to"):
        Folder(folder).prepare(shared=False)


def test_a_link_in_place_of_the_folder_is_refused(folder: Path) -> None:
    (folder / "real").mkdir()
    (folder / "link").symlink_to("real")
    with pytest.raises(SandboxError, match="not a folder that only you can write to"):
        Folder(folder / "link").prepare(shared=False)


def test_a_folder_that_other_accounts_cannot_reach_is_refused(folder: Path) -> None:
    folder.chmod(0o700)
    with pytest.raises(SandboxError, match=f"cannot pass through {folder}"):
        Folder(folder / "inside").prepare(shared=True)


def test_a_folder_too_long_for_a_socket_is_refused(folder: Path) -> None:
    with pytest.raises(SandboxError, match="at most 80 bytes"):
        Folder(folder / ("x" * 80)).prepare(shared=False)


def test_whoever_waited_for_a_removed_sandbox_finds_none(folder: Path) -> None:
    place = Folder(folder / "inside")
    place.prepare(shared=False)
    found = []

    def wait_in_line() -> None:
        with Folder(folder / "inside").lock() as here:
            found.append(here)

    waiting = threading.Thread(target=wait_in_line)
    with place.lock() as here:
        assert here
        inode = f":{(folder / 'inside' / 'lock').stat().st_ino} "
        waiting.start()
        wait_until("nobody waits", lambda: is_waited_for(inode), seconds=10)
        place.delete()
    waiting.join()
    assert found == [False]


def is_waited_for(inode: str) -> bool:
    return any("->" in line and inode in line for line in Path("/proc/locks").read_text().splitlines())


@needs_root
def test_a_sandbox_of_another_account_is_left_alone(folder: Path) -> None:
    inside = folder / "inside"
    Folder(inside).prepare(shared=True)
    shutil.chown(inside, "nobody")
    with pytest.raises(SandboxError, match="not a folder that only you can write to"):
        Cluster(ClusterSettings(folder=inside)).start()
    assert (inside / MARKER).exists()


# ---- processes


def test_a_pid_that_is_used_again_is_not_taken_for_a_server(folder: Path) -> None:
    daemons = Daemons(folder, "127.0.0.1", {})
    (folder / "run").mkdir()
    with subprocess.Popen(["sleep", "3004"]) as innocent:
        try:
            (folder / "run" / "slurmctld").write_text(f"{innocent.pid} 12345\n")
            assert daemons.process("slurmctld") is None
            daemons.end(["slurmctld"])
            assert innocent.poll() is None
        finally:
            innocent.kill()


def test_a_process_lives_as_long_as_one_of_its_threads() -> None:
    """The first thread of a killed server may be gone while another still holds its port."""
    code = (
        "import ctypes, threading, time\n"
        "threading.Thread(target=time.sleep, args=(3005,)).start()\n"
        "ctypes.CDLL(None).pthread_exit(None)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        try:
            found = processes.find(process.pid)
            assert found is not None
            state = Path(f"/proc/{process.pid}/status")
            wait_until("the first thread runs on", lambda: "zombie" in state.read_text(), seconds=10)
            assert found.alive()
        finally:
            process.kill()
        wait_until("killed in vain", lambda: not found.alive(), seconds=10)


# ---- packages and plan


def test_the_plan_says_what_will_be_touched_and_touches_nothing(folder: Path) -> None:
    settings = ClusterSettings(folder=folder / "planned", base_port=17400, nodes=2)
    text = "\n".join(Cluster(settings).plan())
    for word in (f"{folder}/planned", "17406, 17417, 17419,", "17502", "slurmd-n2", "SLURM_CONF", "systemd"):
        assert word in text
    assert not (folder / "planned").exists()


def test_the_plan_names_missing_packages_and_accounts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "SLURM", ("slurmctld", "no-such-package"))
    monkeypatch.setattr("tests.sandbox.cluster.EVERYBODY", (OURS,))
    monkeypatch.setattr("tests.sandbox.layout.os.geteuid", lambda: 0)
    text = "\n".join(Cluster(ClusterSettings(folder=folder / "planned")).plan())
    assert "Install the packages no-such-package with apt-get" in text or "slurmctld, no-such-package" in text
    assert f"Make the accounts {OURS.name}, with homes in {folder}/planned/home" in text


def test_packages_are_told_apart_by_what_is_installed() -> None:
    assert packages.missing(["no-such-package", "dpkg", "no-such-other"]) == ("no-such-package", "no-such-other")


def test_without_dpkg_the_sentence_says_where_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(SandboxError, match="Debian and Ubuntu only"):
        packages.missing(["munge"])


def test_without_root_the_sentence_says_what_root_should_type(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SandboxError, match="run as root: apt-get install munge slurmd"):
        packages.install(["munge", "slurmd"], folder / "log", silence)


def apt_get(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a shell script in the place of apt-get, and a file of the test in the place of the policy."""
    program = folder / "apt-get"
    program.write_text(f"#!/bin/sh\ncd {folder}\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda _name: str(program))
    monkeypatch.setattr(packages, "POLICY", folder / "policy-rc.d")


def test_nothing_may_start_while_packages_are_installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apt_get(folder, monkeypatch, './policy-rc.d\necho "$? $DEBIAN_FRONTEND $*"')
    packages.install(["munge"], folder / "log", silence)
    said = (folder / "log").read_text().splitlines()
    assert said == [
        "101 noninteractive -o DPkg::Lock::Timeout=120 update -q",
        "101 noninteractive -o DPkg::Lock::Timeout=120 install -y -q --no-install-recommends munge",
    ]
    assert not (folder / "policy-rc.d").exists()


def test_a_policy_of_the_site_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apt_get(folder, monkeypatch, "true")
    (folder / "policy-rc.d").write_text("theirs")
    packages.install(["munge"], folder / "log", silence)
    assert (folder / "policy-rc.d").read_text() == "theirs"


def test_a_failed_installation_names_its_log_and_takes_the_policy_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apt_get(folder, monkeypatch, "exit 100")
    with pytest.raises(SandboxError, match=f"could not install munge; .* {folder}/log"):
        packages.install(["munge"], folder / "log", silence)
    assert not (folder / "policy-rc.d").exists()


# ---- which cluster a run of the tests has


class Described:
    """A cluster that is only its folder."""

    def __init__(self, number: int, folder: Path) -> None:
        self.number = number
        self.folder = folder
        self.found: list[str] = []

    def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.found = [path.name for path in self.folder.iterdir()]

    def remove(self) -> None:
        shutil.rmtree(self.folder)


def test_a_run_of_the_tests_finds_nothing_that_a_killed_run_has_left(tmp_path: Path) -> None:
    for number in (1, 2, 7):
        (tmp_path / f"{PREFIX}-{number}" / "sites").mkdir(parents=True)

    with new_cluster(tmp_path, Described) as cluster:
        assert cluster.found == []
        assert cluster.number == 1
        assert [path.name for path in tmp_path.glob(f"{PREFIX}-*")] == [f"{PREFIX}-1"]

    assert not cluster.folder.exists()


def test_runs_beside_each_other_have_a_cluster_each(tmp_path: Path) -> None:
    ends = threading.Event()
    began = threading.Event()
    numbers = []

    def run() -> None:
        with new_cluster(tmp_path, Described) as other:
            numbers.append(other.number)
            (other.folder / "sites").mkdir()
            began.set()
            assert ends.wait(10)

    beside = threading.Thread(target=run)
    beside.start()
    try:
        assert began.wait(10)
        with new_cluster(tmp_path, Described) as cluster:
            assert cluster.number == 2
            assert (tmp_path / f"{PREFIX}-1" / "sites").is_dir()  # another's folder is left alone
            ends.set()  # a run waits with its end for all others: they have its accounts
    finally:
        ends.set()
        beside.join(10)

    assert numbers == [1]
    assert list(tmp_path.glob(f"{PREFIX}-*")) == []


def test_a_second_command_does_not_take_the_sandbox_of_the_first(tmp_path: Path) -> None:
    folder = tmp_path / "place"
    with alone(folder):
        second = CliRunner().invoke(sandbox, ["--folder", str(folder), "down"])
        looks = CliRunner().invoke(sandbox, ["--folder", str(folder), "plan", "--json"])
    assert (second.exit_code, "wait for its end" in second.stderr) == (1, True)
    assert looks.exit_code == 0
    with alone(folder):
        pass
