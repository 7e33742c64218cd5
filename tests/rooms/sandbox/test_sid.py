"""The Debian sid that pyslurm is tried in: what it is made of, what this machine's settings say, what is copied."""

import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.sandbox import packages, slurm_conf
from tests.sandbox.errors import SandboxError
from tests.sandbox.folder import MARKER, Folder
from tests.sandbox.sid import recipe, settings
from tests.sandbox.sid.checkout import Checkout
from tests.sandbox.sid.chroot import Chroot
from tests.sandbox.sid.sid import Sid

ALL = recipe.steps("[metadata]")
BOOKWORM = {"ID": "debian", "VERSION_CODENAME": "bookworm"}


def silence(_sentence: str) -> None:
    pass


# ---- the recipe


def test_only_the_published_pyslurm_is_built() -> None:
    script = recipe.PYSLURM_STEP.script
    assert f"pyslurm=={recipe.PYSLURM} --hash=sha256:" in script
    assert "--require-hashes" in script
    assert "--no-binary pyslurm" in script


def test_the_flags_reach_the_compiler() -> None:
    (line,) = [line for line in recipe.PYSLURM_STEP.script.splitlines() if line.startswith("CFLAGS=")]
    assert all(flag in line for flag in recipe.FLAGS)
    assert "-DSLURM_BACKWARD_COMPAT" in recipe.FLAGS


def test_slurms_own_header_is_left_alone() -> None:
    # what differs is written into a copy; the cluster that is tried is the packaged one
    edited = [line for line in recipe.PYSLURM_STEP.script.splitlines() if line.startswith("sed")]
    assert edited
    assert all(line.endswith(" $version") for line in edited)
    assert f"version={recipe.PLACE}" in recipe.PYSLURM_STEP.script.replace("$headers", f"{recipe.PLACE}/include")


@pytest.mark.parametrize("step", ALL, ids=lambda step: step.name)
def test_scripts_are_ones_that_a_shell_reads(step: recipe.Step) -> None:
    subprocess.run(["sh", "-n", "-c", step.script], check=True)


def test_what_is_done_is_not_done_again() -> None:
    assert recipe.undone(ALL, recipe.fingerprints(ALL)) == ()
    assert recipe.undone(ALL, {}) == ALL


def test_what_rests_on_a_changed_step_is_done_again_and_nothing_else() -> None:
    done = recipe.fingerprints(ALL)
    changed = tuple(replace(step, script="another") if step.name == "python" else step for step in ALL)
    assert [step.name for step in recipe.undone(changed, done)] == ["python", "pyslurm", "product"]
    other = recipe.steps("[metadata] and one requirement more")
    assert [step.name for step in recipe.undone(other, done)] == ["product"]


def test_a_failure_names_step_log_release_and_what_to_do() -> None:
    sentence = recipe.failure(recipe.PYSLURM_STEP, "/somewhere/pyslurm.log", "27.02.1")
    for part in ("building pyslurm 25.11.2 failed", "/somewhere/pyslurm.log", "Slurm 27.02.1", "a newer pyslurm"):
        assert part in sentence


@pytest.mark.parametrize("step", ALL, ids=lambda step: step.name)
def test_every_step_says_what_to_do_when_it_fails(step: recipe.Step) -> None:
    assert step.advice in recipe.failure(step, "log", None)
    assert step.advice


def test_a_pair_that_nobody_promises_is_called_so() -> None:
    assert "do not support" in recipe.pair("26.05.5")
    assert "do not support" not in recipe.pair("25.11.7")


# ---- this machine's settings

TARGETS = """\
http://mirror.example.org/security/ bookworm-security main
http://mirror.example.org/debian/ bookworm-updates main
http://elsewhere.example.org/debian/ bookworm contrib
http://mirror.example.org/debian/ bookworm main
http://other.example.org/ nodistro main
"""


def test_the_mirror_is_that_of_apt() -> None:
    assert settings.mirror(TARGETS, BOOKWORM) == "http://mirror.example.org/debian/"


def test_another_distributions_mirror_is_not_taken_for_debians() -> None:
    assert settings.mirror(TARGETS, {"ID": "ubuntu", "VERSION_CODENAME": "bookworm"}) is None
    assert settings.mirror("", BOOKWORM) is None


def test_the_settings_of_pip_become_variables() -> None:
    configured = "global.index-url='https://index.example.org/simple'\ninstall.retries='3'\n:env:.timeout='9'\n"
    assert settings.pip_variables(configured, {"PIP_RETRIES": "5", "HOME": "/root"}) == {
        "PIP_INDEX_URL": "https://index.example.org/simple",
        "PIP_RETRIES": "5",
    }


def test_a_folder_of_this_machine_is_not_looked_for_inside() -> None:
    assert settings.pip_variables("global.find-links='/opt/wheels'", {}) == {}
    assert settings.pip_variables("", {"PIP_FIND_LINKS": "/opt/wheels"}) == {}


# ---- the checkout

Commit = Callable[..., Checkout]


@pytest.fixture
def commit(tmp_path: Path) -> Commit:
    """Makes a checkout with files that git keeps."""

    def commit_(**files: str) -> Checkout:
        folder = tmp_path / "checkout"
        folder.mkdir()
        for name, text in {"setup.cfg": "[metadata]", "setup.py": ""}.items() | files.items():
            (folder / name).write_text(text)
        git = ["git", "-C", str(folder), "-c", "init.defaultBranch=main"]
        subprocess.run([*git, "init", "-q"], check=True)
        subprocess.run([*git, "add", "-A"], check=True)
        return Checkout(folder)

    return commit_


def test_what_git_keeps_is_copied_as_it_is_now_and_nothing_else(commit: Commit, tmp_path: Path) -> None:
    checkout = commit(changed="before", deleted="x")
    (checkout.folder / "changed").write_text("now")
    (checkout.folder / "deleted").unlink()
    (checkout.folder / "secret").write_text("of nobody's business")
    target = tmp_path / "copy"
    (target / "old").mkdir(parents=True)
    checkout.copy(target)
    assert sorted(path.name for path in target.iterdir()) == ["changed", "setup.cfg", "setup.py"]
    assert (target / "changed").read_text() == "now"


def test_a_folder_that_is_no_checkout_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="is not a checkout"):
        Checkout(tmp_path).files()


def test_results_come_back_and_only_into_the_checkout(commit: Commit, tmp_path: Path) -> None:
    checkout = commit()
    made = tmp_path / "copy"
    (made / "docs").mkdir(parents=True)
    (made / "docs" / "measured.json").write_text("{}")
    checkout.fetch(made, "docs")
    assert (checkout.folder / "docs" / "measured.json").read_text() == "{}"
    with pytest.raises(SandboxError, match="made no plots"):
        checkout.fetch(made, "plots")
    with pytest.raises(SandboxError, match="not in the checkout"):
        checkout.fetch(made, "../elsewhere")


# ---- making and deleting


def test_without_root_nothing_is_begun(commit: Commit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SandboxError, match="root"):
        Sid(tmp_path / "sid", silence, commit()).build()
    assert not (tmp_path / "sid").exists()


def test_a_debian_with_something_mounted_in_it_is_not_deleted(
    commit: Commit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "sid"
    place = Sid(folder, silence, commit())
    (folder / "root").mkdir(parents=True)
    (folder / MARKER).touch()
    monkeypatch.setattr(Chroot, "mounts", lambda _chroot: [f"{folder}/root/dev"])
    with pytest.raises(SandboxError, match=f"umount {folder}/root/dev"):
        place.remove()
    assert (folder / "root").is_dir()
    monkeypatch.setattr(Chroot, "mounts", lambda _chroot: [])
    place.remove()
    assert not folder.exists()


def test_a_failed_step_is_tried_again_and_those_before_it_are_not(
    commit: Commit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    place = Sid(tmp_path / "sid", said.append, commit())
    ends = {"sh": 1}
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(Folder, "prepare", lambda place, **_: place.path.mkdir(exist_ok=True))
    monkeypatch.setattr(Folder, "ours", lambda _place: True)
    monkeypatch.setattr(Sid, "_make_base", lambda place, _step: place._inside("/etc/apt/apt.conf.d").mkdir(parents=True))
    monkeypatch.setattr(Chroot, "run", lambda _chroot, command, **_: ends[command[0]])
    monkeypatch.setattr(Chroot, "slurm", lambda _chroot: "26.05.5")
    with pytest.raises(SandboxError, match=r"Slurm 26\.05\.5.*slurm\.log.*try again"):
        place.build()
    ends["sh"] = 0
    place.build()
    place.build()
    assert [sentence.partition(" (log")[0] for sentence in said if "(log: " in sentence] == [
        "making a Debian sid",
        "installing the Slurm of Debian sid",
        *(step.what for step in ALL[1:]),
    ]


def test_what_a_killed_run_left_is_removed_before_the_next(
    commit: Commit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Sid(tmp_path / "sid", silence, commit())
    left = tmp_path / "sid" / "root" / "var" / "tmp" / "cluster"
    left.mkdir(parents=True)
    (left / MARKER).touch()
    ran: list[tuple[str, ...]] = []
    ends = [0]

    def run(_chroot: Chroot, command: list[str], *, folder: str, **_: object) -> int:
        ran.append((folder, *command))
        return ends[0]

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(Folder, "prepare", lambda *_, **__: None)
    monkeypatch.setattr(Folder, "ours", lambda _place: True)
    monkeypatch.setattr(Sid, "_build", lambda _place: None)
    monkeypatch.setattr(Chroot, "run", run)
    monkeypatch.setattr(Chroot, "slurm", lambda _chroot: "26.05.5")
    assert place.run(["true"]) == 0
    remove = ("python", "-m", "tests.sandbox", "--folder", "/var/tmp/cluster", "remove")
    assert ran == [(recipe.CHECKOUT, *remove), (recipe.CHECKOUT, "true")]
    ends[0] = 1
    with pytest.raises(SandboxError, match=r"/var/tmp/cluster.*tidy\.log"):
        place.run(["true"])


def test_inside_there_is_no_network_unless_asked_for() -> None:
    chroot = Chroot(Path("/somewhere"))
    assert "--net" in chroot.argv(["true"], online=False)
    assert "--net" not in chroot.argv(["true"], online=True)
    for online in (True, False):
        assert {"--mount", "--pid", "--kill-child"} < set(chroot.argv(["true"], online=online))


# ---- a cluster of either release


@pytest.mark.parametrize(
    ("said", "release"), [("slurm-wlm 22.05.8", (22, 5)), ("slurm-wlm 26.05.5", (26, 5)), ("slurm 24.11.0-rc1", (24, 11))]
)
def test_the_release_is_what_slurm_says(
    said: str, release: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "slurmctld"
    program.write_text(f"#!/bin/sh\necho {said}\n")
    program.chmod(0o755)
    monkeypatch.setattr(packages, "CONTROLLER", str(program))
    assert packages.release() == release


def test_a_program_that_is_no_slurm_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "CONTROLLER", "/bin/echo")
    with pytest.raises(SandboxError, match="/bin/echo -V does not name a release"):
        packages.release()


def test_control_groups_are_switched_off_where_slurm_has_the_switch() -> None:
    assert slurm_conf.cgroup_conf((26, 5)) == "CgroupPlugin=disabled\n"
    assert slurm_conf.cgroup_conf((22, 5)) is None
