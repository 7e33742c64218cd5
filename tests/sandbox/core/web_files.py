"""UCloud's web client, where it does something with files: lists, uploads in chunks and by folders, downloads.

Contents go between the browser and the provider. What a browser would not let the web client see, it does not see here.
"""

import base64
import struct
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests

from tests.sandbox.core.files import FileActions
from tests.sandbox.core.websocket import Socket, SocketClosedError

Json = dict[str, Any]
ORIGIN = "https://ucloud.example.org"
CHUNK = 16_000_000
"""Bytes of a chunk."""
MOST_ENTRIES = 10_000
"""Of a folder, after which no more pages are asked for."""
LISTING = 64 * 1024
"""Bytes of a frame that lists files."""
BATCH = 5000
"""Files that are listed before the provider has them all."""
AT_A_TIME = 256
"""Files that are sent beside each other."""
PATIENCE = 30.0
"""Seconds without a frame of the provider's, after which a test gives up."""
HEADERS = ("chunked-upload-offset", "chunked-upload-token", "chunked-upload-total-size", "ucloud-username")
OK, CHUNK_OF, SKIP, LIST, COMPLETED = 0, 2, 3, 4, 5


class UploadFailedError(Exception):
    """The web client shows "Upload failed".

    :ivar status: HTTP status; users do not see the sentence that comes with it
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"Upload failed ({status}: {text})")
        self.status = status
        self.text = text


class UploadHangsError(Exception):
    """The web client shows the upload as under way, for ever."""


class BlockedError(Exception):
    """The browser keeps the answer from the web client (CORS)."""


class EndlessError(Exception):
    """The pages of a folder lead nowhere."""


@dataclass(frozen=True, slots=True)
class Part:
    """A file of a folder that is uploaded.

    :ivar data: its contents; None when the browser cannot read it
    :ivar modified_at: milliseconds since the epoch
    """

    data: bytes | None
    modified_at: int = 1_795_000_000_000


def _as_it_is(endpoint: str) -> str:
    return endpoint


@dataclass(slots=True)
class WebFiles:
    """The web client of one user.

    :ivar origin: where the web client was loaded from
    :ivar chunk: bytes of a chunk
    :ivar reach: gives the address at which an address that the provider has given can be reached here
    """

    files: FileActions
    user: str = "user"
    origin: str = ORIGIN
    chunk: int = CHUNK
    reach: Callable[[str], str] = _as_it_is

    # -- folders --------------------------------------------------------------------------------------------

    def folder(self, path: str, *, hidden: bool = False) -> list[Json]:
        """All that a folder shows: page after page at once, without scrolling.

        :raises EndlessError: a page comes again
        """
        entries: list[Json] = []
        after: str | None = None
        before: set[str] = set()
        while True:
            page = self.files.browse(self.user, path, after=after, hidden=hidden)
            entries += page["items"]
            after = page["next"]
            if after is None or len(entries) >= MOST_ENTRIES:
                break
            if after in before:
                raise EndlessError(f"the page {after} of {path} comes again")
            before.add(after)
        if len({entry["id"] for entry in entries}) < len(entries):
            raise EndlessError(f"entries of {path} are on several pages")
        return entries

    def names(self, path: str, *, hidden: bool = False) -> list[str]:
        """The names in a folder, in order."""
        return sorted(entry["id"].rpartition("/")[2] for entry in self.folder(path, hidden=hidden))

    # -- uploads of files -----------------------------------------------------------------------------------

    def upload(self, path: str, data: bytes, *, policy: str = "RENAME") -> None:
        """Upload a file in chunks. An empty one is never sent.

        :raises UploadFailedError: the provider refuses a chunk
        :raises UploadHangsError: the connection broke
        :raises BlockedError: the browser does not let the client see the answer
        """
        link = self.files.upload_link(self.user, path, policy=policy)
        assert link.protocol == "CHUNKED", link
        self.send_chunks(link.endpoint, link.token, data)

    def send_chunks(self, endpoint: str, token: str, data: bytes, *, first: int = 0, until: int | None = None) -> None:
        """Send the chunks of an upload that was begun.

        :param first: where it goes on
        :param until: where the browser is closed; None for the end
        """
        with requests.Session() as http:
            http.trust_env = False
            if data:
                self._preflight(http, endpoint)
            for offset in range(first, len(data) if until is None else until, self.chunk):
                self._send_chunk(http, endpoint, token, data, offset)

    def _send_chunk(self, http: requests.Session, endpoint: str, token: str, data: bytes, offset: int) -> None:
        headers = {
            "Origin": self.origin,
            "Chunked-Upload-Token": token,
            "Chunked-Upload-Offset": str(offset),
            "Chunked-Upload-Total-Size": str(len(data)),
            "UCloud-Username": base64.b64encode(self.user.encode()).decode(),
        }
        try:
            answer = http.post(self.reach(endpoint), data=data[offset : offset + self.chunk], headers=headers, timeout=PATIENCE)
        except requests.RequestException as error:
            raise UploadHangsError(f"no answer to the chunk at {offset} ({type(error).__name__})") from error
        self._see(answer)
        if not answer.ok:
            raise UploadFailedError(answer.status_code, answer.text)

    def _preflight(self, http: requests.Session, endpoint: str) -> None:
        headers = {
            "Origin": self.origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": ",".join(HEADERS),
        }
        answer = http.options(self.reach(endpoint), headers=headers, timeout=PATIENCE)
        self._see(answer)
        said = {name.strip().lower() for name in answer.headers.get("Access-Control-Allow-Headers", "").split(",")}
        if not answer.ok or not set(HEADERS) <= said:
            raise BlockedError(f"the preflight was answered {answer.status_code}, and allows {sorted(said)}")

    def _see(self, answer: requests.Response) -> None:
        allowed = answer.headers.get("Access-Control-Allow-Origin")
        if allowed not in ("*", self.origin):
            raise BlockedError(f"{answer.request.method} {answer.status_code}: only {allowed} may see the answer")

    # -- uploads of folders ---------------------------------------------------------------------------------

    def upload_folder(self, path: str, files: Mapping[str, Part | bytes], *, policy: str = "RENAME") -> int:
        """Drop a folder on the page.

        :param files: relative paths with their contents
        :return: how many files the page says were uploaded; there is no word for a failure
        """
        link = self.files.upload_link(self.user, path, kind="FOLDER", policy=policy)
        assert link.protocol in ("WEBSOCKET", "WEBSOCKET_V2"), link
        return self.send_folder(link.endpoint, files)

    def send_folder(self, endpoint: str, files: Mapping[str, Part | bytes]) -> int:
        """Send a folder over a WebSocket of an upload that was begun. See :meth:`upload_folder`."""
        parts = [(name, part if isinstance(part, Part) else Part(part)) for name, part in files.items()]
        with self.socket(endpoint) as socket:
            return _Folder(socket, parts, self.chunk).send()

    def socket(self, endpoint: str) -> Socket:
        """Open a WebSocket as the page does.

        :raises CoreError: with the provider's status, when it does not open one
        """
        parts = urlsplit(self.reach(endpoint))
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        return Socket(f"http://{parts.netloc}", path, {"Origin": self.origin.encode()}, PATIENCE)

    # -- downloads ------------------------------------------------------------------------------------------

    def download(self, path: str, headers: Mapping[str, str] | None = None) -> requests.Response:
        """Click "Download": the browser follows a link, without an Origin.

        :param headers: such as Range, of a download manager
        """
        return self.open(self.files.download_link(self.user, path), headers)

    def open(self, endpoint: str, headers: Mapping[str, str] | None = None) -> requests.Response:
        """Follow a link that was given."""
        with requests.Session() as http:
            http.trust_env = False
            return http.get(self.reach(self.with_hint(endpoint)), headers=headers, timeout=PATIENCE)

    def preview(self, path: str) -> requests.Response:
        """Show a file on the page: a script fetches it.

        :raises BlockedError: the browser does not let the script see it
        """
        answer = self.open(self.files.download_link(self.user, path), {"Origin": self.origin})
        self._see(answer)
        return answer

    def with_hint(self, endpoint: str) -> str:
        """An address as the web client opens it: with the user's name behind it, which is not escaped."""
        hint = base64.b64encode(self.user.encode()).decode()
        return f"{endpoint}{'&' if '?' in endpoint else '?'}usernameHint={hint}"


class _Folder:
    """The upload of a folder over one WebSocket (contract: WEBSOCKET_V2)."""

    def __init__(self, socket: Socket, parts: list[tuple[str, Part]], chunk: int) -> None:
        self._socket = socket
        self._parts = parts
        self._chunk = chunk
        self._completed = 0
        self._listed = 0
        self._wanted: deque[int] = deque()
        self._active: deque[tuple[int, Iterator[bytes]]] = deque()

    def send(self) -> int:
        """Send everything; how many files are done when the connection ends."""
        with suppress(SocketClosedError):
            while self._completed < len(self._parts):
                if self._completed >= self._listed:
                    self._list()
                self._read()
                self._send_some()
        return self._completed

    def _list(self) -> None:
        frame = bytearray([LIST])
        for number in range(self._listed, min(self._listed + BATCH, len(self._parts))):
            name, part = self._parts[number]
            path = name.encode()
            size = len(part.data or b"")
            entry = struct.pack(f">iqqi{len(path)}s", number, size, part.modified_at, len(path), path)
            if len(frame) + len(entry) > LISTING:
                self._socket.send(bytes(frame))
                frame = bytearray([LIST])
            frame += entry
            self._listed += 1
        self._socket.send(bytes(frame))

    def _read(self) -> None:
        """Take what the provider says; wait for it only where there is nothing to be sent."""
        busy = bool(self._active or self._wanted)
        data = self._socket.frame(0 if busy else PATIENCE)
        if data is None and not busy:
            raise TimeoutError(f"for {PATIENCE} s the provider said nothing, after {self._completed} files")
        while data is not None:
            assert isinstance(data, bytes), data
            self._hear(data)
            data = self._socket.frame(0)

    def _hear(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            kind, number = struct.unpack_from(">BI", data, at)
            at += 5
            if kind == OK:
                self._wanted.append(number)
            elif kind == COMPLETED:
                self._completed = number
            elif kind != SKIP:
                raise ValueError(f"the provider says {kind}, which a browser does not know")

    def _send_some(self) -> None:
        """Send a chunk of the next file; their chunks are mixed."""
        while self._wanted and len(self._active) < AT_A_TIME:
            number = self._wanted.popleft()
            self._active.append((number, self._pieces(number)))
        if not self._active:
            return
        number, pieces = self._active.popleft()
        piece = next(pieces, None)
        if piece is not None:
            self._socket.send(piece)
            self._active.append((number, pieces))

    def _pieces(self, number: int) -> Iterator[bytes]:
        data = self._parts[number][1].data
        if data is None:
            yield struct.pack(">BI", SKIP, number)
            return
        for offset in range(0, len(data) or 1, self._chunk):
            yield struct.pack(">BI", CHUNK_OF, number) + data[offset : offset + self._chunk]
