"""A file is trusted only if nobody but accounts that are trusted can change it, or what leads to it."""

import os
from pathlib import Path

import pytest

from ucloud_slurm.system.ownership import distrust

ME = os.geteuid()


def why(path: Path, *uids: int) -> str | None:
    found = distrust(path, lambda uid: uid in (0, *(uids or (ME,))), "root")
    return None if found is None else f"{found.why}; {found.repair}"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "etc"
    folder.mkdir(mode=0o755)
    (folder / "slurm.conf").write_text("")
    (folder / "slurm.conf").chmod(0o644)
    return folder


def test_a_file_of_trusted_accounts_is_trusted_below_a_sticky_folder_too(place: Path) -> None:
    assert why(place / "slurm.conf") is None
    place.chmod(0o1777)
    assert why(place / "slurm.conf") is None


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_that_others_can_write_is_not_trusted(place: Path, mode: int) -> None:
    (place / "slurm.conf").chmod(mode)
    said = why(place / "slurm.conf") or ""
    assert str(place / "slurm.conf") in said
    assert "chmod go-w" in said


@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_a_file_in_a_folder_that_others_can_write_is_not_trusted(place: Path, mode: int) -> None:
    place.chmod(mode)
    assert f"{place} can be changed by others" in (why(place / "slurm.conf") or "")


def test_a_link_is_as_trusted_as_the_folder_that_it_lies_in_and_what_it_leads_to(place: Path, tmp_path: Path) -> None:
    open_ = tmp_path / "open"
    open_.mkdir()
    open_.chmod(0o777)
    (open_ / "slurm.conf").symlink_to(place / "slurm.conf")
    assert f"{open_} can be changed by others" in (why(open_ / "slurm.conf") or ""), "it could be turned"
    (place / "link").symlink_to("../open")
    assert f"{open_} can be changed by others" in (why(place / "link" / "slurm.conf") or "")
    (place / "good").symlink_to("../etc/slurm.conf")
    assert why(place / "good") is None


def test_what_is_not_there_or_leads_in_circles_is_not_trusted(place: Path) -> None:
    assert "No such file" in (why(place / "none") or "")
    (place / "circle").symlink_to("circle")
    assert "symbolic links" in (why(place / "circle") or "")


def test_the_owner_is_named_with_the_command_that_repairs_it(place: Path) -> None:
    os.chown(place / "slurm.conf", 54321, 0)
    said = why(place / "slurm.conf") or ""
    assert "belongs to the uid 54321, and should belong to root" in said
    assert f"chown -h root {place / 'slurm.conf'}" in said
    assert why(place / "slurm.conf", 54321) is None
