"""Frames of uploads through a WebSocket, as they come, and as hostile ones come."""

import struct

import pytest

from ucloud_slurm.transfer.messages import (
    FileData,
    FileSkipped,
    ListedFile,
    ListedFiles,
    UploadMessage,
    UploadMessages,
    UploadOp,
    UploadProtocolError,
    answer,
)


def entry(number: int, path: bytes, size: int = 5, modified: int = 1_795_000_300_000) -> bytes:
    return struct.pack(">iqqi", number, size, modified, len(path)) + path


def taken(*frames: bytes, piece: int = 7) -> list[UploadMessage]:
    """What the frames say, which come in small pieces."""
    messages = UploadMessages()
    found: list[UploadMessage] = []
    for frame in frames:
        for at in range(0, len(frame), piece):
            found += messages.feed(frame[at : at + piece], last=at + piece >= len(frame))
    return found


def test_the_frames_of_a_browser_are_understood() -> None:
    listing = bytes.fromhex(
        "04000000000000000000000005000001a1ee5af1e000000005612e747874000000010000000000000000000001a1ee5af1e0000000097375622f656d707479"
    )
    assert taken(listing) == [
        ListedFiles((ListedFile(0, 5, 1_795_000_300_000, b"a.txt"), ListedFile(1, 0, 1_795_000_300_000, b"sub/empty")))
    ]
    assert taken(bytes.fromhex("020000000068656c6c6f"), piece=64) == [FileData(0, b"hello")]
    assert taken(bytes.fromhex("0300000000")) == [FileSkipped(0)]
    assert answer(UploadOp.OK, 0) + answer(UploadOp.SKIP, 1) + answer(UploadOp.FILES_COMPLETED, 1) == bytes.fromhex(
        "000000000003000000010500000001"
    )


@pytest.mark.parametrize("piece", [1, 4, 5, 6, 1000])
def test_the_data_of_a_file_is_passed_on_as_it_comes(piece: int) -> None:
    data = bytes(range(250))
    found = taken(b"\x03\0\0\0\x07\x02\0\0\0\x01" + data, b"\x02\0\0\0\x02", piece=piece)
    assert found[0] == FileSkipped(7)
    pieces = [each for each in found[1:] if isinstance(each, FileData)]
    assert b"".join(each.data for each in pieces if each.id == 1) == data
    assert [each.data for each in pieces if each.id == 2] == [b""]  # an empty file


def test_the_end_of_a_frame_may_come_alone() -> None:
    """The file is whole by then: data of it would be an error."""
    messages = UploadMessages()
    assert [*messages.feed(b"\x02\0\0\0\x01data", last=False)] == [FileData(1, b"data")]
    assert [*messages.feed(b"", last=True)] == []


@pytest.mark.parametrize(
    "path",
    [b"../x", b"a/../../x", b"/etc/passwd", b"a//b", b"a/", b".", b"a/./b", b"\xff\xfe", b"a\0b", b"n" * 256, b"\xed\xa0\x80"],
)
def test_a_path_that_could_lead_out_is_refused(path: bytes) -> None:
    with pytest.raises(UploadProtocolError):
        taken(b"\x04" + entry(0, path))


@pytest.mark.parametrize(
    "frame",
    [
        b"\x09rest",
        b"\x02\0\0",
        b"\x03\0\0\0",
        b"\x00\0\0\0\0",
        b"\x05\0\0\0\0",
        b"\x04" + entry(0, b"a")[:-1],
        b"\x04" + struct.pack(">iqqi", 0, 1, 1, 10_000) + b"a",
        b"\x04" + struct.pack(">iqqi", 0, 1, 1, -5) + b"a",
        b"\x04" + entry(-1, b"a"),
        b"\x04" + entry(0, b"a", size=-1),
        b"\x04" + entry(0, b"a") * 20_000,
    ],
)
def test_a_frame_that_is_none_of_a_browser_is_refused(frame: bytes) -> None:
    with pytest.raises(UploadProtocolError):
        taken(frame, piece=4096)


@pytest.mark.parametrize("modified", [-1, 0, 1 << 62])
def test_an_impossible_time_is_none(modified: int) -> None:
    (message,) = taken(b"\x04" + entry(0, b"a", modified=modified))
    assert message == ListedFiles((ListedFile(0, 5, None, b"a"),))
