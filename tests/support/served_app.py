"""An application for the tests of the web server: it answers slowly, or at length, when it is told to."""

import gc
import os
import resource
import time
from pathlib import Path
from types import SimpleNamespace

from flask import Flask, Response, request

from ucloud_slurm.errors import Unauthenticated
from ucloud_slurm.system import deadline
from ucloud_slurm.web.live.routes import take
from ucloud_slurm.web.server.worker import Worker

TOKEN = "Bearer good"
PATIENCE = 60.0

app = Flask("served")
app.config["MAX_CONTENT_LENGTH"] = 4 * 1024 * 1024
app.config["ANSWER_WITHIN"] = float(os.environ.get("ANSWER_WITHIN", PATIENCE))


def _verify(authorization: str | None, _now: float) -> None:
    if authorization != TOKEN:
        raise Unauthenticated


app.extensions["ucloud-slurm"] = SimpleNamespace(tokens=SimpleNamespace(verify=_verify), now=time.time)


@app.route("/held")
def held() -> Response:
    """What the process holds: requests and bytes in its budgets, connections, and descriptors."""
    (worker,) = (each for each in gc.get_objects() if isinstance(each, Worker) and each.pid == os.getpid())
    taken = worker._budgets
    waiting = sum(len(each) for each in worker._waiting.values())
    counts = (taken._taken.total(), taken._by_caller.total(), taken._bytes.total(), worker.nr_conns, waiting)
    return Response(" ".join(str(count) for count in (*counts, len(list(Path("/proc/self/fd").iterdir())))))


@app.route("/taken")
def taken() -> Response:
    """Takes the connection away from the server, as for a WebSocket, and closes it."""
    sock, other = take(request.environ["gunicorn.socket"])
    sock.close()
    response = Response(status=101)
    response.call_on_close(other.close)
    return response


@app.route("/<path:_path>", methods=["GET", "POST"])
def answer(_path: str) -> Response:
    """The length of the body; after the file that ``wait`` names has appeared."""
    begun, wait = request.args.get("begun"), request.args.get("wait")
    if begun:
        Path(begun).touch()
    until = time.monotonic() + PATIENCE
    while wait and not Path(wait).exists() and time.monotonic() < until:
        time.sleep(0.01)
    if "arrived" in request.args:
        return Response(str(deadline.arrived()))
    if "fail" in request.args:
        return Response(bytes([1 // number]) for number in (0,))
    if "files" in request.args:
        return Response(str(resource.getrlimit(resource.RLIMIT_NOFILE)[0]))
    return Response("x" * int(request.args["long"]) if "long" in request.args else str(len(request.get_data())))
