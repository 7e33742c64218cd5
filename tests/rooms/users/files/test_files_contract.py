"""Files of a user: the same below every root, in this process and through the runner, on kernels new and old."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.disks import disk
from tests.support.folders import Drive
from ucloud_slurm.errors import Conflict, Forbidden, NotFound, Refused, StorageFullError
from ucloud_slurm.system import listing
from ucloud_slurm.users.file_problems import problem_of
from ucloud_slurm.users.files import ConflictPolicy, CrossDeviceError, FileKind, FilesAs, Place, SortBy, Work

RENAME, REJECT = ConflictPolicy.RENAME, ConflictPolicy.REJECT
REPLACE, MERGE_RENAME = ConflictPolicy.REPLACE, ConflictPolicy.MERGE_RENAME
STRANGE = [
    "back\\slash",
    "..\\..\\x",
    "two\nlines",
    " ",
    "~",
    "-rf",
    "ä",
    "日本",
    "a" * 255,
    "€" * 85,
    "*",
    "$(id)",
    "\x7f",
    ".hid",
]
BAD = ["", ".", "..", "a/b", "/", "a\0b", "a" * 256, "€" * 86, "\ud800"]


def fill(descriptor: int) -> None:
    """Writes half a megabyte."""
    for number in range(5):
        os.pwrite(descriptor, bytes(100_000), number * 100_000)


def each_verb(files: FilesAs, place: Place) -> list[Callable[[], object]]:
    """One of every kind, with that place."""
    good = Place(place.root, ("good",))
    part = "." + "0" * 16 + ".ucloud-part"
    return [
        lambda: files.list(place, after=None, most=10, by=SortBy.PATH, descending=False, hidden=True),
        lambda: files.stat(place),
        lambda: files.read(place),
        lambda: files.begin(place, REPLACE, parents=True),
        lambda: files.resume(place, part),
        lambda: files.finish(place, part, REPLACE, size=0, modified_ms=None),
        lambda: files.drop(place, part),
        lambda: files.make_folder(place, MERGE_RENAME, parents=True),
        lambda: files.move(place, good, REPLACE),
        lambda: files.move(good, place, REPLACE),
        lambda: files.trash(place),
        lambda: files.work(Work.ERASE, place, None, RENAME, key="1"),
        lambda: files.work(Work.COPY, place, good, RENAME, key="1"),
        lambda: files.work(Work.MOVE, good, place, RENAME, key="1"),
    ]


@pytest.mark.parametrize("name", STRANGE)
def test_any_name_of_linux_is_a_name_like_others(drive: Drive, name: str) -> None:
    assert drive.files.make_folder(drive.at(name), REJECT, parents=False) == name
    assert drive.upload(name, name, data=b"x") == name
    assert drive.read(name, name) == b"x"
    assert drive.names() == drive.names(name) == [name]
    assert drive.files.stat(drive.at(name, name)).name == name
    assert drive.files.move(drive.at(name, name), drive.at(name, "other"), REJECT) == "other"
    assert drive.files.trash(drive.at(name)) == name
    assert [path.name for path in (drive.root / "Trash").iterdir()] == [name]


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("place", ["last", "first"])
def test_what_is_no_name_is_refused_and_nothing_is_done(drive: Drive, name: str, place: str) -> None:
    parts = ("folder", name) if place == "last" else (name, "folder")
    for request in each_verb(drive.files, drive.at(*parts)):
        with pytest.raises(Refused):
            request()
    assert list(drive.root.iterdir()) == []


@pytest.mark.parametrize("root", ["/", "relative", "", "/tmp/../etc", "/tmp//x", "/\0"])
def test_a_root_that_is_no_folder_of_the_configuration_is_refused(drive: Drive, root: str) -> None:
    for request in each_verb(drive.files, Place(root, ("etc",))):
        with pytest.raises(Refused):
            request()


def test_names_of_more_than_a_path_may_have_are_refused(drive: Drive) -> None:
    for request in each_verb(drive.files, drive.at(*["a" * 200] * 21)):
        with pytest.raises(Refused):
            request()


def test_a_drive_whose_folder_is_away_is_a_404_that_says_what_to_do(drive: Drive) -> None:
    place = Place(str(drive.root / "away"), ("a",))
    for request in each_verb(drive.files, place)[:-3]:
        with pytest.raises(NotFound, match="Log in to the cluster once"):
            request()
    assert list(drive.root.iterdir()) == []


def test_pages_have_each_name_once_in_order_and_end(drive: Drive) -> None:
    names = sorted(f"{number:03}" for number in range(25))
    for name in names:
        (drive.root / name).touch()
    assert drive.pages(most=10) == [names[:10], names[10:20], names[20:]]
    assert drive.pages(most=25) == [names]
    assert drive.pages(most=10, descending=True) == [names[:14:-1], names[14:4:-1], names[4::-1]]


def test_names_come_and_go_between_pages_and_the_others_are_shown_once(drive: Drive) -> None:
    for name in "bdfhj":
        (drive.root / name).touch()
    page = drive.files.list(drive.at(), after=None, most=2, by=SortBy.PATH, descending=False, hidden=True)
    assert [entry.name for entry in page.entries] == ["b", "d"]
    (drive.root / "d").unlink()
    for name in "aeg":
        (drive.root / name).touch()
    rest = drive.files.list(drive.at(), after=page.after, most=9, by=SortBy.PATH, descending=False, hidden=True)
    assert [entry.name for entry in rest.entries] == ["e", "f", "g", "h", "j"]


@pytest.mark.parametrize(("by", "expected"), [(SortBy.SIZE, "cabed"), (SortBy.MODIFIED_AT, "edcba")])
def test_entries_are_sorted_by_size_and_time(drive: Drive, by: SortBy, expected: str) -> None:
    for number, (name, size) in enumerate(zip("edcba", (4, 9, 1, 3, 2), strict=True)):
        (drive.root / name).write_bytes(b"x" * size)
        os.utime(drive.root / name, ns=(0, number))
    expected = expected if by is SortBy.MODIFIED_AT else "cabed"
    assert drive.pages(most=2, by=by) == [list(expected[:2]), list(expected[2:4]), list(expected[4:])]
    backwards = expected[::-1]
    assert drive.pages(most=3, by=by, descending=True) == [list(backwards[:3]), list(backwards[3:])]


@pytest.mark.parametrize("by", [SortBy.SIZE, SortBy.PATH])
def test_a_cursor_of_another_listing_is_refused(drive: Drive, by: SortBy) -> None:
    wrong = {SortBy.SIZE: "m0:1:a", SortBy.PATH: "s0:1:a"}[by]
    for cursor in (wrong, "", "x" * 500, "?"):
        with pytest.raises(Refused, match="open it again"):
            drive.files.list(drive.at(), after=cursor, most=5, by=by, descending=False, hidden=True)


def test_names_that_are_no_utf_8_are_counted_and_uploads_that_are_not_whole_are_not_shown(drive: Drive) -> None:
    for name in (b"\xff\xfe", b"a\x80", b"fine", b".dot", b".0123456789abcdef.ucloud-part", b".ucloud-part", b"x.ucloud-part"):
        os.close(os.open(os.fsencode(drive.root) + b"/" + name, os.O_CREAT))
    page = drive.files.list(drive.at(), after=None, most=9, by=SortBy.PATH, descending=False, hidden=True)
    assert ([entry.name for entry in page.entries], page.hidden) == ([".dot", "fine", "x.ucloud-part"], 2)
    assert drive.names(hidden=False) == ["fine", "x.ucloud-part"]


def test_an_entry_says_what_it_is(drive: Drive) -> None:
    (drive.root / "file").write_bytes(b"x" * 1234)
    (drive.root / "file").chmod(0o640)
    os.utime(drive.root / "file", ns=(1_500_000_000, -2_000_000_000))
    (drive.root / "folder").mkdir()
    os.mkfifo(drive.root / "pipe")
    file = drive.files.stat(drive.at("file"))
    assert (file.name, file.kind, file.size, file.mode, file.uid, file.gid) == (
        "file",
        FileKind.FILE,
        1234,
        0o640,
        0,
        os.getgid(),
    )
    assert (file.accessed_at, file.modified_at) == (1500, -2000)
    assert drive.files.stat(drive.at("folder")).kind is FileKind.FOLDER
    assert drive.files.stat(drive.at("pipe")).kind is FileKind.OTHER
    assert (drive.files.stat(drive.at()).kind, drive.files.stat(drive.at()).name) == (FileKind.FOLDER, "")
    page = drive.files.list(drive.at(), after=None, most=9, by=SortBy.PATH, descending=False, hidden=True)
    assert page.entries[0] == file
    with pytest.raises(NotFound, match=r'^"/not there" does not exist\.$'):
        drive.files.stat(drive.at("not there"))
    with pytest.raises(Refused, match=r'^"/file/x" is not a folder'):
        drive.files.stat(drive.at("file", "x"))
    with pytest.raises(Refused, match=r'^"/file" is not a folder'):
        drive.names("file")


def test_a_message_about_a_name_is_one_line(drive: Drive) -> None:
    with pytest.raises(NotFound) as caught:
        drive.files.stat(drive.at("two\nlines\x1b[31m" + "x" * 200, "y" * 200))
    assert caught.value.why.isprintable()
    assert len(caught.value.why) < 300


def test_a_file_is_read_whole_and_says_its_size_and_time(drive: Drive) -> None:
    (drive.root / "file").write_bytes(b"contents")
    os.utime(drive.root / "file", ns=(5, 7))
    opened = drive.files.read(drive.at("file"))
    assert (os.pread(opened.descriptor, 100, 0), opened.size, opened.modified_ns) == (b"contents", 8, 7)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(opened.descriptor, b"x")
    os.close(opened.descriptor)
    with pytest.raises(Refused, match="is a folder"):
        drive.files.read(drive.at())


@pytest.mark.parametrize(
    ("policy", "expected"), [(RENAME, "a(1).tar.gz"), (REJECT, None), (REPLACE, "a.tar.gz"), (MERGE_RENAME, "a(1).tar.gz")]
)
def test_an_upload_to_a_name_that_exists_goes_by_its_policy(drive: Drive, policy: ConflictPolicy, expected: str | None) -> None:
    expected = expected and expected.replace("a(1).tar.gz", "a.tar(1).gz")
    (drive.root / "a.tar.gz").write_text("old")
    (drive.root / "a.tar.gz").chmod(0o644)
    if expected is None:
        with pytest.raises(Conflict, match="exists already"):
            drive.upload("a.tar.gz", policy=policy)
    else:
        assert drive.upload("a.tar.gz", policy=policy) == expected
        assert (drive.root / expected).read_text() == "new"
        assert stat.S_IMODE((drive.root / expected).stat().st_mode) == (0o644 if policy is REPLACE else 0o600)
    assert (drive.root / "a.tar.gz").read_text() == ("new" if policy is REPLACE else "old")
    assert drive.hidden() == []


def test_a_file_appears_whole_or_not_at_all(drive: Drive) -> None:
    part = drive.files.begin(drive.at("sub", "file"), REJECT, parents=True)
    os.pwrite(part.descriptor, b"half", 0)
    os.close(part.descriptor)
    assert drive.names("sub") == []
    with pytest.raises(Conflict, match="is not complete"):
        drive.files.finish(drive.at("sub", "file"), part.name, REJECT, size=8, modified_ms=None)
    assert drive.names("sub") == []
    again = drive.files.resume(drive.at("sub", "file"), part.name)
    assert (again.size, again.name) == (4, part.name)
    os.pwrite(again.descriptor, b"full", 4)
    os.close(again.descriptor)
    assert drive.files.finish(drive.at("sub", "file"), part.name, REJECT, size=8, modified_ms=12_345) == "file"
    assert drive.read("sub", "file") == b"halffull"
    assert drive.files.stat(drive.at("sub", "file")).modified_at == 12_345
    with pytest.raises(NotFound):
        drive.files.finish(drive.at("sub", "file"), part.name, REJECT, size=8, modified_ms=None)


def test_an_upload_that_is_dropped_leaves_nothing_and_may_be_dropped_again(drive: Drive) -> None:
    part = drive.files.begin(drive.at("file"), REJECT, parents=False)
    os.close(part.descriptor)
    assert drive.hidden() == [part.name]
    for _ in range(2):
        drive.files.drop(drive.at("file"), part.name)
        drive.files.drop(drive.at("away", "file"), part.name)
    assert list(drive.root.iterdir()) == []
    with pytest.raises(NotFound):
        drive.files.resume(drive.at("file"), part.name)


def test_two_uploads_to_one_name_do_not_mix(drive: Drive) -> None:
    parts = [drive.files.begin(drive.at("file"), RENAME, parents=False) for _ in range(2)]
    for number, part in enumerate(parts):
        os.pwrite(part.descriptor, b"%d" % number * 5, 0)
        os.close(part.descriptor)
    names = [drive.files.finish(drive.at("file"), part.name, RENAME, size=5, modified_ms=None) for part in parts]
    assert [(name, (drive.root / name).read_text()) for name in names] == [("file", "00000"), ("file(1)", "11111")]


def test_an_upload_replaces_no_folder_and_no_link_s_target(drive: Drive) -> None:
    (drive.root / "folder").mkdir()
    (drive.root / "link").symlink_to(drive.outside / "secret")
    with pytest.raises(Refused, match=r'"/folder" is a folder'):
        drive.upload("folder", policy=REPLACE)
    assert drive.upload("folder", policy=RENAME) == "folder(1)"
    assert drive.upload("link", policy=REPLACE) == "link"
    assert (drive.root / "link").read_text() == "new"
    assert not (drive.root / "link").is_symlink()


def test_a_name_that_would_not_be_shown_is_refused(drive: Drive) -> None:
    (drive.root / "a").touch()
    for request in (
        lambda: drive.upload(".a.ucloud-part"),
        lambda: drive.files.make_folder(drive.at(".a.ucloud-part"), RENAME, parents=False),
        lambda: drive.files.move(drive.at("a"), drive.at(".a.ucloud-part"), RENAME),
        lambda: drive.files.work(Work.COPY, drive.at("a"), drive.at(".a.ucloud-part"), RENAME, key="1"),
    ):
        with pytest.raises(Refused, match="choose another one"):
            request()


def test_what_is_new_is_its_user_s_alone_and_the_group_s_where_a_group_shares_the_folder(drive: Drive) -> None:
    modes = {
        0o700: (0o600, 0o700),
        0o755: (0o600, 0o700),
        0o770: (0o660, 0o770),
        0o2770: (0o660, 0o2770),
        0o1777: (0o600, 0o700),
    }
    for mode, (of_file, of_folder) in modes.items():
        folder = drive.root / oct(mode)
        folder.mkdir()
        folder.chmod(mode)
        drive.upload(folder.name, "file")
        drive.files.make_folder(drive.at(folder.name, "folder"), REJECT, parents=False)
        drive.upload(folder.name, "on", "the", "way", parents=True)
        assert stat.S_IMODE((folder / "file").stat().st_mode) == of_file, oct(mode)
        assert stat.S_IMODE((folder / "folder").stat().st_mode) == of_folder, oct(mode)
        assert stat.S_IMODE((folder / "on" / "the").stat().st_mode) == of_folder, oct(mode)
    os.chown(drive.root / oct(0o770), 0, 12345)
    drive.upload(oct(0o770), "other")
    assert stat.S_IMODE((drive.root / oct(0o770) / "other").stat().st_mode) == 0o600, "it is of another group than the folder"


def test_a_file_that_is_replaced_leaves_its_permissions_but_not_those_that_make_programs_of_others(drive: Drive) -> None:
    (drive.root / "file").touch()
    (drive.root / "file").chmod(0o6755)
    drive.upload("file", policy=REPLACE)
    assert stat.S_IMODE((drive.root / "file").stat().st_mode) == 0o755
    os.chown(drive.root / "file", 0, 12345)
    drive.upload("file", policy=REPLACE)
    assert stat.S_IMODE((drive.root / "file").stat().st_mode) == 0o705, "the group is another one"


@pytest.mark.parametrize("policy", list(ConflictPolicy))
def test_a_folder_is_made_by_its_policy(drive: Drive, policy: ConflictPolicy) -> None:
    (drive.root / "folder").mkdir()
    (drive.root / "file").touch()

    def make(*parts: str) -> str:
        try:
            return drive.files.make_folder(drive.at(*parts), policy, parents=False)
        except Conflict:
            return "409"

    made = [make("folder"), make("file"), make("new")]
    assert (
        made
        == {
            RENAME: ["folder(1)", "file(1)", "new"],
            REJECT: ["409", "409", "new"],
            REPLACE: ["folder", "409", "new"],
            MERGE_RENAME: ["folder", "file(1)", "new"],
        }[policy]
    )
    with pytest.raises(NotFound):
        make("not", "there")
    assert drive.files.make_folder(drive.at("not", "there"), policy, parents=True) == "there"
    assert (drive.root / "not" / "there").is_dir()


def test_a_free_name_is_cut_between_characters(drive: Drive) -> None:
    name = "€" * 83 + ".txt"
    for expected in (name, "€" * 82 + "(1).txt", "€" * 82 + "(2).txt"):
        assert drive.upload(name) == expected


@pytest.mark.parametrize("policy", list(ConflictPolicy))
@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_move_goes_by_its_policy_and_no_folder_is_ever_lost(drive: Drive, policy: ConflictPolicy, what: str) -> None:
    def fresh(name: str) -> None:
        if what == "folder":
            (drive.root / name).mkdir()
        else:
            (drive.root / name).write_text(name)

    for name in ("sub", "c"):
        (drive.root / name).mkdir()
    for name in ("a", "b"):
        fresh(name)

    def move(*parts: str) -> str:
        try:
            return drive.files.move(drive.at("a"), drive.at(*parts), policy)
        except (Conflict, Refused):
            return "refused"

    assert move("a") == "a", "it is there already"
    renames = policy in (RENAME, MERGE_RENAME)
    assert move("c") == ("c(1)" if renames else "refused")
    if renames:
        (drive.root / "c(1)").rename(drive.root / "a")
    replaces = policy is REPLACE and what == "file"
    assert move("b") == ("b" if replaces else "b(1)" if renames else "refused")
    if replaces:
        assert (drive.root / "b").read_text() == "a"
    assert (drive.root / "c").is_dir()
    if renames:
        (drive.root / "b(1)").rename(drive.root / "a")
    if not replaces:
        assert move("sub", "new") == "new"
        assert drive.names("sub") == ["new"]
        with pytest.raises(NotFound):
            move("sub", "a")


def test_what_cannot_be_moved_says_why(drive: Drive) -> None:
    (drive.root / "folder").mkdir()
    with pytest.raises(Refused, match="into itself"):
        drive.files.move(drive.at("folder"), drive.at("folder", "x"), RENAME)
    for source, target in ((drive.at(), drive.at("x")), (drive.at("folder"), drive.at())):
        with pytest.raises(Refused, match="drive itself"):
            drive.files.move(source, target, RENAME)
    with pytest.raises(NotFound, match='"/away"'):
        drive.files.move(drive.at("away"), drive.at("folder", "x"), RENAME)
    with pytest.raises(NotFound, match='"/none/x"'):
        drive.files.move(drive.at("folder"), drive.at("none", "x"), RENAME)
    with pytest.raises(Refused, match="drive itself"):
        drive.files.make_folder(drive.at(), RENAME, parents=True)
    assert drive.names() == ["folder"]


def test_a_move_between_two_drives_and_one_between_file_systems_differ(drive: Drive, tmp_path: Path) -> None:
    (drive.root / "file").write_text("x")
    (tmp_path / "second").mkdir()
    assert drive.files.move(drive.at("file"), Place(str(tmp_path / "second"), ("new",)), REJECT) == "new"
    with disk(tmp_path / "disk", "size=1m") as folder, pytest.raises(CrossDeviceError):
        drive.files.move(Place(str(tmp_path / "second"), ("new",)), Place(str(folder), ("new",)), REJECT)
    assert (tmp_path / "second" / "new").read_text() == "x"


def test_the_trash_keeps_what_has_the_same_name_and_is_its_user_s_alone(drive: Drive) -> None:
    for expected in ("file", "file(1)"):
        (drive.root / "file").write_text(expected)
        assert drive.files.trash(drive.at("file")) == expected
    assert {path.name: path.read_text() for path in (drive.root / "Trash").iterdir()} == {"file": "file", "file(1)": "file(1)"}
    assert stat.S_IMODE((drive.root / "Trash").stat().st_mode) == 0o700
    for parts in (("Trash",), ("Trash", "file")):
        with pytest.raises(Refused, match="trash"):
            drive.files.trash(drive.at(*parts))
    with pytest.raises(NotFound):
        drive.files.trash(drive.at("away"))


@pytest.mark.parametrize("what", ["file", "link"])
def test_a_trash_that_is_no_folder_is_not_used(drive: Drive, what: str) -> None:
    (drive.root / "a").touch()
    if what == "link":
        (drive.root / "Trash").symlink_to(drive.outside)
    else:
        (drive.root / "Trash").touch()
    with pytest.raises(Conflict, match='"/Trash" exists already'):
        drive.files.trash(drive.at("a"))
    assert sorted(path.name for path in drive.root.iterdir()) == ["Trash", "a"]


def test_a_disk_that_is_full_says_so_and_leaves_nothing(drive: Drive, tmp_path: Path) -> None:
    with disk(tmp_path / "disk", "size=256k,nr_inodes=6") as folder:
        place = Place(str(folder), ("file",))
        part = drive.files.begin(place, REPLACE, parents=False)
        with pytest.raises(OSError, match="No space left") as caught:
            fill(part.descriptor)
        assert isinstance(problem_of(caught.value, place.parts), StorageFullError)
        os.close(part.descriptor)
        drive.files.drop(place, part.name)
        assert list(folder.iterdir()) == []
        for number in range(4):
            (folder / str(number)).touch()
        full = (
            lambda: drive.files.begin(place, REPLACE, parents=False),
            lambda: drive.files.make_folder(Place(str(folder), ("x",)), RENAME, parents=False),
            lambda: drive.files.trash(Place(str(folder), ("0",))),
        )
        (folder / "4").touch()
        for request in full:
            with pytest.raises(StorageFullError, match="full"):
                request()


def test_a_quota_that_is_used_up_is_another_sentence_than_a_full_disk(drive: Drive) -> None:
    assert "Your quota on the cluster is used up; delete something and try again." in str(problem_of(OSError(122, ""), ["a"]))


def test_a_file_system_that_cannot_be_written_is_a_403(drive: Drive, tmp_path: Path) -> None:
    with disk(tmp_path / "disk", "ro") as folder, pytest.raises(Forbidden, match="cannot be written"):
        drive.files.make_folder(Place(str(folder), ("x",)), RENAME, parents=False)


def test_a_folder_that_takes_too_long_says_that_it_is_too_large(own_drive: Drive) -> None:
    (own_drive.root / ".not shown").touch()
    for by in SortBy:
        with pytest.raises(Refused, match="too large to be shown"):
            own_drive.files.list(own_drive.at(), after=None, most=5, by=by, descending=False, hidden=False, within=0.0)


def test_a_folder_of_more_names_than_are_sorted_is_shown_by_name(own_drive: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "SORTED_MOST", 10)
    for number in range(10):
        (own_drive.root / f"{number:02}").write_bytes(b"x" * (10 - number))
    by_size = [f"{number:02}" for number in range(9, -1, -1)]
    assert own_drive.pages(most=4, by=SortBy.SIZE) == [by_size[:4], by_size[4:8], by_size[8:]]
    first = own_drive.files.list(own_drive.at(), after=None, most=4, by=SortBy.SIZE, descending=False, hidden=True)
    (own_drive.root / "10").touch()
    with pytest.raises(Refused, match="open it again"):
        own_drive.files.list(own_drive.at(), after=first.after, most=4, by=SortBy.SIZE, descending=False, hidden=True)
    assert [name for page in own_drive.pages(most=4, by=SortBy.SIZE) for name in page] == sorted([*by_size, "10"])


def test_a_folder_whose_files_change_all_the_time_is_shown_to_an_end(own_drive: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "SORTED_MOST", 100)
    for number in range(8):
        (own_drive.root / str(number)).touch()
    pages, after, now = 0, None, 2_000_000_000
    while True:
        page = own_drive.files.list(own_drive.at(), after=after, most=2, by=SortBy.MODIFIED_AT, descending=False, hidden=True)
        pages, after = pages + 1, page.after
        if after is None:
            break
        assert pages <= listing.SORTED_MOST / 2 + 1
        now += 1
        for number in range(8):
            os.utime(own_drive.root / str(number), (now, now))


def test_an_upload_replaces_a_name_and_not_what_has_another_name_too(drive: Drive) -> None:
    """A hard link in the place of the target, also to what is not in the drive."""
    (drive.root / "kept").write_text("old")
    (drive.root / "target").hardlink_to(drive.root / "kept")
    (drive.root / "secret").hardlink_to(drive.outside / "secret")
    for name in ("target", "secret"):
        assert drive.upload(name, data=b"new", policy=REPLACE) == name
        assert (drive.root / name).read_text() == "new"
    assert (drive.root / "kept").read_text() == "old"


def test_a_name_that_is_no_utf_8_goes_with_its_folder(drive: Drive) -> None:
    name = b"\xff\xfe"

    def inside(*parts: str) -> list[bytes]:
        return os.listdir(os.fsencode(drive.root.joinpath(*parts)))  # noqa: PTH208

    (drive.root / "folder").mkdir()
    (drive.root / "folder" / os.fsdecode(name)).write_text("data")
    assert drive.work(Work.COPY, ("folder",), drive.at("copy")).problem is None
    assert drive.files.move(drive.at("copy"), drive.at("moved"), REJECT) == "moved"
    assert inside("folder") == inside("moved") == [name]
    drive.files.trash(drive.at("folder"))
    assert inside("Trash", "folder") == [name]
    assert drive.work(Work.ERASE, ("Trash",)).problem is None
    assert inside("Trash") == []
