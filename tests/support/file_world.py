"""A provider with drives, its file unit, and UCloud's web client, in this process."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from werkzeug.serving import WSGIRequestHandler, make_server

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


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"
    _upgraded = False

    def send_response(self, code: int, message: str | None = None) -> None:
        """Notes whether a WebSocket is opened."""
        self._upgraded = code == HTTPStatus.SWITCHING_PROTOCOLS
        super().send_response(code, message)

    def send_header(self, keyword: str, value: str) -> None:
        """Does not say that a WebSocket is closed, as gunicorn does not."""
        if not (self._upgraded and (keyword, value) == ("Connection", "close")):
            super().send_header(keyword, value)

    def log(self, *_arguments: Any) -> None:
        """Says nothing."""


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
    server = make_server("127.0.0.1", 0, Application(unit), threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.005,), daemon=True)
    thread.start()
    yield unit, f"http://127.0.0.1:{server.port}"
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
