"""With a proxy every connection to UCloud goes through it; without one none does, whatever the environment says."""

import gc
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.conftest import Clock
from tests.rooms.listener.server import ChannelServer
from tests.sandbox.core import SimulatedCore
from tests.support.config_file import write_config
from tests.support.proxy import Proxy
from tests.support.tls import certificate
from ucloud_slurm.cli import check
from ucloud_slurm.cli.daemons import _settings
from ucloud_slurm.config import read
from ucloud_slurm.errors import CoreUnavailableError
from ucloud_slurm.listener.connection import ChannelConnection, ChannelUnavailableError
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.ucloud.core import Core

SECRET = "hunter2"
CREDENTIALS = f"me:{SECRET}"
NOWHERE = "http://127.0.0.1:1"

Opened = Callable[..., Proxy]


@pytest.fixture
def make_proxy() -> Iterator[Opened]:
    made: list[Proxy] = []

    def make(credentials: str | None = None) -> Proxy:
        made.append(Proxy(credentials))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def context(tmp_path: Path) -> ssl.SSLContext:
    """Of a server whose certificate is in cert.pem."""
    certificate(tmp_path, "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    return context


def configured(folder: Path, url: str, *more: str) -> Path:
    """A configuration with further lines in the table ``ucloud``."""
    path = write_config(folder, url)
    path.write_text(path.read_text().replace("[ucloud]\n", "\n".join(["[ucloud]", *more, ""])))
    (folder / "credentials").write_text(CREDENTIALS + "\n")
    return path


def call(path: Path) -> None:
    """What the web service and the worker do."""
    provider = Provider.open(read(path))
    try:
        provider.core.check()
    finally:
        provider.close()


def check_by_hand(path: Path) -> None:
    """What ``ucloud-slurm check`` does."""
    check._ucloud(read(path))


def hear(path: Path) -> None:
    """What the listener does."""
    with ChannelConnection(_settings(read(path), path)):
        pass


@pytest.mark.parametrize("connect", [call, check_by_hand])
@pytest.mark.parametrize("credentials", [None, CREDENTIALS])
def test_calls_go_through_the_proxy(
    core: SimulatedCore, tmp_path: Path, make_proxy: Opened, connect: Callable[[Path], None], credentials: str | None
) -> None:
    (tmp_path / "token").write_text(core.refresh_token)
    (tmp_path / "key").write_text(core.public_key)
    proxy = make_proxy(credentials)
    more = [f'proxy_credentials_file = "{tmp_path}/credentials"'] if credentials else []
    connect(configured(tmp_path, core.url, f'proxy = "{proxy.url}"', *more))
    assert {where for _, where in proxy.asked} == {core.url.removeprefix("http://")}


@pytest.mark.parametrize("credentials", [None, CREDENTIALS])
def test_the_channel_goes_through_the_proxy(
    tmp_path: Path, context: ssl.SSLContext, make_proxy: Opened, credentials: str | None
) -> None:
    server, proxy = ChannelServer(context=context), make_proxy(credentials)
    more = [f'proxy_credentials_file = "{tmp_path}/credentials"'] if credentials else []
    hear(configured(tmp_path, server.url, f'proxy = "{proxy.url}"', f'ca_file = "{tmp_path}/cert.pem"', *more))
    assert proxy.asked == [("CONNECT", server.url.removeprefix("https://"))]
    server.close()


def test_a_call_by_https_is_tunnelled(tmp_path: Path, context: ssl.SSLContext, make_proxy: Opened, clock: Clock) -> None:
    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.dumps({"responses": [{"accessToken": "a"}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answers)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    proxy = make_proxy(CREDENTIALS)
    url = f"https://localhost:{server.server_port}"
    core = Core(url, lambda: "r", now=clock, ca_file=tmp_path / "cert.pem", proxy=proxy.url.replace("//", f"//{CREDENTIALS}@"))
    core.check()
    core.close()
    server.shutdown()
    server.server_close()
    assert proxy.asked == [("CONNECT", f"localhost:{server.server_port}")]


# http.client of Python 3.11 leaves the socket of a refused CONNECT to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("connect", [call, check_by_hand, hear])
@pytest.mark.parametrize("secure", [True, False])
@pytest.mark.parametrize("wrong", [True, False])
def test_a_proxy_that_refuses_is_named_and_its_password_is_not(
    tmp_path: Path, make_proxy: Opened, connect: Callable[[Path], None], *, secure: bool, wrong: bool
) -> None:
    for name in ("token", "key"):
        (tmp_path / name).write_text("x")
    url = "https://localhost:1" if secure else NOWHERE
    proxy = make_proxy("me:another").url if wrong else NOWHERE
    path = configured(tmp_path, url, f'proxy = "{proxy}"', f'proxy_credentials_file = "{tmp_path}/credentials"')
    with pytest.raises((CoreUnavailableError, ChannelUnavailableError), match=r"ucloud\.proxy") as raised:
        connect(path)
    assert ("407" in str(raised.value)) == wrong
    gc.collect()
    assert SECRET not in str(raised.value)
    assert SECRET not in " ".join(_settings(read(path), path).command())


@pytest.mark.parametrize(("url", "why"), [(NOWHERE, "Connection refused"), ("https://ucloud.invalid", "[Nn]ame")])
def test_a_ucloud_that_cannot_be_reached_is_named_with_its_address_and_the_cause(tmp_path: Path, url: str, why: str) -> None:
    (tmp_path / "token").write_text("x")
    with pytest.raises(CoreUnavailableError, match=rf"at {url} \(.*{why}"):
        check_by_hand(configured(tmp_path, url))


def test_a_certificate_that_cannot_be_verified_is_named(tmp_path: Path, context: ssl.SSLContext) -> None:
    (tmp_path / "token").write_text("x")
    server = ChannelServer(context=context)
    with pytest.raises(CoreUnavailableError, match="its certificate: self"):
        check_by_hand(configured(tmp_path, server.url))
    server.close()


def test_the_environment_names_no_proxy(
    core: SimulatedCore, make_proxy: Opened, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, NOWHERE)
        monkeypatch.setenv(name.upper(), NOWHERE)
    proxy = make_proxy()
    for one, without in ((None, ""), (proxy.url, "127.0.0.1,localhost")):
        monkeypatch.setenv("no_proxy", without)
        client = Core(core.url, lambda: core.refresh_token, now=clock, proxy=one)
        client.check()
        client.close()
        assert bool(proxy.asked) == bool(one)
