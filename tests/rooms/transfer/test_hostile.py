"""Whatever is sent to the file unit, it is answered in words, and loses nothing."""

import http.client
import itertools
import random
import struct
from contextlib import closing, suppress
from urllib.parse import urlsplit

import pytest

from tests.sandbox.core.web_files import ORIGIN
from tests.sandbox.core.websocket import Socket, SocketClosedError
from tests.support.drives import ADA
from tests.support.file_world import FileWorld
from ucloud_slurm.transfer import folder_socket

pytestmark = pytest.mark.parametrize("era", ["today"], scope="session")
SEED = 20211004
BASE = "/ucloud/example/files/transfer/"
VERBS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "ODD")
ORIGINS = (
    "",
    ORIGIN,
    "null",
    "https://elsewhere.example.org",
    f"{ORIGIN}.example.com",
    f"{ORIGIN}@x",
    "http://[",
    "\xff",
    "://:443",
)
NUMBERS = ("", "0", "1", "4", "-1", "+1", " 1", "1e3", "0x1", "\xb2", "9" * 18, "9" * 19, "9" * 400, "nan", "1,1", "1_0")
RANGES = (
    "bytes=0-",
    "bytes=-0",
    "bytes=-1",
    "bytes=3-1",
    "bytes=9-",
    "bytes=0-0,2-3",
    "bytes=-",
    "lines=1-2",
    "bytes=" + "9" * 30 + "-",
)


def asked(place: FileWorld, verb: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, str | None, bytes]:
    url = urlsplit(place.files)
    with closing(http.client.HTTPConnection(str(url.hostname), url.port, timeout=30)) as connection:
        connection.request(verb, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.headers["Access-Control-Allow-Origin"], answer.read()


def test_any_request_is_answered_in_words(place: FileWorld, caplog: pytest.LogCaptureFixture) -> None:
    chance = random.Random(SEED)
    (place.root / "a").write_bytes(b"text")
    made = place.web.files.upload_link(ADA, place.at("in"))
    link = place.web.files.download_link(ADA, place.at("a")).partition("token=")[2]
    folder = place.web.files.upload_link(ADA, place.at("data"), kind="FOLDER").token
    tokens = ("", "x", "%00", "%ff", "\u00e9", made.token, folder, link, "x" * 3000)
    routes = ("download", "upload", "folder", "", "../jobs", "download/", "%2e%2e/upload")
    right = {"upload": made.token, "download": link}
    many = [("POST", "upload"), ("GET", "download")] * 80
    for number, (verb, route) in enumerate([*itertools.product(VERBS, routes), *many]):
        token = chance.choice((right.get(route, folder), chance.choice(tokens)))
        origin = chance.choice(("", ORIGIN, chance.choice(ORIGINS)))
        headers = {
            "Chunked-Upload-Token": token.encode("utf-8", "replace").decode("latin-1"),
            "Chunked-Upload-Offset": chance.choice(NUMBERS),
            "Chunked-Upload-Total-Size": chance.choice(NUMBERS),
            "Range": chance.choice(RANGES),
            "Upgrade": chance.choice(("", "websocket", "h2c")),
            "Sec-WebSocket-Key": chance.choice(("", "\xff" * 16)) if route != "folder" else "",
        } | ({"Origin": origin} if origin else {})
        query = chance.choice(("?token=", "?token=x&token=", "?&&;=", "?TOKEN="))
        address = BASE + route + query + token.encode("ascii", "replace").decode()
        status, allowed, text = asked(place, verb, address, headers, b"x" * (number % 3))
        assert status < 500, (verb, route, headers, text)
        assert allowed == (ORIGIN if origin == ORIGIN else None), origin
    assert [record for record in caplog.records if record.exc_info] == []
    assert (place.root / "a").read_bytes() == b"text"
    assert {name for name in place.names() if not name.endswith(".ucloud-part")} <= {"a", "data", "in"}


def test_any_frame_leaves_the_folder_as_it_is_or_is_taken(
    place: FileWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(folder_socket, "LINGER_SECONDS", 0.0)
    monkeypatch.setattr("ucloud_slurm.transfer.websocket.TICK_SECONDS", 0.02)
    chance = random.Random(SEED)
    paths = (b"a", b"b/c", b"../x", b"", b"a/b", b"\xff", b"n" * 256, b"a\0", b"\\..\\x", b"d" * 250 + b"/e")
    sizes = (0, 1, 4, -1, 1 << 62)

    def message() -> bytes:
        number = chance.choice((0, 1, 2, 7, 0xFFFFFFFF))
        listed = b"".join(
            struct.pack(">iqqi", each, chance.choice(sizes), 1, len(path) + chance.choice((0, 0, 0, 1, -1))) + path
            for each, path in enumerate(chance.choices(paths, k=3))
        )
        return chance.choice(
            (b"\x04" + listed, b"\x02" + struct.pack(">I", number) + b"x" * chance.choice((0, 1, 4)), b"\x03\0\0")
        )

    for _ in range(60):
        link = place.web.files.upload_link(ADA, place.at("data"), kind="FOLDER")
        with place.web.socket(link.endpoint) as socket, suppress(SocketClosedError, OSError):
            fragments(socket, [b"\x04" + struct.pack(">iqqi", 0, 4, 1, 1) + b"a", *(message() for _ in range(4))])
        place.ended(link.token)
    place.idle()
    assert [record for record in caplog.records if record.exc_info] == []
    assert place.names() == ["data"]
    assert not list(place.root.rglob("*.ucloud-part"))
    assert sorted(path.name for path in place.root.parent.iterdir()) == ["ada", "bob"]


def fragments(socket: Socket, frames: list[bytes]) -> None:
    for frame in frames:
        socket.send(frame)
