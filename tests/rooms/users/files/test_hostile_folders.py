"""Nothing leads out of a drive: links, swaps, pipes and devices, by any maker at any moment."""

import ctypes
import errno
import os
import socket
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.promises.test_privileged_program import python_for_all
from tests.support.folders import PATIENCE, Drive, finished
from ucloud_slurm.errors import Conflict, Forbidden, NotFound, Problem, Refused
from ucloud_slurm.system import beneath
from ucloud_slurm.users import bundle
from ucloud_slurm.users.files import ConflictPolicy, FileKind, Place, SortBy, Work

RENAME, REPLACE = ConflictPolicy.RENAME, ConflictPolicy.REPLACE
REFUSALS = (NotFound, Forbidden, Conflict, Refused)
LIBC = ctypes.CDLL(None)
SWAPS = 60  # calls of each kind while folders are swapped


def make_links(drive: Drive) -> None:
    """Links of every kind to what is outside."""
    (drive.root / "absolute").symlink_to(drive.outside)
    (drive.root / "relative").symlink_to("../outside")
    (drive.root / "file").symlink_to(drive.outside / "secret")
    (drive.root / "over").symlink_to("relative")
    (drive.root / "proc").symlink_to("/proc/self/root" + str(drive.outside))
    (drive.root / "cwd").symlink_to("/proc/self/cwd")


def through(drive: Drive, name: str) -> list[Callable[[], object]]:
    """Everything that could be done through a link."""
    return [
        lambda: drive.names(name),
        lambda: drive.read(name, "secret"),
        lambda: drive.files.stat(drive.at(name, "secret")),
        lambda: drive.upload(name, "new"),
        lambda: drive.upload(name, "sub", "new", parents=True),
        lambda: drive.files.make_folder(drive.at(name, "new"), RENAME, parents=True),
        lambda: drive.files.move(drive.at(name, "secret"), drive.at("stolen"), RENAME),
        lambda: drive.files.move(drive.at("file"), drive.at(name, "new"), RENAME),
        lambda: drive.files.trash(drive.at(name, "secret")),
        lambda: drive.files.drop(drive.at(name, "x"), "." + "0" * 16 + ".ucloud-part"),
    ]


def test_a_link_never_leads_out_of_a_drive(drive: Drive) -> None:
    make_links(drive)
    page = drive.files.list(drive.at(), after=None, most=50, by=SortBy.PATH, descending=False, hidden=True)
    assert [(entry.kind, entry.target) for entry in page.entries] == [(FileKind.LINK, None)] * 6
    for name in ("absolute", "relative", "over", "proc", "cwd"):
        for request in through(drive, name):
            with pytest.raises(Forbidden, match="leads out of this drive"):
                request()
        for done in (
            drive.work(Work.COPY, (name, "secret"), drive.at("stolen")),
            drive.work(Work.COPY, ("file",), drive.at(name, "new")),
            drive.work(Work.MOVE, (name, "secret"), drive.at("stolen")),
        ):
            assert isinstance(done.problem, Forbidden)
    with pytest.raises(Forbidden, match=r'"/file" leads out'):
        drive.read("file")
    assert len(drive.names()) == 6


def test_links_that_stay_inside_are_followed_where_the_kernel_can_see_to_it(drive: Drive) -> None:
    (drive.root / "folder" / "deep").mkdir(parents=True)
    (drive.root / "folder" / "file").write_text("contents")
    (drive.root / "folder" / "deep" / "up").symlink_to("../../folder")
    (drive.root / "link").symlink_to("folder/deep/up/file")
    entry = drive.files.stat(drive.at("link"))
    assert entry.kind is FileKind.LINK
    if drive.follows_links:
        assert (entry.target, entry.size) == (FileKind.FILE, 8)
        assert drive.read("link") == b"contents"
        assert drive.names("folder", "deep", "up") == ["deep", "file"]
        assert drive.upload("folder", "deep", "up", "new") == "new"
        assert (drive.root / "folder" / "new").read_text() == "new"
    else:
        assert entry.target is None
        for request in (lambda: drive.read("link"), lambda: drive.names("folder", "deep", "up")):
            with pytest.raises(Forbidden, match="by a link"):
                request()


def test_an_absolute_link_is_shown_and_not_followed_though_it_leads_to_a_place_inside(drive: Drive) -> None:
    (drive.root / "file").write_text("contents")
    (drive.root / "link").symlink_to(drive.root / "file")
    entry = drive.files.stat(drive.at("link"))
    assert (entry.kind, entry.target) == (FileKind.LINK, None)
    assert "link" in drive.names()
    with pytest.raises(Forbidden, match="by a link"):
        drive.read("link")


def test_a_link_itself_is_moved_renamed_and_trashed_and_what_it_leads_to_stays(drive: Drive) -> None:
    make_links(drive)
    assert drive.files.move(drive.at("absolute"), drive.at("renamed"), RENAME) == "renamed"
    assert drive.files.trash(drive.at("renamed")) == "renamed"
    assert drive.files.trash(drive.at("file")) == "file"
    assert drive.work(Work.COPY, ("relative",), drive.at("copied")).problem is None
    assert (drive.root / "copied").readlink() == Path("../outside")
    assert drive.work(Work.ERASE, ("Trash",)).problem is None
    assert list((drive.root / "Trash").iterdir()) == []


def test_what_is_no_file_is_never_opened(drive: Drive) -> None:
    os.mkfifo(drive.root / "pipe")
    os.mknod(drive.root / "null", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(drive.root / "socket"))
    for name in ("pipe", "null", "socket"):
        with pytest.raises(Refused, match="a pipe, a device or a socket"):
            drive.read(name)
        assert isinstance(drive.work(Work.COPY, (name,), drive.at("copy")).problem, Refused)
    assert drive.names() == ["null", "pipe", "socket"]


def test_a_pipe_with_a_writer_that_waits_does_not_notice_that_it_is_looked_at(drive: Drive) -> None:
    os.mkfifo(drive.root / "pipe")
    with subprocess.Popen(["/bin/sh", "-c", f"exec 3>'{drive.root}/pipe'"]) as writer:
        with pytest.raises(Refused):
            drive.read("pipe")
        drive.names()
        assert writer.poll() is None, "somebody has opened the other end"
        os.close(os.open(drive.root / "pipe", os.O_RDONLY))


def test_a_part_file_that_has_become_something_else_is_not_written_to(drive: Drive) -> None:
    part = drive.files.begin(drive.at("file"), RENAME, parents=False)
    os.close(part.descriptor)
    path = drive.root / part.name

    def hard_link() -> None:
        os.link(drive.root / "own", path)

    def foreign() -> None:
        path.touch()
        os.chown(path, 54321, 54321)

    (drive.root / "own").write_text("precious")
    changes: list[Callable[[], object]] = [
        hard_link,
        lambda: path.symlink_to(drive.outside / "secret"),
        lambda: path.symlink_to("own"),
        lambda: os.mkfifo(path),
        path.mkdir,
        foreign,
    ]
    for make in changes:
        path.unlink()
        make()
        for request in (
            lambda: drive.files.resume(drive.at("file"), part.name),
            lambda: drive.files.finish(drive.at("file"), part.name, RENAME, size=0, modified_ms=None),
        ):
            with pytest.raises(Conflict, match="upload it again"):
                request()
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
            path.touch()
    assert (drive.root / "own").read_text() == "precious"
    assert "file" not in drive.names()


@contextmanager
def swapping(drive: Drive) -> Iterator[None]:
    """A folder of the drive is a link to what is outside, every other moment (renameat2(2): RENAME_EXCHANGE)."""
    (drive.root / "swapped").mkdir()
    (drive.root / "swapped" / "secret").write_text("mine")
    (drive.root / "swapped" / "inside").touch()
    (drive.root / "link").symlink_to(drive.outside)
    ends = threading.Event()

    names = [os.fsencode(drive.root / name) for name in ("swapped", "link")]

    def swap() -> None:
        while not ends.is_set():
            LIBC.renameat2(-1, names[0], -1, names[1], 2)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join()
        if (drive.root / "swapped").is_symlink():
            LIBC.renameat2(-1, names[0], -1, names[1], 2)


def test_a_folder_that_is_swapped_for_a_link_all_the_time_leads_nowhere(drive: Drive) -> None:
    number, read, refused, until = 0, 0, 0, time.monotonic() + PATIENCE
    with swapping(drive):
        # However the two threads are scheduled: until it has been a folder and a link.
        while number < SWAPS or ((not read or not refused) and time.monotonic() < until):
            number += 1
            try:
                assert drive.read("swapped", "secret") == b"mine"
                read += 1
            except REFUSALS:
                refused += 1
            with suppress(*REFUSALS):
                assert "inside" in drive.names("swapped")
            with suppress(*REFUSALS):
                drive.upload("swapped", str(number))
            with suppress(*REFUSALS):
                drive.files.make_folder(drive.at("swapped", f"folder{number}", "x"), RENAME, parents=True)
                drive.files.trash(drive.at("swapped", f"folder{number}"))
            with suppress(*REFUSALS):
                assert drive.files.stat(drive.at("swapped", "secret")).size == 4
    assert read > 0, "it was never a folder"
    assert refused > 0, "it was never a link"


def test_nothing_outside_is_copied_or_erased_while_folders_are_swapped_for_links(drive: Drive) -> None:
    with swapping(drive):
        for number in range(SWAPS // 3):
            drive.work(Work.COPY, ("swapped",), drive.at(f"copy{number}"))
            drive.work(Work.COPY, ("swapped", "secret"), drive.at(f"file{number}"))
    (drive.root / "Trash").mkdir()
    (drive.root / "swapped").rename(drive.root / "Trash" / "swapped")
    texts = {path.read_text() for path in drive.root.rglob("secret") if path.is_file() and not path.parent.is_symlink()}
    assert texts <= {"mine"}
    assert {path.read_text() for path in drive.root.glob("file*")} <= {"mine"}

    def swap(ends: threading.Event, inside: Path) -> None:
        while not ends.is_set():
            with suppress(OSError):
                (inside / "folder").rename(inside / "aside")
                (inside / "folder").symlink_to(drive.outside)
                (inside / "folder").unlink()
                (inside / "aside").rename(inside / "folder")

    for _ in range(SWAPS // 4):
        inside = drive.root / "Trash" / "tree"
        (inside / "folder" / "sub").mkdir(parents=True, exist_ok=True)
        ends = threading.Event()
        thread = threading.Thread(target=swap, args=(ends, inside))
        thread.start()
        drive.work(Work.ERASE, ("Trash", "tree"))
        ends.set()
        thread.join()


def test_only_what_is_in_the_trash_is_erased(drive: Drive) -> None:
    (drive.root / "folder" / "Trash").mkdir(parents=True)
    (drive.root / "folder" / "Trash" / "kept").touch()
    elsewhere: list[tuple[str, ...]] = [(), ("folder",), ("folder", "Trash"), ("trash",), ("Trash ",)]
    for parts in elsewhere:
        assert isinstance(drive.work(Work.ERASE, parts).problem, Refused)
    (drive.root / "Trash").symlink_to("folder")
    behind: list[tuple[str, ...]] = [("Trash",), ("Trash", "Trash"), ("Trash", "Trash", "kept")]
    for parts in behind:
        assert isinstance(drive.work(Work.ERASE, parts).problem, Problem)
    (drive.root / "Trash").unlink()
    assert drive.work(Work.ERASE, ("Trash",)).problem is None, "there is none: it is empty"
    (drive.root / "Trash").mkdir()
    (drive.root / "Trash" / "link").symlink_to("../folder")
    assert isinstance(drive.work(Work.ERASE, ("Trash", "link", "Trash")).problem, Forbidden)
    assert drive.work(Work.ERASE, ("Trash", "link")).problem is None
    assert (drive.root / "folder" / "Trash" / "kept").exists()


def test_a_link_in_the_path_of_a_root_is_the_site_s_and_is_followed(drive: Drive, tmp_path: Path) -> None:
    (tmp_path / "home").symlink_to(drive.root)
    (drive.root / "a").write_text("x")
    place = Place(str(tmp_path / "home"), ("a",))
    assert drive.files.stat(place).size == 1


def test_an_old_filter_of_system_calls_makes_the_walk_by_names(own_drive: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beneath, "_openat2", lambda *_: -errno.EPERM)
    (own_drive.root / "folder").mkdir()
    (own_drive.root / "link").symlink_to("folder")
    assert own_drive.names("folder") == []
    with pytest.raises(Forbidden):
        own_drive.names("link")


def test_a_kernel_that_sees_renames_all_the_time_is_asked_a_bounded_number_of_times(
    own_drive: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def again(*_: object) -> int:
        nonlocal calls
        calls += 1
        return -errno.EAGAIN

    monkeypatch.setattr(beneath, "_openat2", again)
    with pytest.raises(Conflict, match="try again"):
        own_drive.names()
    assert calls == beneath.TRIES


AS_USER = """
import os, sys, socket
sys.path.insert(0, sys.argv[1])
from ucloud_slurm.users import as_user
as_user._protect()
from ucloud_slurm.users import file_jobs, file_verbs
root = sys.argv[2]
page = {"after": None, "most": 9, "by": "PATH", "descending": False, "hidden": False}
def ask(verb, *given, **more):
    message = {"user": "u", "verb": verb, "deadline": 1, "form": 1, "root": root, "parts": ["a"], **more}
    return file_verbs.answer(message, [each.fileno() for each in given], lambda: False, None)
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
part = ask("begin", theirs, policy="REJECT", parents=False)["part"]
(descriptor,) = socket.recv_fds(ours, 1, 1)[1]
os.pwrite(descriptor, b"written", 0)
print(ask("finish", part=part, policy="REJECT", size=7, modified=None))
print(ask("read", theirs), os.pread(socket.recv_fds(ours, 1, 1)[1][0], 100, 0))
print(ask("make-folder", parts=["shared", "b"], policy="REJECT", parents=True))
print([row[0] for row in ask("list", parts=[], **page)["rows"]])
os.makedirs(root + "/Trash/readonly/sub")
os.chmod(root + "/Trash/readonly", 0o100)
file_jobs.run(theirs, "erase", (root, (b"Trash",)), None, "RENAME", "0" * 16)
print(os.listdir(root + "/Trash"))
print(ask("stat", parts=["locked", "x"]), ask("list", parts=["locked"], **page))
"""


def test_a_program_that_nobody_may_trace_serves_its_user_and_the_kernel_refuses_the_rest() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # where the user may enter
        folder = Path(name)
        folder.chmod(0o755)
        for each, mode in (("drive", 0o700), ("drive/shared", 0o2770), ("drive/locked", 0o000)):
            (folder / each).mkdir()
            os.chown(folder / each, 54321, 54321)
            (folder / each).chmod(mode)
        bundle.write(folder / bundle.NAME)
        done = subprocess.run(
            [python_for_all(), "-I", "-S", "-c", AS_USER, str(folder / bundle.NAME), str(folder / "drive")],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            user=54321,
            group=54321,
            extra_groups=[],
        )
        assert done.stdout.splitlines() == [
            "{'name': 'a'}",
            "{} b'written'",
            "{'name': 'b'}",
            "['a', 'locked', 'shared']",
            "[]",
            "{'failed': 'denied', 'target': False} {'failed': 'denied', 'target': False}",
        ], done.stderr
        assert stat.S_IMODE((folder / "drive" / "shared" / "b").stat().st_mode) == 0o2770


def test_work_whose_socket_is_closed_ends_and_leaves_nothing(drive: Drive) -> None:
    (drive.root / "folder").mkdir()
    for number in range(3000):
        (drive.root / "folder" / str(number)).write_bytes(b"x")
    channel = drive.files.work(Work.COPY, drive.at("folder"), drive.at("copy"), RENAME, key="1")
    channel.close()
    # Its successor finds nothing of it, or deletes what is there.
    with drive.files.work(Work.COPY, drive.at("folder"), drive.at("copy"), RENAME, key="2") as second:
        assert finished(second).problem is None
    assert len(list((drive.root / "copy").iterdir())) == 3000
