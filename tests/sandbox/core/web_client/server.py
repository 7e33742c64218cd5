"""Serves the page, and its calls of Core, on the loopback address."""

import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from tests.sandbox.core.errors import CoreError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from tests.sandbox.core.simulated import SimulatedCore

Json = dict[str, Any]
HERE = Path(__file__).parent
FILES: Mapping[str, tuple[str, str]] = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/client.js": ("client.js", "text/javascript; charset=utf-8"),
}


class WebClient:
    """UCloud's pages about files, as one user sees them.

    :ivar url: where the page is
    """

    def __init__(self, core: "SimulatedCore", user: str) -> None:
        """Serve.

        :param user: who is logged in
        """
        self._core = core
        self._user = user
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.005,), name="web-client")
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.port}"

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Any:
        request = Request(environ)
        if request.path in FILES:
            name, kind = FILES[request.path]
            return Response((HERE / name).read_text(), content_type=kind)(environ, start_response)
        work = self._calls().get(request.path.removeprefix("/api/"))
        if work is None:
            return Response(status=404)(environ, start_response)
        try:
            status, data = 200, work(json.loads(request.get_data() or b"{}"))
        except CoreError as error:
            status, data = error.status, error.body(structured=True)
        return Response(json.dumps(data), status=status, content_type="application/json")(environ, start_response)

    def _calls(self) -> Mapping[str, Callable[[Json], Any]]:
        core, user = self._core, self._user
        return {
            "user": lambda _: {"username": user},
            "drives": lambda _: core.browse_drives(user),
            "browse": lambda asked: core.browse(user, asked["path"], after=asked.get("next")),
            "folder": lambda asked: core.create_folder(user, asked["path"]),
            "trash": lambda asked: core.trash(user, asked["path"]),
            "download": lambda asked: {"endpoint": core.download_link(user, asked["path"])},
            "upload": lambda asked: self._upload(asked["path"], asked["type"]),
            "jobs": lambda _: self._jobs(),
            "tasks": lambda _: [task.json(core.provider) for task in core.tasks.listed(user)],
        }

    def _upload(self, path: str, kind: str) -> Json:
        link = self._core.upload_link(self._user, path, kind=kind)
        return {"endpoint": link.endpoint, "protocol": link.protocol, "token": link.token}

    def _jobs(self) -> list[Json]:
        """The jobs of the user, each with the last folder of its output that the provider has named."""
        return [
            {
                "id": job.id,
                "state": job.state,
                "outputFolder": next(
                    (each["outputFolder"] for each in reversed(job.updates) if each.get("outputFolder")), None
                ),
            }
            for job in self._core.jobs
            if job.owner == self._user
        ]


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002
        """Says nothing: Core's exchanges are the record."""
