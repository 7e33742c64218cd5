"""Uploads of folders: what came is counted, what failed is not, and says why elsewhere."""

import errno
import os
import struct
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.rooms.transfer.test_uploads import fail
from tests.sandbox.core import CoreError
from tests.sandbox.core.web_files import Part
from tests.sandbox.core.websocket import Socket, SocketClosedError
from tests.sandbox.processes import wait_until
from tests.support.drives import ADA
from tests.support.file_world import FileWorld
from ucloud_slurm.errors import StorageFullError
from ucloud_slurm.store.transfers import TransferOutcome, Transfers
from ucloud_slurm.transfer import folder_socket
from ucloud_slurm.users.impersonation import ImpersonationUnavailableError
from ucloud_slurm.users.own_files import OwnFiles

pytestmark = pytest.mark.parametrize("era", ["today"], scope="session")

FILES: dict[str, Part | bytes] = {"a.txt": b"aaa", "sub/b.txt": b"b" * 70_000, "sub/deep/empty": b"", "c": b"c" * 300_000}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_socket, "LINGER_SECONDS", 0.1)
    monkeypatch.setattr("ucloud_slurm.transfer.websocket.TICK_SECONDS", 0.05)


def assert_closed(socket: Socket) -> None:
    with suppress(SocketClosedError):
        for _ in range(10):
            assert socket.frame(30) is not None, "the connection stays open"
        raise AssertionError("it goes on")


def contents(place: FileWorld, folder: str) -> dict[str, bytes]:
    top = place.root / folder
    return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}


def failures(place: FileWorld) -> list[str]:
    rows = place.world.provider.store.rows("select progress from tasks where state = 'FAILURE' order by id")
    return [row["progress"] for row in rows]


def test_a_folder_comes_with_everything_in_it(place: FileWorld) -> None:
    place.web.chunk = 100_000
    assert place.web.upload_folder(place.at("data"), FILES) == 4
    assert contents(place, "data") == {name: data for name, data in FILES.items() if isinstance(data, bytes)}
    assert int((place.root / "data/a.txt").stat().st_mtime * 1000) == 1_795_000_000_000


def test_thousands_of_small_files_come_a_few_at_a_time(place: FileWorld) -> None:
    many: dict[str, Part | bytes] = {f"{number % 7}/{number}": str(number).encode() for number in range(500)}
    assert place.web.upload_folder(place.at("data"), many) == 500
    assert contents(place, "data") == {name: bytes(data) for name, data in many.items() if isinstance(data, bytes)}


def test_a_folder_that_is_sent_again_sends_what_is_missing_only(place: FileWorld) -> None:
    place.web.upload_folder(place.at("data"), FILES)
    (place.root / "data/a.txt").unlink()
    before = (place.root / "data/c").stat().st_ino
    assert place.web.upload_folder(place.at("data"), FILES) == 4
    assert sorted(contents(place, "data")) == sorted(FILES)
    assert (place.root / "data/c").stat().st_ino == before


def test_a_file_that_differs_is_kept_beside_the_new_one(place: FileWorld) -> None:
    place.web.upload_folder(place.at("data"), {"a.txt": b"old"})
    place.web.upload_folder(place.at("data"), {"a.txt": b"new!"})
    assert contents(place, "data") == {"a.txt": b"old", "a(1).txt": b"new!"}


def test_what_the_browser_cannot_read_is_left_out(place: FileWorld) -> None:
    assert place.web.upload_folder(place.at("data"), {"a": b"a", "b": Part(None), "c": b"c"}) == 3
    assert contents(place, "data") == {"a": b"a", "c": b"c"}


def test_a_failure_is_not_counted_and_says_why_in_a_task(place: FileWorld, caplog: pytest.LogCaptureFixture) -> None:
    (place.root / "data").mkdir()
    (place.root / "data/sub").write_text("no folder")
    with caplog.at_level("INFO"):
        assert place.web.upload_folder(place.at("data"), FILES) == 2
        place.idle()
    assert contents(place, "data") == {"a.txt": b"aaa", "c": b"c" * 300_000, "sub": b"no folder"}
    (why,) = failures(place)
    assert why.startswith("2 of 4 files were uploaded. /sub/b.txt: ")
    assert [line for line in caplog.messages if line.startswith("transfer:") and "2 of 4 files" in line]


def test_no_space_ends_the_upload_and_loses_nothing(place: FileWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    fail(monkeypatch, errno.EDQUOT, 100_000)
    assert place.web.upload_folder(place.at("data"), FILES) < 4
    place.idle()
    assert "c" not in contents(place, "data")
    assert not [name for name in place.names("data") if name.endswith(".ucloud-part")]
    (why,) = failures(place)
    assert "quota" in why


def test_a_connection_that_breaks_leaves_no_half_file(place: FileWorld) -> None:
    link = place.web.files.upload_link(ADA, place.at("data"), kind="FOLDER")
    with place.web.socket(link.endpoint) as socket:
        socket.send(b"\x04" + struct.pack(">iqqi", 0, 10, 1, 1) + b"a")
        assert socket.frame(30) == b"\0\0\0\0\0"
        socket.send(b"\x02\0\0\0\0" + b"12345")
    place.idle()
    assert place.names("data") == []
    assert place.ended(link.token).outcome is TransferOutcome.FAILED


def test_the_parts_of_a_process_that_died_are_deleted(place: FileWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    link = place.web.files.upload_link(ADA, place.at("data"), kind="FOLDER")
    monkeypatch.setattr("ucloud_slurm.transfer.folder.FolderUpload.close", lambda _self: None)
    with place.web.socket(link.endpoint) as socket:
        socket.send(b"\x04" + struct.pack(">iqqi", 0, 10, 1, 1) + b"a")
        assert socket.frame(30) == b"\0\0\0\0\0"
        socket.send(b"\x02\0\0\0\0" + b"12345")
    place.idle()
    assert len(place.names("data")) == 1
    place.world.clock.advance(2 * 86400 + 1)
    place.keep_up()
    assert place.names("data") == []


def test_a_folder_that_takes_hours_is_not_taken_for_one_that_nobody_continues(place: FileWorld) -> None:
    link = place.web.files.upload_link(ADA, place.at("data"), kind="FOLDER")
    with place.web.socket(link.endpoint) as socket:
        socket.send(b"\x04" + struct.pack(">iqqi", 0, 10, 1_795_000_000_000, 1) + b"a")
        assert socket.frame(30) == b"\0\0\0\0\0"
        socket.send(b"\x02\0\0\0\0" + b"12345")
        wait_until("the part is there", lambda: len(place.names("data")) == 1, seconds=30)
        place.world.clock.advance(5 * 3600)
        place.keep_up()
        socket.send(b"\x02\0\0\0\0" + b"67890")
        assert socket.frame(30) == b"\x05\0\0\0\x01"
    assert (place.root / "data/a").read_bytes() == b"1234567890"
    assert place.ended(link.token).outcome is TransferOutcome.DONE


def test_a_file_that_takes_longer_than_an_upload_may_rest_is_not_given_up(place: FileWorld) -> None:
    link = place.web.files.upload_link(ADA, place.at("data"), kind="FOLDER")
    with place.web.socket(link.endpoint) as socket:
        socket.send(b"\x04" + struct.pack(">iqqi", 0, 4, 1, 1) + b"a" + struct.pack(">iqqi", 1, 1, 1, 1) + b"b")
        assert socket.frame(30) == b"\0\0\0\0\0\0\0\0\0\1"
        for size in (1, 2, 3):
            socket.send(b"\x02\0\0\0\0" + b"%d" % size)
            wait_until("it is written", partial(written, place, size), seconds=30)
            place.keep_up()
            place.world.clock.advance(40 * 3600)
        socket.send(b"\x02\0\0\0\1x")
        assert socket.frame(30) == b"\x05\0\0\0\x01"
        socket.send(b"\x02\0\0\0\0" + b"4")
        assert socket.frame(30) == b"\x05\0\0\0\x02"
    assert contents(place, "data") == {"a": b"1234", "b": b"x"}


def written(place: FileWorld, size: int) -> bool:
    return [path.stat().st_size for path in (place.root / "data").iterdir()] == [size]


@pytest.mark.parametrize("error", [ImpersonationUnavailableError("away"), StorageFullError("full")])
def test_no_descriptor_stays_open_where_the_cluster_does_not_answer_in_the_end(
    place: FileWorld, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*_arguments: object, **_more: object) -> None:
        raise error

    monkeypatch.setattr(OwnFiles, "drop", fails)
    link = place.web.files.upload_link(ADA, place.at("data"), kind="FOLDER")
    with place.web.socket(link.endpoint) as socket:
        socket.send(b"\x04" + b"".join(struct.pack(">iqqi", number, 3, 1, 1) + b"%d" % number for number in range(3)))
        socket.frame(30)
        for number in range(3):
            socket.send(b"\x02" + struct.pack(">I", number) + b"1")
        wait_until("the parts are there", lambda: len(place.names("data")) == 3, seconds=30)
    assert place.ended(link.token).outcome is TransferOutcome.FAILED
    place.idle()
    opened = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    assert not [path for path in opened if path.is_relative_to(place.root)]


def test_a_file_is_closed_once_where_the_database_fails_in_the_end(place: FileWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second time it would be the file of somebody else, which has its number by then."""
    closed: list[int] = []

    def close(descriptor: int) -> None:
        if "data" in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            closed.append(descriptor)
        os_close(descriptor)

    def fails(*_arguments: object) -> None:
        raise StorageFullError("the database is full")

    os_close = os.close
    monkeypatch.setattr(Transfers, "forget_part", fails)
    monkeypatch.setattr("ucloud_slurm.transfer.folder.os", SimpleNamespace(close=close))
    assert place.web.upload_folder(place.at("data"), {"a": b"a"}) == 1
    place.idle()
    assert len(closed) == 1
    assert contents(place, "data") == {"a": b"a"}


def test_names_that_wait_do_not_fill_the_memory(place: FileWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ucloud_slurm.transfer.folder.MOST_LISTED_BYTES", 3 * 4000)
    link = place.web.files.upload_link(ADA, place.at("data"), kind="FOLDER")
    listed = [struct.pack(">iqqi", number, 1, 1, 4000) + b"ab/" * 1333 + b"c" for number in range(13)]
    with place.web.socket(link.endpoint) as socket:
        socket.send(b"\x04" + b"".join(listed[:2]))
        assert socket.frame(30) == b"\0\0\0\0\0\0\0\0\0\1"
        socket.send(b"\x04" + b"".join(listed[2:8]))
        assert_closed(socket)


@pytest.mark.parametrize(
    "frame",
    [
        b"\x04" + struct.pack(">iqqi", 0, 1, 1, 7) + b"../../x",
        b"\x04" + struct.pack(">iqqi", 0, 1, 1, 5) + b"/etc/x"[:5],
        b"\x04" + struct.pack(">iqqi", 0, 1, 1, 0),
        b"\x04" + struct.pack(">iqqi", 7, 1, 1, 1) + b"a",
        b"\x02\0\0\0\0data",
        b"\x03\0\0\0\x05",
        b"\x01",
        b"\x06",
    ],
)
def test_a_browser_that_does_not_keep_to_the_protocol_is_disconnected(place: FileWorld, frame: bytes) -> None:
    link = place.web.files.upload_link(ADA, place.at("data"), kind="FOLDER")
    with place.web.socket(link.endpoint) as socket:
        socket.send(frame)
        assert_closed(socket)
    place.idle()
    assert place.names() == ["data"]
    assert place.names("data") == []


def test_a_file_that_is_longer_than_announced_is_not_taken(place: FileWorld) -> None:
    link = place.web.files.upload_link(ADA, place.at("data"), kind="FOLDER")
    with place.web.socket(link.endpoint) as socket:
        socket.send(b"\x04" + struct.pack(">iqqi", 0, 3, 1, 1) + b"a")
        socket.send(b"\x02\0\0\0\0" + b"12345")
        assert_closed(socket)
    place.idle()
    assert place.names("data") == []


def test_a_link_to_a_folder_is_used_once_and_soon(place: FileWorld) -> None:
    link = place.web.files.upload_link(ADA, place.at("data"), kind="FOLDER")
    assert place.web.send_folder(link.endpoint, {"a": b"a"}) == 1
    for endpoint in (link.endpoint, place.web.files.upload_link(ADA, place.at("data"), kind="FOLDER").endpoint):
        with pytest.raises(CoreError) as refused:
            place.web.send_folder(endpoint, {"b": b"b"})
        assert refused.value.status in (409, 410)
        place.world.clock.advance(601)
        break
    late = place.web.files.upload_link(ADA, place.at("data"), kind="FOLDER").endpoint
    place.world.clock.advance(601)
    with pytest.raises(CoreError) as refused:
        place.web.send_folder(late, {"b": b"b"})
    assert refused.value.status == 410


def test_pages_of_other_sites_open_no_socket(place: FileWorld) -> None:
    link = place.web.files.upload_link(ADA, place.at("data"), kind="FOLDER")
    place.web.origin = "https://elsewhere.example.org"
    with pytest.raises(CoreError) as refused:
        place.web.send_folder(link.endpoint, {"a": b"a"})
    assert refused.value.status == 403


def test_a_symbolic_link_in_the_folder_leads_nowhere(place: FileWorld) -> None:
    outside = place.root.parent / "outside"
    outside.mkdir()
    (place.root / "data").mkdir()
    (place.root / "data/sub").symlink_to(outside)
    place.web.upload_folder(place.at("data"), {"sub/b.txt": b"b"})
    place.idle()
    assert list(outside.iterdir()) == []


def test_one_file_may_come_through_a_socket(place: FileWorld) -> None:
    (link,) = place.web.files.upload_links(ADA, place.at("a.txt"), protocols=["WEBSOCKET"])
    assert link.protocol == "WEBSOCKET_V2"
    assert place.web.send_folder(link.endpoint, {"": b"text"}) == 1
    assert (place.root / "a.txt").read_bytes() == b"text"


def test_a_client_that_knows_no_way_is_refused(place: FileWorld) -> None:
    with pytest.raises(CoreError) as refused:
        place.web.files.upload_links(ADA, place.at("a.txt"), kind="FOLDER", protocols=["CHUNKED"])
    assert refused.value.status == 400
