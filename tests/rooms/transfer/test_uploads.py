"""Uploads in chunks: a file appears when all of it is there, and what came is kept until then."""

import errno
import os
import socket
import threading
import time
from contextlib import nullcontext
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from tests.sandbox.core import CoreError
from tests.sandbox.core.web_files import ORIGIN, BlockedError, UploadFailedError
from tests.sandbox.processes import wait_until
from tests.support.drives import ADA, BOB, UIDS, name_users
from tests.support.file_world import FileWorld
from ucloud_slurm.errors import Problem, StorageFullError
from ucloud_slurm.store.people import UserLink
from ucloud_slurm.store.transfers import TransferKind, TransferOutcome
from ucloud_slurm.transfer import chunked, open_parts
from ucloud_slurm.transfer.unit import Unit
from ucloud_slurm.users.files import OpenedPart
from ucloud_slurm.users.impersonation import ImpersonationUnavailableError
from ucloud_slurm.users.mapping import IdentityUnavailableError
from ucloud_slurm.users.own_files import OwnFiles
from ucloud_slurm.web.places import Caller

pytestmark = pytest.mark.parametrize("era", ["today"], scope="session")
DATA = bytes(range(256)) * 1000  # 256 000 bytes
CHUNK = 100_000


@pytest.fixture(autouse=True)
def chunks(place: FileWorld) -> None:
    place.web.chunk = CHUNK


def visible(place: FileWorld) -> list[str]:
    return [name for name in place.names() if not name.endswith(".ucloud-part")]


def parts(place: FileWorld) -> list[str]:
    return [name for name in place.names() if name.endswith(".ucloud-part")]


def post(place: FileWorld, token: str, offset: object, total: object, data: bytes = b"", **headers: str) -> requests.Response:
    named = {"Chunked-Upload-Token": token, "Chunked-Upload-Offset": str(offset), "Chunked-Upload-Total-Size": str(total)}
    url = f"{place.files}/ucloud/example/files/transfer/upload"
    return requests.post(url, data=data, headers=named | headers, timeout=30)


def test_a_file_comes_in_chunks_and_appears_whole(place: FileWorld) -> None:
    link = place.web.files.upload_link(ADA, place.at("in.dat"))
    place.web.send_chunks(link.endpoint, link.token, DATA, until=200_000)
    assert (visible(place), len(parts(place))) == ([], 1)
    place.web.send_chunks(link.endpoint, link.token, DATA, first=200_000)
    assert place.names() == ["in.dat"]
    assert (place.root / "in.dat").read_bytes() == DATA
    row = place.row(link.token)
    assert (row.outcome, row.done) == (TransferOutcome.DONE, len(DATA))


def test_one_line_in_the_journal_says_who_sent_what(place: FileWorld, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        place.web.upload(place.at("in.dat"), DATA)
    line = f"transfer: Ada#1 as ada: upload of '/{place.drive}/in.dat': done, {len(DATA)} bytes"
    assert [each for each in caplog.messages if each.startswith("transfer:")] == [line]


def test_an_upload_that_stops_goes_on_two_days_later_also_in_another_process(
    place: FileWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = place.web.files.upload_link(ADA, place.at("in.dat"))
    place.web.send_chunks(link.endpoint, link.token, DATA, until=200_000)
    place.world.clock.advance(2 * 86400 - 10)
    place.forget()
    place.keep_up()
    place.web.send_chunks(link.endpoint, link.token, DATA, first=100_000)  # the last answer did not arrive
    assert (place.root / "in.dat").read_bytes() == DATA


def test_what_nobody_continues_is_deleted(place: FileWorld) -> None:
    link = place.web.files.upload_link(ADA, place.at("in.dat"))
    place.web.send_chunks(link.endpoint, link.token, DATA, until=200_000)
    place.world.clock.advance(2 * 86400 + 10)
    place.keep_up()
    assert place.names() == []
    assert place.row(link.token).outcome is TransferOutcome.EXPIRED
    assert post(place, link.token, 200_000, len(DATA), DATA[200_000:]).status_code == 410


def test_the_answer_to_the_last_chunk_may_be_lost(place: FileWorld) -> None:
    link = place.web.files.upload_link(ADA, place.at("in.dat"))
    place.web.send_chunks(link.endpoint, link.token, DATA)
    place.web.send_chunks(link.endpoint, link.token, DATA, first=200_000)
    assert place.names() == ["in.dat"]


@pytest.mark.parametrize(("offset", "total"), [(200_000, 256_000), (100_000, 255_000)])
def test_a_gap_and_another_file_are_refused_and_what_came_stays(place: FileWorld, offset: int, total: int) -> None:
    link = place.web.files.upload_link(ADA, place.at("in.dat"))
    place.web.send_chunks(link.endpoint, link.token, DATA, until=100_000)
    assert post(place, link.token, offset, total, DATA[offset : offset + 1000]).status_code == 409
    place.web.send_chunks(link.endpoint, link.token, DATA, first=100_000)
    assert (place.root / "in.dat").read_bytes() == DATA


@pytest.mark.parametrize(
    ("offset", "total", "status"), [("x", 10, 400), (-1, 10, 400), (0, "", 400), (5, 8, 400), (0, 10**30, 400)]
)
def test_headers_that_make_no_sense_are_refused(place: FileWorld, offset: object, total: object, status: int) -> None:
    link = place.web.files.upload_link(ADA, place.at("in.dat"))
    assert post(place, link.token, offset, total, b"12345").status_code == status
    assert visible(place) == []


def test_a_chunk_that_is_too_large_is_answered_and_not_written(place: FileWorld) -> None:
    link = place.web.files.upload_link(ADA, place.at("in.dat"))
    data = bytes(chunked.LARGEST_CHUNK_BYTES + 1)
    assert post(place, link.token, 0, len(data), data).status_code == 413
    assert visible(place) == []


def test_an_empty_file_is_never_sent_and_is_there_a_minute_later(place: FileWorld) -> None:
    place.web.upload(place.at("empty"), b"")
    place.keep_up()
    assert visible(place) == []
    place.world.clock.advance(61)
    place.keep_up()
    assert (place.names(), (place.root / "empty").stat().st_size) == (["empty"], 0)


def test_an_empty_file_is_made_later_where_the_cluster_does_not_answer_at_first(
    place: FileWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.web.upload(place.at("empty"), b"")
    place.world.clock.advance(61)
    with monkeypatch.context() as patch:
        patch.setattr(OwnFiles, "finish", _away)
        place.keep_up()
    assert visible(place) == []
    place.keep_up()
    assert place.names() == ["empty"]


def _away(*_arguments: object, **_more: object) -> str:
    raise ImpersonationUnavailableError("the runner is away")


def test_what_comes_after_a_minute_of_silence_is_written_into_the_file(place: FileWorld) -> None:
    link = place.web.files.upload_link(ADA, place.at("late"))
    place.world.clock.advance(61)
    place.keep_up()
    assert place.names() == ["late"]
    place.web.send_chunks(link.endpoint, link.token, DATA)
    assert place.names() == ["late"]
    assert (place.root / "late").read_bytes() == DATA


def test_what_comes_late_never_replaces_what_somebody_wrote_meanwhile(place: FileWorld) -> None:
    link = place.web.files.upload_link(ADA, place.at("late"))
    place.world.clock.advance(61)
    place.keep_up()
    place.web.send_chunks(link.endpoint, link.token, DATA, until=200_000)
    (place.root / "late").write_text("mine")
    place.web.send_chunks(link.endpoint, link.token, DATA, first=200_000)
    assert (place.root / "late").read_text() == "mine"
    assert (place.root / "late(1)").read_bytes() == DATA


def test_an_upload_whose_first_chunk_was_refused_does_not_become_an_empty_file(
    place: FileWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = place.web.files.upload_link(ADA, place.at("in.dat"))
    fail(monkeypatch, errno.EDQUOT, 0)
    with pytest.raises(UploadFailedError):
        place.web.send_chunks(link.endpoint, link.token, DATA)
    place.world.clock.advance(61)
    place.keep_up()
    assert visible(place) == []


@pytest.mark.parametrize(
    ("policy", "names", "old"),
    [("RENAME", ["a.txt", "a(1).txt"], b"old"), ("REPLACE", ["a.txt"], DATA), ("REJECT", ["a.txt"], b"old")],
)
def test_an_upload_to_a_name_that_exists_does_what_the_user_chose(
    place: FileWorld, policy: str, names: list[str], old: bytes
) -> None:
    (place.root / "a.txt").write_bytes(b"old")
    with pytest.raises(CoreError, match="409") if policy == "REJECT" else nullcontext():
        place.web.upload(place.at("a.txt"), DATA, policy=policy)
    assert place.names() == sorted(names)
    assert (place.root / "a.txt").read_bytes() == old


@pytest.mark.parametrize("policy", ["RENAME", "REJECT"])
def test_two_uploads_to_one_name_lose_neither(place: FileWorld, policy: str) -> None:
    first = place.web.files.upload_link(ADA, place.at("a"), policy=policy)
    second = place.web.files.upload_link(ADA, place.at("a"), policy=policy)
    place.web.send_chunks(first.endpoint, first.token, DATA, until=200_000)
    place.web.send_chunks(second.endpoint, second.token, DATA[::-1])
    with pytest.raises(UploadFailedError, match="409") if policy == "REJECT" else nullcontext():
        place.web.send_chunks(first.endpoint, first.token, DATA, first=200_000)
    assert (place.root / "a").read_bytes() == DATA[::-1]
    assert visible(place) == (["a", "a(1)"] if policy == "RENAME" else ["a"])


def fail(monkeypatch: pytest.MonkeyPatch, number: int, after: int) -> None:
    """Writing fails as soon as so many bytes are there."""
    pwrite = os.pwrite

    def failing(descriptor: int, data: Any, offset: int) -> int:
        if offset + len(data) > after:
            raise OSError(number, os.strerror(number))
        return pwrite(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", failing)


@pytest.mark.parametrize("number", [errno.EDQUOT, errno.ENOSPC])
def test_no_space_in_the_middle_is_said_and_loses_nothing(
    place: FileWorld, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (place.root / "a").write_bytes(b"old")
    link = place.web.files.upload_link(ADA, place.at("a"), policy="REPLACE")
    with monkeypatch.context() as patch:
        fail(patch, number, 150_000)
        with pytest.raises(UploadFailedError) as failed:
            place.web.send_chunks(link.endpoint, link.token, DATA)
    assert failed.value.status == 507
    assert "quota" in failed.value.text or "full" in failed.value.text
    assert (place.root / "a").read_bytes() == b"old"
    place.web.send_chunks(link.endpoint, link.token, DATA, first=100_000)  # there is space again
    assert (place.root / "a").read_bytes() == DATA


def test_what_came_before_the_space_was_used_up_does_not_use_it_up_for_days(
    place: FileWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = place.web.files.upload_link(ADA, place.at("a"))
    fail(monkeypatch, errno.ENOSPC, 150_000)
    with pytest.raises(UploadFailedError):
        place.web.send_chunks(link.endpoint, link.token, DATA)
    place.world.clock.advance(3601)
    place.keep_up()
    assert place.names() == []


def test_a_part_that_somebody_has_exchanged_is_not_written_to(place: FileWorld) -> None:
    link = place.web.files.upload_link(ADA, place.at("a"))
    place.web.send_chunks(link.endpoint, link.token, DATA, until=100_000)
    place.forget()
    (part,) = parts(place)
    (place.root / "victim").write_bytes(b"untouched")
    for exchange in (os.symlink, os.link):
        (place.root / part).unlink()
        exchange(place.root / "victim", place.root / part)
        assert post(place, link.token, 100_000, len(DATA), DATA[100_000:200_000]).status_code in (403, 409)
        assert (place.root / "victim").read_bytes() == b"untouched"


def test_a_part_that_is_away_is_not_continued_in_the_middle(place: FileWorld) -> None:
    link = place.web.files.upload_link(ADA, place.at("a"))
    place.web.send_chunks(link.endpoint, link.token, DATA, until=100_000)
    place.forget()
    (place.root / parts(place)[0]).unlink()
    assert post(place, link.token, 100_000, len(DATA), DATA[100_000:200_000]).status_code == 409
    place.web.send_chunks(link.endpoint, link.token, DATA)
    assert (place.root / "a").read_bytes() == DATA


def test_two_chunks_of_one_file_are_written_one_after_the_other(place: FileWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    link = place.web.files.upload_link(ADA, place.at("a"))
    writing, most = [0], [0]
    write = chunked.write_at

    def counting(descriptor: int, data: bytes, offset: int) -> None:
        writing[0] += 1
        most[0] = max(most[0], writing[0])
        time.sleep(0.05)  # so that another thread would come in between
        write(descriptor, data, offset)
        writing[0] -= 1

    monkeypatch.setattr(chunked, "write_at", counting)
    threads = [threading.Thread(target=post, args=(place, link.token, 0, len(DATA), DATA[:CHUNK])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    place.web.send_chunks(link.endpoint, link.token, DATA, first=CHUNK)
    assert most == [1]
    assert (place.names(), (place.root / "a").read_bytes()) == (["a"], DATA)


def test_a_chunk_waits_for_another_one_of_the_same_file_but_not_for_ever(
    place: FileWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = place.web.files.upload_link(ADA, place.at("a"))
    token = place.row(link.token).token
    monkeypatch.setattr(open_parts, "WAIT_SECONDS", 0.05)
    assert place.unit.parts.enter(token)
    assert post(place, link.token, 0, len(DATA), DATA[:CHUNK]).status_code == 409
    place.unit.parts.leave(token)
    assert post(place, link.token, 0, len(DATA), DATA[:CHUNK]).status_code == 200


def test_only_pages_of_ucloud_may_send(place: FileWorld) -> None:
    link = place.web.files.upload_link(ADA, place.at("a"))
    place.web.origin = "https://elsewhere.example.org"
    with pytest.raises(BlockedError):
        place.web.send_chunks(link.endpoint, link.token, DATA)
    assert post(place, link.token, 0, 1, b"x", Origin="https://elsewhere.example.org").status_code == 403
    assert post(place, link.token, 0, 1, b"x", Origin=ORIGIN).status_code == 200


def test_an_upload_ends_with_the_connection_of_its_user(place: FileWorld) -> None:
    link = place.web.files.upload_link(ADA, place.at("a"))
    place.web.send_chunks(link.endpoint, link.token, DATA, until=100_000)
    place.forget()
    place.world.provider.people.remove(ADA, "root", 0.0)
    assert post(place, link.token, 100_000, len(DATA), DATA[100_000:200_000]).status_code == 403
    assert visible(place) == []


def test_an_upload_does_not_change_its_account(place: FileWorld) -> None:
    """A user who is connected anew, with another account, begins anew."""
    link = place.web.files.upload_link(ADA, place.at("a"))
    people, uid = place.world.provider.people, UIDS["bob"]
    for name in (ADA, BOB):
        people.remove(name, "root", 0.0)
    people.add([UserLink(ADA, "bob", uid, 0.0, "root")])
    answer = post(place, link.token, 0, len(DATA), DATA[:CHUNK])
    assert (answer.status_code, "has changed" in answer.text) == (403, True)


def test_a_bulk_of_which_one_upload_is_refused_leaves_nothing_behind(place: FileWorld) -> None:
    with pytest.raises(CoreError):
        place.web.files.upload_links(ADA, place.at("a"), place.at("nowhere/b"))
    place.world.clock.advance(61)
    place.keep_up()
    assert place.names() == []


def test_a_stranger_sends_nothing_into_the_drive_of_somebody_else(place: FileWorld) -> None:
    name_users(place.world, BOB)
    with pytest.raises(CoreError) as refused:
        place.web.files.upload_link(BOB, place.at("a"))
    assert refused.value.status == 403


@pytest.mark.parametrize("path", ["{drive}/../etc/x", "{drive}/a//b", "{drive}/./x", "{drive}/" + "n" * 256])
def test_paths_that_play_tricks_are_refused(place: FileWorld, path: str) -> None:
    with pytest.raises(CoreError) as refused:
        place.web.files.upload_link(ADA, "/" + path.format(drive=place.drive))
    assert refused.value.status in (400, 403, 404)
    assert place.names() == []


def test_a_backslash_is_a_character(place: FileWorld) -> None:
    place.web.upload(place.at("..\\..\\a"), b"text")
    assert place.names() == ["..\\..\\a"]


def test_a_descriptor_that_nobody_uses_is_closed(place: FileWorld) -> None:
    link = place.web.files.upload_link(ADA, place.at("a"))
    place.web.send_chunks(link.endpoint, link.token, DATA, until=100_000)
    assert len(place.unit.parts) == 1
    place.forget()
    assert len(place.unit.parts) == 0


def test_silence_never_replaces_what_is_there_by_an_empty_file(place: FileWorld) -> None:
    """The browser could not reach the unit, or the user has saved again before the minute was over."""
    (place.root / "a").write_bytes(b"old")
    link = place.web.files.upload_link(ADA, place.at("a"), policy="REPLACE")
    place.world.clock.advance(61)
    place.keep_up()
    place.keep_up()
    assert (place.root / "a").read_bytes() == b"old"
    rows = place.world.provider.store.rows("select progress from tasks where state = 'FAILURE'")
    assert [row["progress"] for row in rows] == [chunked.NOTHING_CAME]
    place.web.send_chunks(link.endpoint, link.token, DATA)
    place.web.send_chunks(link.endpoint, link.token, DATA, first=200_000)
    assert place.names() == ["a"]
    assert (place.root / "a").read_bytes() == DATA


def test_an_empty_file_replaces_an_empty_one(place: FileWorld) -> None:
    (place.root / "a").touch(mode=0o640)
    place.web.upload(place.at("a"), b"", policy="REPLACE")
    place.world.clock.advance(61)
    place.keep_up()
    assert (place.names(), (place.root / "a").stat().st_size) == (["a"], 0)


@pytest.mark.parametrize("trouble", [IdentityUnavailableError(), StorageFullError("full")])
def test_an_upload_is_not_given_up_while_somebody_else_does_not_answer(
    place: FileWorld, monkeypatch: pytest.MonkeyPatch, trouble: Problem
) -> None:
    def fails(*_arguments: object) -> None:
        raise trouble

    link = place.web.files.upload_link(ADA, place.at("a"))
    place.world.clock.advance(61)
    with monkeypatch.context() as patch:
        patch.setattr(Unit, "checked", fails)
        place.keep_up()
    place.keep_up()
    assert place.names() == ["a"]
    place.web.send_chunks(link.endpoint, link.token, DATA)
    assert (place.root / "a").read_bytes() == DATA


def test_a_chunk_that_is_cut_off_is_not_answered_as_if_it_were_whole(place: FileWorld) -> None:
    link = place.web.files.upload_link(ADA, place.at("a"))
    url = urlsplit(place.files)
    with socket.create_connection((str(url.hostname), url.port or 0), timeout=30) as cut:
        head = (
            "POST /ucloud/example/files/transfer/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"
            f"Chunked-Upload-Token: {link.token}\r\nChunked-Upload-Offset: 0\r\nChunked-Upload-Total-Size: 100\r\n\r\n"
        )
        cut.sendall(head.encode() + b"x" * 40)
        cut.shutdown(socket.SHUT_WR)
        assert b"200" not in cut.recv(1000)
    assert (visible(place), len(parts(place))) == ([], 1)
    assert post(place, link.token, 0, 100, b"y" * 100).status_code == 200
    assert (place.root / "a").read_bytes() == b"y" * 100


@pytest.mark.parametrize(
    ("size", "cuts"), [(300_000, ()), (100_000, (1,)), (100_000, (50_000, 99_999)), (100_000, (100_000,)), (10, ())], ids=str
)
def test_a_chunk_is_its_own_bytes_however_they_arrive_and_whatever_follows_them(
    place: FileWorld, size: int, cuts: tuple[int, ...]
) -> None:
    """The first ones come with the head, or all after it."""
    link = place.web.files.upload_link(ADA, place.at("a"))
    url = urlsplit(place.files)
    with socket.create_connection((str(url.hostname), url.port or 0), timeout=30) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sent = (
            f"POST /ucloud/example/files/transfer/upload HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n"
            f"Chunked-Upload-Token: {link.token}\r\nChunked-Upload-Offset: 0\r\nChunked-Upload-Total-Size: {size}\r\n\r\n"
        ).encode()
        body = (DATA * 2)[:size] + b"GET / HTTP/1.1\r\n\r\n"
        for begin, end in zip((0, *cuts), (*cuts, len(body)), strict=True):
            client.sendall(sent + body[begin:end])
            sent = b""
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
    assert place.names() == ["a"]
    assert (place.root / "a").read_bytes() == (DATA * 2)[:size]


def test_many_uploads_do_not_use_up_the_descriptors_of_the_unit(place: FileWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_parts, "MOST_KEPT", 2)
    links = [place.web.files.upload_link(ADA, place.at(f"{number}")) for number in range(4)]
    for link in links:
        place.web.send_chunks(link.endpoint, link.token, DATA, until=100_000)
    assert len(place.unit.parts) == 2
    for link in links:
        place.web.send_chunks(link.endpoint, link.token, DATA, first=100_000)
    assert {(place.root / name).read_bytes() for name in place.names()} == {DATA}


def test_what_one_user_makes_impossible_to_delete_holds_up_nobody_else(
    place: FileWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that may not be written any more, for example."""
    dropped: list[str] = []
    monkeypatch.setattr(OwnFiles, "drop", lambda _self, at, _part: dropped.append(at.name))
    row = place.row(place.web.files.upload_link(ADA, place.at("a")).token)
    for number in range(250):  # there is no runner here, which would delete bob's
        place.world.provider.transfers.keep_part(row._replace(token=f"{number}", local_user="bob", expires_at=0.0))
    place.world.provider.transfers.keep_part(row._replace(token="x", kind=TransferKind.PART, expires_at=1.0))
    place.keep_up()
    assert dropped == ["a"]


def test_a_part_that_nobody_waits_for_any_more_is_deleted(place: FileWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file system was slower than UCloud waits."""
    begin, waiting = OwnFiles.begin, threading.Event()

    def slowly(*arguments: Any, **more: Any) -> OpenedPart:
        part = begin(*arguments, **more)
        assert waiting.wait(30)
        return part

    monkeypatch.setattr(OwnFiles, "begin", slowly)
    monkeypatch.setattr(Caller, "left", lambda _self: 0.2)
    with pytest.raises(CoreError, match="504"):
        place.web.files.upload_link(ADA, place.at("a"))
    assert len(place.names()) == 1
    waiting.set()
    wait_until("the part is deleted", lambda: place.names() == [], seconds=30)
