"""A provider with drives, its file unit, and UCloud's web client, in this process."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gunicorn import util
from gunicorn.config import Config
from gunicorn.http import wsgi
from gunicorn.http.errors import NoMoreData
from gunicorn.http.parser import RequestParser

from tests.conftest import World
from tests.sandbox.core.web_files import ORIGIN, WebFiles
from tests.sandbox.processes import wait_until
from tests.support.drives import ADA, HOME, name_users, sync
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.store.transfers import Transfer
from ucloud_slurm.transfer.app import Application
from ucloud_slurm.transfer.unit import Unit
from ucloud_slurm.transfer.upkeep import Upkeep

ORIGINS = {"origins": [ORIGIN]}


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, application: Application) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.application = application

    def shutdown_request(self, request: Any) -> None:
        """What a client has sent and nobody read must not cost it its answer."""
        util.close_graceful(request)


class _Connection(socketserver.BaseRequestHandler):
    """A connection, as a thread of gunicorn serves it: with its parser, whose insides the unit uses."""

    server: _Server

    def handle(self) -> None:
        """Answers one request."""
        config = Config()
        with suppress(OSError, StopIteration, NoMoreData):
            request = next(RequestParser(config, self.request, self.client_address))
            response, environ = wsgi.create(request, self.request, self.client_address, self.server.server_address, config)
            response.force_close()
            for piece in self.server.application(environ, response.start_response):
                response.write(piece)
            response.close()


@dataclass
class FileWorld:
    """A world in which Ada has a drive.

    :ivar drive: UCloud's id of it
    :ivar root: its folder
    :ivar web: Ada's web client
    :ivar files: the address of the file unit
    """

    world: World
    unit: Unit
    upkeep: Upkeep
    drive: str
    root: Path
    web: WebFiles
    files: str

    def at(self, path: str = "") -> str:
        """UCloud's path of a file."""
        return f"/{self.drive}/{path}" if path else f"/{self.drive}"

    def names(self, folder: str = "") -> list[str]:
        """What is in a folder of the drive, on the disk."""
        return sorted(path.name for path in (self.root / folder).iterdir())

    def row(self, token: str) -> Transfer:
        """The row of a token, or of a link with one."""
        found = self.world.provider.transfers.find(token.partition("token=")[2] or token)
        assert found is not None
        return found

    def ended(self, token: str) -> Transfer:
        """The row of a transfer, which is written after its last byte."""
        wait_until("the transfer has ended", lambda: self.row(token).ended_at is not None, seconds=30)
        return self.row(token)

    def forget(self) -> None:
        """The unit keeps no descriptor any more, as after a restart, or a while of silence."""
        self.unit.parts.close_silent(seconds=0.0)

    def idle(self) -> None:
        """Waits until nothing is being transferred."""
        wait_until("nothing is being transferred", lambda: self.unit.admission.serving == 0, seconds=30)

    def keep_up(self) -> None:
        """The unit does by itself what is due, and has done it."""
        self.upkeep.round()
        assert self.upkeep.wait(30)


@contextmanager
def unit_served(provider: Provider) -> Iterator[tuple[Unit, str]]:
    """The file unit, over HTTP."""
    unit = Unit.of(provider)
    server = _Server(Application(unit))
    thread = threading.Thread(target=server.serve_forever, args=(0.005,), daemon=True)
    thread.start()
    yield unit, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()
    unit.close()


@contextmanager
def file_world(world: World, folder: Path, user: str = ADA) -> Iterator[FileWorld]:
    """See :class:`FileWorld`."""
    sync(world)
    name_users(world, user)
    world.work()
    drive = world.core.drives.named(f"h-example/{HOME['name']}/{user}")
    with unit_served(world.provider) as (unit, url):

        def reach(endpoint: str) -> str:
            _, _, path = endpoint.removeprefix("ws").removeprefix("http").partition("/ucloud/")
            return f"{url}/ucloud/{path}"

        web = WebFiles(world.core.files, user, ORIGIN, reach=reach)
        yield FileWorld(world, unit, Upkeep(unit), drive.id, folder / "homes" / "ada", web, url)
