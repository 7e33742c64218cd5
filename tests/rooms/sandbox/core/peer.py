"""The provider's end of a WebSocket, led by the test."""

import json
import queue
from collections.abc import Callable
from typing import Any

import simple_websocket

Json = dict[str, Any]
SECONDS = 5.0


class GoneError(ConnectionError):
    """The connection was a WebSocket, and is over; werkzeug has nothing to answer."""


class Peer:
    """One connection that Core or a browser has opened."""

    def __init__(self, path: str, headers: dict[str, str], websocket: Any, query: str = "") -> None:
        self.path = path
        self.query = query
        self.headers = headers
        self._websocket = websocket
        self._heard: queue.Queue[str | bytes | None] = queue.Queue()

    def serve(self) -> None:
        """Listen until it is over; in the thread of the server."""
        try:
            while True:
                self._heard.put(self._websocket.receive())
        except simple_websocket.ConnectionClosed:
            self._heard.put(None)

    def raw(self) -> str | bytes | None:
        """The next frame; None at the end of the connection."""
        return self._heard.get(timeout=SECONDS)

    def frame(self) -> Json:
        data = self.raw()
        assert isinstance(data, str), data
        frame: Json = json.loads(data)
        return frame

    def silent(self) -> bool:
        """Whether nothing is waiting to be read."""
        return self._heard.empty()

    def send(self, frame: Json | str | bytes) -> None:
        self._websocket.send(json.dumps(frame) if isinstance(frame, dict) else frame)

    def message(self, stream: str, payload: Any) -> None:
        self.send({"type": "message", "streamId": stream, "payload": payload})

    def respond(self, stream: str, status: Any = 200, payload: Any = None) -> None:
        end = log("", -1) if payload is None else payload
        self.send({"type": "response", "streamId": stream, "status": status, "payload": end})

    def announce(self, session: str = "s1") -> str:
        """Take an init and name the session.

        :return: the stream
        """
        frame = self.frame()
        assert frame["payload"]["type"] == "init", frame
        stream: str = frame["streamId"]
        self.message(stream, log(session, -1))
        return stream

    def close(self) -> None:
        self._websocket.close()


def log(session: str = "s1", rank: Any = 0, stdout: Any = None, stderr: Any = None) -> Json:
    return {"streamId": session, "rank": rank, "stdout": stdout, "stderr": stderr}


def accept(path: str, headers: dict[str, str], environ: Any, opened: Callable[[Peer], None]) -> None:
    """Answer a handshake and serve."""
    peer = Peer(path, headers, simple_websocket.Server.accept(environ), environ["QUERY_STRING"])
    opened(peer)
    peer.serve()
    raise GoneError
