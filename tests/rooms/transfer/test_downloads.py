"""Downloads: a link fetches one file, once, for as long as it lives; what breaks off goes on where it was."""

import os
import threading
from base64 import b64encode
from collections.abc import Callable
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import requests
from pytest_mock import MockerFixture

from tests.sandbox.core import CoreError
from tests.sandbox.core.web_files import ORIGIN, BlockedError
from tests.support.drives import ADA, BOB, name_users
from tests.support.file_world import FileWorld
from ucloud_slurm.store.transfers import Transfers
from ucloud_slurm.transfer import download as download_module
from ucloud_slurm.transfer.exchange import Exchange
from ucloud_slurm.users.own_files import OwnFiles

pytestmark = pytest.mark.parametrize("era", ["today"], scope="session")
DATA = bytes(range(256)) * 4096


def test_a_file_comes_as_it_is_and_is_saved_not_shown(place: FileWorld) -> None:
    (place.root / "in.dat").write_bytes(DATA)
    answer = place.web.download(place.at("in.dat"))
    assert (answer.status_code, answer.content) == (200, DATA)
    assert answer.headers["Content-Disposition"] == "attachment; filename=\"in.dat\"; filename*=UTF-8''in.dat"
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Security-Policy"].startswith("sandbox;")


@pytest.mark.parametrize("name", ['a"b.txt', "a\nb\r\nX-Own: yes", "ä ö%20.dat", "a;b\\c.txt", " .txt"])
def test_the_name_of_a_file_says_nothing_but_its_name(place: FileWorld, name: str) -> None:
    (place.root / name).write_bytes(b"x")
    answer = place.web.download(place.at(name))
    assert answer.content == b"x"
    assert "X-Own" not in answer.headers
    value = answer.headers["Content-Disposition"]
    assert unquote(value.partition("filename*=UTF-8''")[2]) == name
    assert value.count('"') == 2


def test_an_empty_file_comes(place: FileWorld) -> None:
    (place.root / "empty").touch()
    answer = place.web.download(place.at("empty"))
    assert (answer.status_code, answer.content) == (200, b"")


def test_a_preview_is_for_pages_of_ucloud_only(place: FileWorld) -> None:
    (place.root / "a").write_bytes(b"text")
    assert place.web.preview(place.at("a")).content == b"text"
    place.web.origin = "https://elsewhere.example.org"
    with pytest.raises(BlockedError):
        place.web.preview(place.at("a"))


def test_a_link_works_once(place: FileWorld) -> None:
    (place.root / "a").write_bytes(DATA)
    link = place.web.files.download_link(ADA, place.at("a"))
    assert place.web.open(link).content == DATA
    again = place.web.open(link)
    assert again.status_code == 410
    assert "This link has been used" in again.text
    assert "text/html" in again.headers["Content-Type"]
    place.ended(link)
    assert place.web.open(link, {"Range": "bytes=10-"}).status_code == 410


def test_a_link_is_not_valid_for_long(place: FileWorld) -> None:
    (place.root / "a").write_bytes(DATA)
    link = place.web.files.download_link(ADA, place.at("a"))
    place.world.clock.advance(121)
    answer = place.web.open(link)
    assert (answer.status_code, DATA in answer.content) == (410, False)


def test_a_download_that_broke_off_goes_on_where_it_was(place: FileWorld) -> None:
    (place.root / "a").write_bytes(DATA)
    link = place.web.files.download_link(ADA, place.at("a"))
    first = place.web.open(link, {"Range": "bytes=0-999"})
    assert (first.status_code, first.content) == (206, DATA[:1000])
    assert first.headers["Content-Range"] == f"bytes 0-999/{len(DATA)}"
    place.world.clock.advance(100)
    assert place.web.open(link).status_code == 410  # the whole file again
    part = place.web.open(link, {"Range": "bytes=1000-1999", "If-Range": first.headers["ETag"]})
    assert (part.status_code, part.content) == (206, DATA[1000:2000])
    place.idle()  # its use is written after its last byte
    place.world.clock.advance(100)  # it lives on while it is used
    rest = place.web.open(link, {"Range": "bytes=2000-", "If-Range": first.headers["ETag"]})
    assert (rest.status_code, rest.content) == (206, DATA[2000:])
    place.ended(link)
    assert place.web.open(link, {"Range": "bytes=2000-"}).status_code == 410


def test_a_file_that_is_sent_holds_no_connection_to_the_database(place: FileWorld, mocker: MockerFixture) -> None:
    (place.root / "a").write_bytes(DATA)
    real, held = Exchange.send_file, list[bool]()
    connections = place.world.provider.store._threads

    def send(self: Exchange, descriptor: int, offset: int, length: int, progress: Callable[[int], object]) -> int:
        held.append(hasattr(connections, "connection"))
        mocker.patch("ucloud_slurm.transfer.download.PROGRESS_SECONDS", 0.0)
        progress(1)
        held.append(hasattr(connections, "connection"))
        return real(self, descriptor, offset, length, progress)

    mocker.patch.object(Exchange, "send_file", send)
    assert place.web.open(place.web.files.download_link(ADA, place.at("a"))).content == DATA
    assert held == [False, False]


def test_looking_at_a_link_does_not_use_it(place: FileWorld) -> None:
    (place.root / "a").write_bytes(DATA)
    link = place.web.reach(place.web.files.download_link(ADA, place.at("a")))
    head = requests.head(link, timeout=30)
    assert (head.status_code, head.headers["Content-Length"], head.content) == (200, str(len(DATA)), b"")
    assert requests.get(link, timeout=30).content == DATA


def test_a_file_that_has_changed_since_is_not_mixed_with_the_old_one(place: FileWorld) -> None:
    path = place.root / "a"
    path.write_bytes(DATA)
    link = place.web.files.download_link(ADA, place.at("a"))
    assert place.web.open(link, {"Range": "bytes=0-9"}).status_code == 206
    path.write_bytes(DATA[::-1])
    answer = place.web.open(link, {"Range": "bytes=10-"})
    assert answer.status_code == 409
    assert "has changed" in answer.text


def test_a_file_that_shrinks_while_it_is_read_breaks_off_and_is_not_padded(
    place: FileWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = place.root / "a"
    path.write_bytes(DATA)
    link = place.web.files.download_link(ADA, place.at("a"))
    use = Transfers.use

    def shrink(*arguments: object) -> bool:
        os.truncate(path, 1000)
        return use(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Transfers, "use", shrink)
    with caplog.at_level("INFO"), pytest.raises(requests.RequestException):
        place.web.open(link)
    assert [line for line in caplog.messages if "broken off: the file has become shorter, 1000 bytes" in line]


@pytest.mark.parametrize("path", ["download?token=nothing", "download", "download?token="])
def test_a_link_that_nobody_made_fetches_nothing(place: FileWorld, path: str) -> None:
    answer = requests.get(f"{place.files}/ucloud/example/files/transfer/{path}", timeout=30)
    assert answer.status_code == 404
    assert "There is no such link" in answer.text


def test_an_upload_cannot_be_downloaded_nor_the_other_way_round(place: FileWorld) -> None:
    (place.root / "a").write_bytes(DATA)
    token = place.web.files.upload_link(ADA, place.at("b")).token
    answer = requests.get(f"{place.files}/ucloud/example/files/transfer/download?token={token}", timeout=30)
    assert answer.status_code == 404
    link = place.web.files.download_link(ADA, place.at("a"))
    token = parse_qs(urlsplit(link).query)["token"][0]
    headers = {"Chunked-Upload-Token": token, "Chunked-Upload-Offset": "0", "Chunked-Upload-Total-Size": "1"}
    answer = requests.post(f"{place.files}/ucloud/example/files/transfer/upload", b"x", headers=headers, timeout=30)
    assert answer.status_code == 404


def test_what_cannot_be_read_is_refused_at_ucloud_where_the_sentence_is_seen(place: FileWorld) -> None:
    (place.root / "folder").mkdir()
    os.mkfifo(place.root / "pipe")
    for path, status in (("folder", 400), ("away", 404), ("pipe", 400)):
        with pytest.raises(CoreError) as refused:
            place.web.files.download_link(ADA, place.at(path))
        assert refused.value.status == status
        assert path in str(refused.value)


@pytest.mark.parametrize("target", ["/etc/passwd", "../../key", "/proc/self/environ"])
def test_a_link_never_leads_out_of_a_drive(place: FileWorld, target: str) -> None:
    (place.root / "out").symlink_to(target)
    with pytest.raises(CoreError) as refused:
        place.web.files.download_link(ADA, place.at("out"))
    assert refused.value.status in (403, 404)


def test_a_link_made_before_a_symbolic_link_was_put_there_does_not_follow_it(place: FileWorld) -> None:
    path = place.root / "a"
    path.write_bytes(DATA)
    link = place.web.files.download_link(ADA, place.at("a"))
    path.unlink()
    path.symlink_to("/etc/passwd")
    answer = place.web.open(link)
    assert (answer.status_code, "root:" in answer.text) == (403, False)


def test_a_link_ends_with_the_connection_of_its_user(place: FileWorld) -> None:
    (place.root / "a").write_bytes(DATA)
    link = place.web.files.download_link(ADA, place.at("a"))
    place.world.provider.people.remove(ADA, "root", 0.0)
    answer = place.web.open(link)
    assert (answer.status_code, DATA in answer.content) == (403, False)


def test_a_stranger_has_no_link_to_the_drive_of_somebody_else(place: FileWorld) -> None:
    (place.root / "a").write_bytes(DATA)
    name_users(place.world, BOB)
    with pytest.raises(CoreError) as refused:
        place.web.files.download_link(BOB, place.at("a"))
    assert refused.value.status == 403


class TestLimits:
    """A user has so many at a time, and the others their own."""

    @pytest.fixture
    def transfers(self) -> dict[str, int]:
        return {"at_once_per_user": 1, "at_once": 1}

    def test_a_user_who_has_as_many_as_allowed_is_asked_to_wait(
        self, place: FileWorld, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (place.root / "a").write_bytes(DATA)
        first, second = place.web.files.download_links(ADA, place.at("a"), place.at("a"))
        inside, go_on = threading.Event(), threading.Event()
        send = download_module._send

        def held(*arguments: object) -> None:
            inside.set()
            assert go_on.wait(30)
            send(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(download_module, "_send", held)
        got: list[bytes] = []
        thread = threading.Thread(target=lambda: got.append(place.web.open(first).content))
        thread.start()
        assert inside.wait(30)
        answer = place.web.open(second)
        go_on.set()
        thread.join()
        assert got == [DATA]
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "60")
        place.idle()  # the last byte comes before the place is free
        assert place.web.open(second).content == DATA  # it was not used up


def test_a_page_of_another_site_gets_nothing_that_it_could_read(place: FileWorld) -> None:
    (place.root / "a").write_bytes(DATA)
    link = place.web.files.download_link(ADA, place.at("a"))
    answer = place.web.open(link, {"Origin": "https://elsewhere.example.org"})
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert ORIGIN not in answer.headers.values()


def test_a_sparse_file_is_sent_with_zeros_for_its_holes(place: FileWorld) -> None:
    size = 20_000_000
    with (place.root / "sparse").open("wb") as file:
        file.truncate(size)
        file.seek(10_000_000)
        file.write(b"here")
    assert (place.root / "sparse").stat().st_blocks * 512 < size
    answer = place.web.download(place.at("sparse"))
    assert answer.headers["Content-Length"] == str(size)
    assert answer.content == bytes(10_000_000) + b"here" + bytes(size - 10_000_004)


def test_a_link_acts_as_the_user_who_asked_for_it_in_any_browser(place: FileWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else who has it gets what its user gets, once."""
    (place.root / "a").write_bytes(DATA)
    name_users(place.world, BOB)
    link = place.web.files.download_link(ADA, place.at("a"))
    asked: list[str] = []

    def files(_provider: object, user: str) -> OwnFiles:
        asked.append(user)
        return OwnFiles()

    monkeypatch.setattr("ucloud_slurm.provider.context.Provider.files", files)
    hint = f"&usernameHint={b64encode(BOB.encode()).decode()}"
    answer = requests.get(place.web.reach(link) + hint, headers={"UCloud-Username": BOB}, timeout=30)
    assert (answer.content, asked) == (DATA, ["ada"])
    assert requests.get(place.web.reach(link), timeout=30).status_code == 410
    assert place.ended(link).username == ADA
