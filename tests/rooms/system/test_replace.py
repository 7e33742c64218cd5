"""A file is the old one or the new one, whatever happens in between, and nobody else reads a secret meanwhile."""

import os
import stat
from pathlib import Path

import pytest

from ucloud_slurm.system.replace import replace


def test_a_file_is_replaced_and_the_old_one_has_another_name(tmp_path: Path) -> None:
    path, backup = tmp_path / "file", tmp_path / "file.before"
    replace(path, "one", mode=0o640)
    replace(path, "two", mode=0o640, backup=backup)
    assert (path.read_text(), backup.read_text()) == ("two", "one")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert {each.name for each in tmp_path.iterdir()} == {"file", "file.before"}


def test_a_new_file_replaces_none_that_another_process_has_made(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace(path, "one", mode=0o640, new=True)
    with pytest.raises(FileExistsError):
        replace(path, "two", mode=0o640, new=True)
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("file", "one")]


@pytest.mark.parametrize("name", ["fchmod", "fsync", "link", "rename"])
def test_a_failure_at_any_call_leaves_the_old_file_and_nothing_else(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, backup = tmp_path / "file", tmp_path / "file.before"
    path.write_text("one")

    def fails(*_arguments: object, **_named: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, name, fails)
        with pytest.raises(OSError, match="No space left"):
            replace(path, "two", mode=0o640, backup=backup)
    assert path.read_text() == "one"
    assert {each.name for each in tmp_path.iterdir()} - {"file.before"} == {"file"}


def test_a_process_that_is_killed_leaves_a_whole_file_and_no_readable_secret(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    for number, name in enumerate(("fchmod", "fsync", "link", "rename")):
        path.write_text("old")
        child = os.fork()
        if child == 0:
            os.umask(0)
            setattr(os, name, lambda *_arguments, **_named: os._exit(9))
            replace(path, "new", mode=0o600, backup=tmp_path / f"backup-{number}")
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9, name
        assert path.read_text() == "old"
        modes = {stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir() if each.name.startswith(".secret")}
        assert modes == {0o600}


def test_a_link_in_its_place_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("other")
    (tmp_path / "file").symlink_to("other")
    replace(tmp_path / "file", "new", mode=0o600)
    assert (tmp_path / "other").read_text() == "other"
    assert (tmp_path / "file").read_text() == "new"
