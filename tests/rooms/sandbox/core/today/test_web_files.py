"""The web client of the simulated UCloud: it sends what a browser sends, and sees no more than a browser lets it see."""

import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import simple_websocket
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from tests.rooms.sandbox.core.conftest import FakeProvider, _Quiet
from tests.rooms.sandbox.core.today.test_files import STORAGE, entry, storage, support
from tests.sandbox.core import SimulatedCore
from tests.sandbox.core.drives import CoreDrive
from tests.sandbox.core.web_files import ORIGIN, BlockedError, EndlessError, Part, UploadFailedError, UploadHangsError, WebFiles

CORS = {"Access-Control-Allow-Origin": ORIGIN}
ALLOWED = "chunked-upload-token, chunked-upload-offset, chunked-upload-total-size, UCloud-Username"
PREFLIGHT = {**CORS, "Access-Control-Allow-Methods": "POST", "Access-Control-Allow-Headers": ALLOWED}


class Receiver:
    """The other end of uploads and downloads. By default it takes everything."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.paths: list[str] = []
        self.files: dict[str, bytes] = {}
        self.listed: list[int] = []
        self.answers: list[Response] = []
        self.preflight = PREFLIGHT
        self.hangs_up = False
        self.skips: set[str] = set()
        self.fails: set[str] = set()
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.005,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.port}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def offsets(self) -> list[tuple[int, int, bytes]]:
        """Of the chunks: where each begins, of how many bytes in all, and what it is."""
        posts = [(headers, data) for method, headers, data in self.requests if method == "POST"]
        return [(int(h["Chunked-Upload-Offset"]), int(h["Chunked-Upload-Total-Size"]), data) for h, data in posts]

    def _answer(self, environ: Any, start_response: Any) -> Any:
        request = Request(environ)
        self.paths.append(request.full_path)
        if "Upgrade" in request.headers:
            return self._folder(environ)
        self.requests.append((request.method, dict(request.headers), request.get_data()))
        if request.method == "POST" and self.hangs_up:
            raise ConnectionError("hangs up")
        if request.method == "OPTIONS":
            response = Response(status=204, headers=self.preflight)
        else:
            response = self.answers.pop(0) if self.answers else Response("{}", headers=CORS)
        return response(environ, start_response)

    def _folder(self, environ: Any) -> Any:
        files: list[tuple[str, int]] = []
        socket = simple_websocket.Server.accept(environ)
        done = 0
        try:
            while True:
                frame = socket.receive()
                kind, rest = frame[0], frame[1:]
                if kind == 4:
                    self.listed.append(len(frame))
                    for name, size in _listing(rest):
                        number = len(files)
                        files.append((name, size))
                        done += name in self.skips
                        socket.send(struct.pack(">BI", 3 if name in self.skips else 0, number))
                else:
                    number = struct.unpack(">I", rest[:4])[0]
                    name, size = files[number]
                    if name in self.fails:
                        socket.close()
                        break
                    if kind == 2:
                        self.files[name] = self.files.get(name, b"") + rest[4:]
                    done += kind == 3 or len(self.files[name]) == size
                socket.send(struct.pack(">BI", 5, done))
        except simple_websocket.ConnectionClosed:
            pass
        raise ConnectionError("the WebSocket is over")


def _listing(data: bytes) -> Iterator[tuple[str, int]]:
    at = 0
    while at < len(data):
        _, size, _, length = struct.unpack_from(">iqqi", data, at)
        at += 24
        yield data[at : at + length].decode(), size
        at += length


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def drive(core: SimulatedCore) -> CoreDrive:
    core.catalogue.put(storage())
    support(core)
    return core.drives.add("Home", STORAGE, "user", None, "h-1")


@pytest.fixture
def web(core: SimulatedCore, drive: CoreDrive, provider: FakeProvider, receiver: Receiver) -> WebFiles:
    """A web client whose chunks have 4 bytes."""
    chunked = {"endpoint": f"{receiver.url}/upload", "protocol": "CHUNKED", "token": "secret"}
    provider.answer("files/upload", (200, {"responses": [chunked]}))
    provider.answer("files/download", (200, {"responses": [{"endpoint": f"{receiver.url}/download?token=t"}]}))
    return WebFiles(core.files, chunk=4)


def socket_for(provider: FakeProvider, receiver: Receiver) -> None:
    link = {"endpoint": f"{receiver.url.replace('http', 'ws')}/folder?token=t", "protocol": "WEBSOCKET_V2", "token": "t"}
    provider.answer("files/upload", (200, {"responses": [link]}))


# -- folders ----------------------------------------------------------------------------------------------------


def test_pages_are_fetched_until_there_is_no_next(web: WebFiles, drive: CoreDrive, provider: FakeProvider) -> None:
    pages = [["a", "b"], ["c"], []]
    answers = [{"items": [entry(f"/{drive.id}/{name}") for name in names]} for names in pages]
    for page, after in zip(answers, ("b", "c", None), strict=True):
        page["next"] = after  # type: ignore[assignment]
    provider.answer("files/browse", *[(200, page) for page in answers])
    assert web.names(f"/{drive.id}") == ["a", "b", "c"]
    assert [seen.body["Browse"]["next"] for seen in provider.at("files/browse")] == [None, "b", "c"]


def test_a_folder_whose_pages_come_again_is_noticed(web: WebFiles, drive: CoreDrive, provider: FakeProvider) -> None:
    page = (200, {"items": [], "next": "1"})
    provider.answer("files/browse", page, page, page)
    with pytest.raises(EndlessError):
        web.folder(f"/{drive.id}")
    provider.answer("files/browse", *[(200, {"items": [entry(f"/{drive.id}/a")], "next": after}) for after in ("1", None)])
    with pytest.raises(EndlessError):
        web.folder(f"/{drive.id}")


def test_no_more_than_ten_thousand_entries_are_asked_for(web: WebFiles, drive: CoreDrive, provider: FakeProvider) -> None:
    pages = [
        (200, {"items": [entry(f"/{drive.id}/{page}-{number}") for number in range(250)], "next": str(page)})
        for page in range(50)
    ]
    provider.answer("files/browse", *pages)
    assert len(web.folder(f"/{drive.id}")) == 10_000


# -- chunks -----------------------------------------------------------------------------------------------------


def test_a_file_is_sent_in_chunks_one_after_the_other_after_a_preflight(
    web: WebFiles, drive: CoreDrive, receiver: Receiver
) -> None:
    web.upload(f"/{drive.id}/x", b"0123456789")
    assert [method for method, _, _ in receiver.requests] == ["OPTIONS", "POST", "POST", "POST"]
    assert receiver.offsets() == [(0, 10, b"0123"), (4, 10, b"4567"), (8, 10, b"89")]
    headers = receiver.requests[1][1]
    assert (headers["Origin"], headers["Chunked-Upload-Token"]) == (ORIGIN, "secret")
    assert (headers["Ucloud-Username"], headers.get("Content-Type")) == ("dXNlcg==", None)


def test_an_empty_file_is_never_sent(web: WebFiles, drive: CoreDrive, receiver: Receiver) -> None:
    web.upload(f"/{drive.id}/x", b"")
    assert receiver.requests == []


def test_an_upload_goes_on_where_it_was_interrupted(web: WebFiles, receiver: Receiver) -> None:
    web.send_chunks(f"{receiver.url}/upload", "secret", b"0123456789", until=4)
    web.send_chunks(f"{receiver.url}/upload", "secret", b"0123456789", first=4)
    assert [offset for offset, _, _ in receiver.offsets()] == [0, 4, 8]


@pytest.mark.parametrize(
    "preflight",
    [
        {},
        {**PREFLIGHT, "Access-Control-Allow-Origin": "https://other"},
        {**CORS, "Access-Control-Allow-Headers": "chunked-upload-token"},
    ],
    ids=["nothing", "another origin", "a header is missing"],
)
def test_a_preflight_that_does_not_allow_it_blocks_the_upload(
    web: WebFiles, drive: CoreDrive, receiver: Receiver, preflight: dict[str, str]
) -> None:
    receiver.preflight = preflight
    with pytest.raises(BlockedError):
        web.upload(f"/{drive.id}/x", b"abc")
    assert receiver.offsets() == []


def test_an_answer_without_the_origin_is_not_seen(web: WebFiles, drive: CoreDrive, receiver: Receiver) -> None:
    receiver.answers = [Response("{}")]
    with pytest.raises(BlockedError):
        web.upload(f"/{drive.id}/x", b"abc")


def test_a_refused_chunk_ends_the_upload(web: WebFiles, drive: CoreDrive, receiver: Receiver) -> None:
    receiver.answers = [Response("{}", headers=CORS), Response("no space", status=507, headers=CORS)]
    with pytest.raises(UploadFailedError, match="no space") as failed:
        web.upload(f"/{drive.id}/x", b"0123456789")
    assert (failed.value.status, len(receiver.offsets())) == (507, 2)


def test_a_broken_connection_leaves_the_upload_hanging(web: WebFiles, drive: CoreDrive, receiver: Receiver) -> None:
    receiver.hangs_up = True
    with pytest.raises(UploadHangsError):
        web.upload(f"/{drive.id}/x", b"abc")


# -- folders over a WebSocket -----------------------------------------------------------------------------------


def test_a_folder_is_listed_and_what_is_wanted_is_sent(
    web: WebFiles, drive: CoreDrive, provider: FakeProvider, receiver: Receiver
) -> None:
    socket_for(provider, receiver)
    files = {"a.txt": b"0123456789", "sub/b": b"abcdef", "known": b"xyz", "ü": b"", "\n": b"ab"}
    receiver.skips = {"known"}
    assert web.upload_folder(f"/{drive.id}/f", files) == 5
    assert receiver.files == {name: data for name, data in files.items() if name != "known"}
    assert (provider.at("files/upload")[0].body["items"][0]["type"], receiver.paths) == ("FOLDER", ["/folder?token=t"])


def test_many_files_are_listed_in_frames_of_64_kib_and_in_batches(
    web: WebFiles, drive: CoreDrive, provider: FakeProvider, receiver: Receiver
) -> None:
    socket_for(provider, receiver)
    receiver.skips = {f"{'long' * 10}/{number}" for number in range(6000)}
    assert web.upload_folder(f"/{drive.id}/f", dict.fromkeys(sorted(receiver.skips), b"")) == 6000
    assert max(receiver.listed) <= 64 * 1024
    assert len(receiver.listed) > 6000 * 68 // (64 * 1024)


def test_a_file_that_the_browser_cannot_read_is_skipped(
    web: WebFiles, drive: CoreDrive, provider: FakeProvider, receiver: Receiver
) -> None:
    socket_for(provider, receiver)
    assert web.upload_folder(f"/{drive.id}/f", {"gone": Part(None), "there": b"abc"}) == 2
    assert receiver.files == {"there": b"abc"}


def test_a_connection_that_ends_leaves_so_many_of_so_many(
    web: WebFiles, drive: CoreDrive, provider: FakeProvider, receiver: Receiver
) -> None:
    socket_for(provider, receiver)
    receiver.fails = {"b"}
    assert web.upload_folder(f"/{drive.id}/f", {"a": b"abc", "b": b"abc", "c": b"abc"}) < 3


# -- downloads --------------------------------------------------------------------------------------------------


def test_a_link_is_followed_with_the_users_name_behind_it_and_without_an_origin(
    web: WebFiles, drive: CoreDrive, receiver: Receiver
) -> None:
    receiver.answers = [Response(b"\0data")]
    assert web.download(f"/{drive.id}/x").content == b"\0data"
    assert receiver.paths == ["/download?token=t&usernameHint=dXNlcg=="]
    assert "Origin" not in receiver.requests[0][1]
    assert web.with_hint("https://p/x") == "https://p/x?usernameHint=dXNlcg=="


def test_a_preview_needs_the_origin_in_the_answer(
    web: WebFiles, drive: CoreDrive, provider: FakeProvider, receiver: Receiver
) -> None:
    receiver.answers = [Response(b"data", headers=CORS), Response(b"data")]
    assert web.preview(f"/{drive.id}/x").content == b"data"
    provider.answer("files/download", (200, {"responses": [{"endpoint": f"{receiver.url}/download"}]}))
    with pytest.raises(BlockedError):
        web.preview(f"/{drive.id}/x")
