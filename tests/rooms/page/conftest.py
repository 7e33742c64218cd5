"""The operator's page, served as the command serves it, and a browser that has opened its link."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
import requests
from flask import Flask

from tests.conftest import Clock, World
from ucloud_slurm.page.access import Access
from ucloud_slurm.page.app import create_page
from ucloud_slurm.page.guard import Guard
from ucloud_slurm.page.server import Server
from ucloud_slurm.provider.context import Provider


@dataclass
class Page:
    """A page on a port of the loopback device."""

    app: Flask
    access: Access
    port: int
    browser: requests.Session = field(default_factory=requests.Session)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def link(self) -> str:
        return f"{self.url}/enter?token={self.access.token}"

    def look(self, path: str) -> requests.Response:
        return self.browser.get(self.url + path, timeout=30)


@contextmanager
def serving(listening: socket.socket, app: Flask) -> Iterator[None]:
    """Serves an application until the end of the block."""
    server, ended = Server(listening, app), threading.Event()
    thread = threading.Thread(target=server.serve_while, args=(lambda: not ended.is_set(), 0.02))
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        server.server_close()


@contextmanager
def paged(provider: Provider, clock: Clock, guard: Guard | None = None) -> Iterator[Page]:
    """A page of a provider; nobody has opened its link yet."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port, access = listening.getsockname()[1], Access(clock, listening.getsockname()[1])
        app = create_page(provider, access, port, guard)
        with serving(listening, app):
            yield Page(app, access, port)


@pytest.fixture
def page(world: World, clock: Clock) -> Iterator[Page]:
    """Where nothing can be changed."""
    with paged(world.provider, clock) as page:
        yield page


@pytest.fixture
def opened(page: Page) -> Page:
    """The page in a browser that has opened the link."""
    return open_link(page)


def open_link(page: Page) -> Page:
    """Opens the link in the browser of the page."""
    assert page.browser.get(page.link, timeout=30).status_code == 200
    return page
