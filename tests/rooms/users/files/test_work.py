"""Long work: copies, moves between file systems and the trash, which can be cancelled and begun again."""

import errno
import hashlib
import json
import os
import socket
import stat
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.sandbox.processes import wait_until
from tests.support.disks import disk
from tests.support.folders import PATIENCE, Drive, finished
from ucloud_slurm.errors import Conflict, Forbidden, NotFound, Refused, StorageFullError
from ucloud_slurm.system import beneath, trees
from ucloud_slurm.users import file_jobs
from ucloud_slurm.users.asked_files import FilesNotAnsweringError
from ucloud_slurm.users.file_work import Finished, Progress, read_progress
from ucloud_slurm.users.files import ConflictPolicy, Place, Work

RENAME, REJECT, REPLACE = ConflictPolicy.RENAME, ConflictPolicy.REJECT, ConflictPolicy.REPLACE


def digits(key: str) -> str:
    """What names are made of that belong to the work with a key."""
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def make_tree(folder: Path) -> None:
    """Everything that a tree can hold."""
    (folder / "sub" / "empty").mkdir(parents=True)
    (folder / "file").write_bytes(b"contents")
    (folder / "file").chmod(0o640)
    (folder / "program").write_bytes(b"#!/bin/sh\n")
    (folder / "program").chmod(0o6755)
    (folder / "link").symlink_to("../../outside")
    (folder / "dangling").symlink_to("nowhere")
    os.mkfifo(folder / "sub" / "pipe")
    with (folder / "sparse").open("wb") as file:
        file.seek(200 * 1024 * 1024)
        file.write(b"end")
        file.truncate(300 * 1024 * 1024)
    os.close(os.open(os.fsencode(folder) + b"/sub/\xff\n", os.O_CREAT, 0o600))
    (folder / "sub" / "readonly").mkdir()
    (folder / "sub" / "readonly" / "x").touch()
    (folder / "sub" / "readonly").chmod(0o555)
    for path in (folder / "file", folder / "sub" / "empty", folder / "sub", folder):
        os.utime(path, ns=(10**9, 2 * 10**9))


def facts(folder: Path) -> dict[bytes, tuple[object, ...]]:
    found: dict[bytes, tuple[object, ...]] = {}
    for place, folders, files in os.walk(os.fsencode(folder)):
        for name in (*folders, *files, b""):
            path = place + b"/" + name
            status = os.lstat(path)
            text = os.fsencode(Path(os.fsdecode(path)).readlink()) if stat.S_ISLNK(status.st_mode) else None
            size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
            times = None if stat.S_ISLNK(status.st_mode) else status.st_mtime_ns
            found[os.path.relpath(path, os.fsencode(folder))] = (status.st_mode, size, times, text)
    return found


def test_a_tree_is_copied_with_its_links_holes_modes_and_times(drive: Drive) -> None:
    make_tree(drive.root / "tree")
    done = drive.work(Work.COPY, ("tree",), drive.at("copy"))
    assert (done.problem, done.skipped) == (None, 1), "the pipe"
    expected = facts(drive.root / "tree")
    del expected[b"sub/pipe"]
    mode, *rest = expected[b"program"]
    assert isinstance(mode, int)
    expected[b"program"] = (mode & ~0o6000, *rest)
    assert facts(drive.root / "copy") == expected
    assert (drive.root / "copy" / "sparse").stat().st_blocks < 1000
    assert (drive.root / "copy" / "file").read_bytes() == b"contents"
    assert done.entries == len(expected)
    assert done.size < 1_000_000, "holes are not copied"
    assert drive.hidden() == []


@pytest.mark.parametrize("policy", list(ConflictPolicy))
def test_a_copy_goes_by_its_policy(drive: Drive, policy: ConflictPolicy) -> None:
    for name in ("a.txt", "b.txt"):
        (drive.root / name).write_text(name)
    (drive.root / "folder").mkdir()
    (drive.root / "folder" / "kept").touch()
    onto_file = drive.work(Work.COPY, ("a.txt",), drive.at("b.txt"), policy)
    onto_folder = drive.work(Work.COPY, ("a.txt",), drive.at("folder"), policy)
    if policy is REJECT:
        assert isinstance(onto_file.problem, Conflict)
        assert str(onto_file.problem) == '"/b.txt" exists already.'
    else:
        assert onto_file.problem is None
    assert (drive.root / "b.txt").read_text() == ("a.txt" if policy is REPLACE else "b.txt")
    assert (drive.root / "b(1).txt").exists() == (policy not in (REJECT, REPLACE))
    assert (onto_folder.problem is None) == (policy not in (REJECT, REPLACE))
    assert (drive.root / "folder" / "kept").exists()
    assert drive.hidden() == []


def test_a_folder_is_not_copied_into_itself_and_a_copy_beside_what_holds_it_ends(drive: Drive, tmp_path: Path) -> None:
    (drive.root / "folder" / "sub").mkdir(parents=True)
    assert isinstance(drive.work(Work.COPY, ("folder",), drive.at("folder", "sub", "copy")).problem, Refused)
    # By another root, nothing in the paths says so.
    target = Place(str(drive.root / "folder"), ("copy",))
    assert drive.work(Work.COPY, ("folder",), target).problem is None
    assert sorted(path.name for path in (drive.root / "folder" / "copy").iterdir()) == ["sub"]


def test_what_cannot_be_read_in_a_tree_is_skipped_and_counted(own_drive: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    (own_drive.root / "tree").mkdir()
    for name in ("fine", "foreign"):
        (own_drive.root / "tree" / name).touch()
    number = (own_drive.root / "tree" / "foreign").stat().st_ino
    reopen = beneath.reopen

    def refusing(place: int, flags: int) -> int:
        if os.fstat(place).st_ino == number:
            raise PermissionError(errno.EACCES, "no")
        return reopen(place, flags)

    monkeypatch.setattr(beneath, "reopen", refusing)
    done = own_drive.work(Work.COPY, ("tree",), own_drive.at("copy"))
    assert (done.problem, done.skipped) == (None, 1)
    assert [path.name for path in (own_drive.root / "copy").iterdir()] == ["fine"]
    moved = own_drive.work(Work.MOVE, ("tree",), own_drive.at("moved"))
    assert isinstance(moved.problem, Conflict), "it would be lost"
    assert (own_drive.root / "tree" / "foreign").exists()
    assert not (own_drive.root / "moved").exists()
    assert own_drive.hidden() == []


def test_a_copy_to_a_full_disk_says_so_and_leaves_nothing(drive: Drive, tmp_path: Path) -> None:
    (drive.root / "tree").mkdir()
    for number in range(20):
        (drive.root / "tree" / str(number)).write_bytes(bytes(range(1, 101)) * 1000)
    with disk(tmp_path / "disk", "size=1m") as folder:
        for verb in (Work.COPY, Work.MOVE):
            done = drive.work(verb, ("tree",), Place(str(folder), ("copy",)))
            assert isinstance(done.problem, StorageFullError)
            assert list(folder.iterdir()) == []
    assert len(list((drive.root / "tree").iterdir())) == 20


def test_a_move_to_another_file_system_leaves_nothing_behind(drive: Drive, tmp_path: Path) -> None:
    make_tree(drive.root / "tree")
    (drive.root / "tree" / "sub" / "pipe").unlink()
    (drive.root / "tree" / "program").chmod(0o755)
    expected = facts(drive.root / "tree")
    with disk(tmp_path / "disk", "size=4m") as folder:
        assert drive.work(Work.MOVE, ("tree",), Place(str(folder), ("new",))).problem is None
        moved = facts(folder / "new")
        assert list(drive.root.iterdir()) == []
        assert drive.work(Work.MOVE, ("tree",), Place(str(folder), ("new",))).problem is not None, "it is not there"
    assert {name: each[0] for name, each in moved.items()} == {name: each[0] for name, each in expected.items()}
    assert {name: each[3] for name, each in moved.items()} == {name: each[3] for name, each in expected.items()}


def test_a_move_that_is_begun_again_after_its_copy_only_deletes(drive: Drive, tmp_path: Path) -> None:
    with disk(tmp_path / "disk", "size=1m") as folder:
        target = Place(str(folder), ("new",))
        (drive.root / "file").write_text("x")
        assert drive.work(Work.MOVE, ("file",), target, key="one").problem is None
        # As its process left it that ended before the last step.
        (drive.root / f".{digits('one')}-copied.ucloud-part").mkdir()
        assert drive.work(Work.MOVE, ("file",), target, key="one").problem is None
        assert [path.name for path in folder.iterdir()] == ["new"], "no second copy"
    assert list(drive.root.iterdir()) == []


def test_a_copy_that_is_begun_again_deletes_what_its_first_attempt_left(drive: Drive) -> None:
    (drive.root / "tree").mkdir()
    (drive.root / "tree" / "a").write_text("new")
    left = drive.root / f".{digits('one')}.ucloud-part"
    (left / "b").mkdir(parents=True)
    (left / "a").write_text("half")
    assert drive.work(Work.COPY, ("tree",), drive.at("copy"), key="one").problem is None
    assert {path.name: path.read_text() for path in (drive.root / "copy").iterdir()} == {"a": "new"}
    assert drive.hidden() == []


class Halting:
    """Work in this process that waits at its first step for which ``wanted``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, wanted: Callable[[int, int], bool]) -> None:
        self.reached, self.goes_on = threading.Event(), threading.Event()
        step = file_jobs._Reports.step

        def halting(reports: file_jobs._Reports, entries: int, size: int) -> None:
            if wanted(entries, size) and not self.reached.is_set():
                self.reached.set()
                assert self.goes_on.wait(PATIENCE)
            step(reports, entries, size)

        monkeypatch.setattr(file_jobs._Reports, "step", halting)


def test_a_cancelled_copy_ends_at_its_next_step_and_deletes_what_it_made(
    own_drive: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    (own_drive.root / "tree").mkdir()
    for number in range(10):
        (own_drive.root / "tree" / str(number)).write_text("x")
    halting = Halting(monkeypatch, lambda _entries, size: size > 0)
    channel = own_drive.files.work(Work.COPY, own_drive.at("tree"), own_drive.at("copy"), RENAME, key="1")
    assert halting.reached.wait(PATIENCE)
    (temporary,) = own_drive.hidden()
    assert len(list((own_drive.root / temporary).iterdir())) == 1
    channel.close()
    halting.goes_on.set()
    wait_until("it has ended", lambda: own_drive.hidden() == [], seconds=PATIENCE)
    assert own_drive.names() == ["tree"]


def test_an_attempt_that_was_overtaken_does_not_touch_what_its_successor_made(
    own_drive: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("tree", "other"):
        (own_drive.root / name).mkdir()
        (own_drive.root / name / "a").write_text(name)
    halting = Halting(monkeypatch, lambda _entries, size: size > 0)
    with own_drive.files.work(Work.COPY, own_drive.at("tree"), own_drive.at("copy"), RENAME, key="1") as first:
        assert halting.reached.wait(PATIENCE)
        second = own_drive.work(Work.COPY, ("other",), own_drive.at("copy"), RENAME, key="1")
        assert second.problem is None
        left = own_drive.root / f".{digits('1')}.ucloud-part"
        left.mkdir()
        halting.goes_on.set()
        done = finished(first)
    assert isinstance(done.problem, (Conflict, NotFound))
    assert (own_drive.root / "copy" / "a").read_text() == "other"
    assert own_drive.hidden() == [left.name], "that is not what it made"


@pytest.mark.parametrize("change", ["shrinks", "grows", "is gone"])
def test_a_file_that_changes_while_it_is_copied_harms_nothing(
    own_drive: Drive, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    monkeypatch.setattr(trees, "CHUNK_BYTES", 4096)
    path = own_drive.root / "file"
    path.write_bytes(b"x" * 40_960)
    halting = Halting(monkeypatch, lambda _entries, size: size > 0)
    with own_drive.files.work(Work.COPY, own_drive.at("file"), own_drive.at("copy"), RENAME, key="1") as channel:
        assert halting.reached.wait(PATIENCE)
        if change == "shrinks":
            os.truncate(path, 10_000)
        elif change == "grows":
            with path.open("ab") as file:
                file.write(b"y" * 40_960)
        else:
            path.unlink()
        halting.goes_on.set()
        assert finished(channel).problem is None
    size = {"shrinks": 10_000, "grows": 40_960, "is gone": 40_960}[change]
    assert (own_drive.root / "copy").read_bytes() == b"x" * size


@pytest.mark.parametrize("number", [errno.EXDEV, errno.ENOSYS, errno.EINVAL])
def test_a_file_is_copied_where_the_kernel_does_not_do_it(
    own_drive: Drive, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, "no")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    data = os.urandom(3 * 1024 * 1024 + 7)
    (own_drive.root / "file").write_bytes(data)
    done = own_drive.work(Work.COPY, ("file",), own_drive.at("copy"))
    assert (done.problem, done.size) == (None, len(data))
    assert (own_drive.root / "copy").read_bytes() == data


def test_the_trash_is_emptied_also_of_folders_that_cannot_be_written(drive: Drive) -> None:
    make_tree(drive.root / "Trash" / "tree")
    make_tree(drive.root / "Trash" / "second")
    (drive.root / "Trash" / "tree" / "sub").chmod(0o000)
    done = drive.work(Work.ERASE, ("Trash", "second", "file"))
    assert done.problem is None
    assert not (drive.root / "Trash" / "second" / "file").exists()
    done = drive.work(Work.ERASE, ("Trash",))
    assert done.problem is None
    assert done.entries > 10
    assert [path.name for path in drive.root.iterdir()] == ["Trash"]
    assert list((drive.root / "Trash").iterdir()) == []


def test_what_cannot_be_erased_is_said(own_drive: Drive, tmp_path: Path) -> None:
    (own_drive.root / "Trash").mkdir()
    (own_drive.root / "Trash" / "file").touch()
    with disk(own_drive.root / "Trash" / "mounted", "size=1m"):
        done = own_drive.work(Work.ERASE, ("Trash",))
        assert isinstance(done.problem, Forbidden)
        assert [path.name for path in (own_drive.root / "Trash").iterdir()] == ["mounted"]


@pytest.mark.parametrize("verb", [Work.COPY, Work.ERASE])
def test_a_tree_that_is_too_deep_is_refused_and_harms_nothing(drive: Drive, verb: Work) -> None:
    (drive.root / "Trash").mkdir()
    here = os.open(drive.root / "Trash", os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=here)
        there = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = there
    os.close(here)
    done = drive.work(verb, ("Trash", "d"), drive.at("copy") if verb is Work.COPY else None)
    assert isinstance(done.problem, Refused)
    assert "too many folders in folders" in str(done.problem)
    assert drive.names() == ["Trash"]
    subprocess.run(["rm", "-r", str(drive.root / "Trash")], check=True)  # too deep for pytest as well


def test_progress_comes_while_it_works_and_a_reader_who_is_behind_stops_nothing(
    own_drive: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_jobs, "REPORT_SECONDS", 0.0)
    (own_drive.root / "tree").mkdir()
    for number in range(2000):
        (own_drive.root / "tree" / str(number)).write_text("x")
    with own_drive.files.work(Work.COPY, own_drive.at("tree"), own_drive.at("copy"), RENAME, key="1") as channel:
        first = read_progress(channel, (), None, PATIENCE)
        assert isinstance(first, Progress)
        wait_until("it is done", (own_drive.root / "copy").exists, seconds=PATIENCE)
        done = finished(channel)
    assert (done.problem, done.entries, done.size) == (None, 2001, 2000)


PACKETS = [b"x", b"[]", b"[" * 5000, b'{"entries": 1e400}', b"\xff", b"null", b'"name"']


@pytest.mark.parametrize("packet", PACKETS)
def test_a_packet_that_says_nothing_readable_ends_the_work(packet: bytes) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        assert read_progress(ours, (), None, 0.0) is None
        theirs.send(packet)
        try:
            assert read_progress(ours, (), None, 1.0) == Progress(0, 0)
        except FilesNotAnsweringError:
            assert packet != PACKETS[3]


def test_numbers_and_failures_that_a_user_made_up_are_bounded() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        for packet, expected in (
            ({"entries": 2**70, "bytes": -1}, Progress(0, 0)),
            ({"entries": True, "bytes": "1"}, Progress(0, 0)),
            ({"name": 5, "skipped": 2**63, "entries": 1}, Finished(1, 0)),
        ):
            theirs.send(json.dumps(packet).encode())
            assert read_progress(ours, (), None, 1.0) == expected
        theirs.send(json.dumps({"failed": ["<script>"] * 100}).encode())
        made_up = read_progress(ours, ("a",), None, 1.0)
        assert isinstance(made_up, Finished)
        assert "<script>" not in str(made_up.problem)
        socket.send_fds(theirs, [b"{}"], [0])
        with pytest.raises(FilesNotAnsweringError):
            read_progress(ours, (), None, 1.0)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.close()
    with ours, pytest.raises(FilesNotAnsweringError):
        read_progress(ours, (), None, 1.0)
