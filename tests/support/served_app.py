"""An application for the tests of the web server: it answers slowly, or at length, when it is told to."""

import resource
import time
from pathlib import Path
from types import SimpleNamespace

from flask import Flask, Response, request

from ucloud_slurm.errors import Unauthenticated

TOKEN = "Bearer good"
PATIENCE = 60.0

app = Flask("served")
app.config["MAX_CONTENT_LENGTH"] = 4 * 1024 * 1024


def _verify(authorization: str | None, _now: float) -> None:
    if authorization != TOKEN:
        raise Unauthenticated


app.extensions["ucloud-slurm"] = SimpleNamespace(tokens=SimpleNamespace(verify=_verify), now=time.time)


@app.route("/<path:_path>", methods=["GET", "POST"])
def answer(_path: str) -> Response:
    """The length of the body; after the file that ``wait`` names has appeared."""
    begun, wait = request.args.get("begun"), request.args.get("wait")
    if begun:
        Path(begun).touch()
    until = time.monotonic() + PATIENCE
    while wait and not Path(wait).exists() and time.monotonic() < until:
        time.sleep(0.01)
    if "fail" in request.args:
        return Response(bytes([1 // number]) for number in (0,))
    if "files" in request.args:
        return Response(str(resource.getrlimit(resource.RLIMIT_NOFILE)[0]))
    return Response("x" * int(request.args["long"]) if "long" in request.args else str(len(request.get_data())))
