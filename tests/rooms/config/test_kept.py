"""The kept configuration: it is that of the file, whatever changes, and nobody else can give the service one."""

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from ucloud_slurm import config
from ucloud_slurm.config import kept
from ucloud_slurm.errors import Misconfigured

EXAMPLE = Path(__file__).parents[3] / "etc" / "config.toml"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which a configuration is kept."""
    place = tmp_path / "cache"
    place.mkdir(mode=0o700)
    monkeypatch.setenv(kept.FOLDER_VARIABLE, str(place))
    return place


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The annotated example, with all that is commented out in it."""
    path = tmp_path / "config.toml"
    text = re.sub(r"^#(?=[a-z_]+ = |\[\[)", "", EXAMPLE.read_text(), flags=re.MULTILINE)
    path.write_text(text.replace('mapping = "service"', 'mapping = "table"'))
    return path


@pytest.fixture
def checked(mocker: MockerFixture) -> Callable[[], int]:
    """How often the file was checked since the last call."""
    spy = mocker.spy(kept, "checked")

    def since() -> int:
        number: int = spy.call_count
        spy.reset_mock()
        return number

    return since


def test_every_key_of_a_kept_configuration_is_that_of_the_file(folder: Path, file: Path, checked: Callable[[], int]) -> None:
    first = kept.read(file)
    assert (first, checked()) == (config.read(file), 1)
    again = kept.read(file)
    assert (again, checked()) == (first, 0)
    assert repr(again) == repr(first)  # also the types of values that are equal
    assert (again.files, again.drives, again.outside) != ((), (), ())
    assert (folder / kept.NAME).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in folder.iterdir()] == [kept.NAME]


@pytest.mark.parametrize("what", ["text", "path", "plugin options", "release", "Python", "program"])
def test_a_configuration_is_checked_again_when_anything_has_changed(
    folder: Path, file: Path, checked: Callable[[], int], what: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kept.read(file)
    assert checked() == 1
    match what:
        case "text":  # of the same length, with the same times
            status = file.stat()
            file.write_text(file.read_text().replace('id = "example"', 'id = "elpmaxe"'))
            os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        case "path":
            file = file.rename(tmp_path / "other.toml")
        case "plugin options":
            monkeypatch.setattr(kept, "plugin_options", lambda: ("x11",))
        case "release":
            monkeypatch.setattr(kept, "__version__", "999")
        case "Python":
            monkeypatch.setattr(sys, "version", "4.0")
        case "program":
            program = tmp_path / "ucloud_slurm"
            for room in ("config", "system"):
                (program / room).mkdir(parents=True)
            (program / "config" / "types.py").write_text("# other rules")
            monkeypatch.setattr(kept, "__file__", str(program / "config" / "kept.py"))
    assert kept.read(file).provider.id == ("elpmaxe" if what == "text" else "example")
    assert checked() == 1
    kept.read(file)
    assert checked() == 0


def spoiled_by(path: Path, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes of what is kept something that others may have written."""
    text = path.read_text()
    match change:
        case "others may write":
            path.chmod(0o620)
        case "others may read":
            path.chmod(0o604)
        case "link":
            path.rename(path.with_suffix(".elsewhere"))
            path.symlink_to(path.with_suffix(".elsewhere"))
        case "pipe":
            path.unlink()
            os.mkfifo(path, 0o600)
        case "folder":
            path.unlink()
            path.mkdir(mode=0o700)
        case "another account's":
            uid = os.geteuid()
            monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
        case "folder of all":
            path.parent.chmod(0o777)
        case "cut off":
            path.write_text(text[:-20])
        case "no JSON":
            path.write_bytes(b"\x80\x04cposix\nsystem\n")
        case "deep":
            path.write_text("[" * 100_000)
        case "list":
            path.write_text("[]")


SPOILED = (
    *("others may write", "others may read", "link", "pipe", "folder", "another account's", "folder of all"),
    *("cut off", "no JSON", "deep", "list"),
)


@pytest.mark.parametrize("change", SPOILED)
def test_what_others_may_have_written_is_not_used(
    folder: Path, file: Path, checked: Callable[[], int], change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = kept.read(file)
    path = folder / kept.NAME
    path.write_text(path.read_text().replace('"/usr/bin/sudo"', '"/tmp/sudo"'))
    assert str(kept.read(file).users.sudo) == "/tmp/sudo"  # what is kept is used: the account's own file
    spoiled_by(path, change, monkeypatch)
    checked()
    assert (kept.read(file), checked()) == (first, 1)


@pytest.mark.parametrize(
    "config_",
    [{"UsersSection": {}}, {"Config": {}}, {"Config": {"colour": 1}}, {"Nothing": {}}, {"path": 3}, {}, None, "x", [{}]],
)
def test_what_is_no_configuration_is_not_used(folder: Path, file: Path, checked: Callable[[], int], config_: object) -> None:
    first = kept.read(file)
    path = folder / kept.NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | {"config": config_}))
    checked()
    assert (kept.read(file), checked()) == (first, 1)


def test_errors_are_not_kept_and_are_the_same_sentences_each_time(folder: Path, file: Path) -> None:
    good = file.read_text()
    kept.read(file)
    for text in (good.replace('era = "today"', 'era = "1999"'), good + "\n[nonsense]\nx = 1\n", "[provider\n"):
        file.write_text(text)
        with pytest.raises(Misconfigured) as expected:
            config.read(file)
        for _ in range(2):
            with pytest.raises(Misconfigured) as raised:
                kept.read(file)
            assert raised.value.sentences == expected.value.sentences
    file.unlink()
    with pytest.raises(Misconfigured, match="cannot be read"):
        kept.read(file)


def test_without_a_folder_nothing_is_kept(
    file: Path, tmp_path: Path, checked: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(kept.FOLDER_VARIABLE, str(tmp_path / "none"))
    assert kept.read(file) == kept.read(file)
    assert checked() == 2
    assert not (tmp_path / "none").exists()


def test_a_file_that_a_process_left_half_written_is_replaced(folder: Path, file: Path, checked: Callable[[], int]) -> None:
    (folder / f"{kept.NAME}.new").write_text("{")
    kept.read(file)
    kept.read(file)
    assert checked() == 1
    assert [path.name for path in folder.iterdir()] == [kept.NAME]
