"""The page with the code, the socket where the kernel says who calls, and the commands `link` and `unlink`."""

import json
import os
import pwd
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.conftest import Clock, Serve, configuration
from tests.linking import ADA, BASE, EVE, NEW, USER, code_of, make_accounts
from tests.model import Model
from ucloud_slurm.app import create_app
from ucloud_slurm.cli.main import main
from ucloud_slurm.provider import Provider
from ucloud_slurm.sandbox.core import SimulatedCore
from ucloud_slurm.users.linkd import LARGEST, LinkServer
from ucloud_slurm.users.linking import Linking
from ucloud_slurm.users.runner import listener
from ucloud_slurm.worker import people


@pytest.fixture(autouse=True)
def accounts(monkeypatch: pytest.MonkeyPatch) -> dict[str, pwd.struct_passwd]:
    return make_accounts(monkeypatch)


@pytest.fixture
def provider(core: SimulatedCore, clock: Clock, tmp_path: Path, serve: Serve) -> Iterator[Provider]:
    """A provider with the table, reached by Core."""
    opened = Provider.open(configuration(core, tmp_path, users={"mapping": "table"}), now=clock, scheduler=Model(clock))
    serve(opened)
    yield opened
    opened.close()


@pytest.fixture
def linking(provider: Provider) -> Linking:
    return Linking(
        provider.config.users, provider.store, provider.now, lambda username: people.tell(provider, username)
    )


# -- the page


def test_the_page_shows_the_command_and_nothing_of_it_is_kept(core: SimulatedCore, provider: Provider) -> None:
    browser, code = create_app(provider=provider).test_client(), code_of(core)
    shown = browser.get(f"{BASE}/link/{code}")
    assert (shown.status_code, f"<pre>ucloud-slurm link {code}</pre>" in shown.text) == (200, True)
    assert shown.headers["Referrer-Policy"] == "no-referrer"
    assert shown.headers["Cache-Control"] == "no-store"
    assert shown.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "Set-Cookie" not in shown.headers
    assert USER not in shown.text
    assert browser.get(f"{BASE}/link").status_code == browser.get(f"{BASE}/link/connected").status_code == 200
    wrong = browser.get(f"{BASE}/link/%3Cscript%3E")
    assert (wrong.status_code, "<script>" in wrong.text) == (404, False)
    assert "press Connect" in wrong.text


@pytest.mark.parametrize("username", ["", "a\nb", "x" * 201, "\u202eada"])
def test_a_name_that_could_fool_somebody_who_reads_it_gets_no_code(
    core: SimulatedCore, provider: Provider, username: str
) -> None:
    status, body = core.call("POST", f"{BASE}/integration/connect", {"username": username})
    assert status == 400
    assert body["why"].startswith("username")


# -- the socket and the commands


@pytest.fixture
def door(linking: Linking) -> Iterator[Path]:
    """A real socket that everybody on this host can reach."""
    folder = Path(f"/tmp/ucloud-slurm-link-{os.getpid()}")
    folder.mkdir(mode=0o755)
    path = folder / "link.sock"
    server = LinkServer(linking.answer)
    with listener(path, 0o666) as made:
        thread = threading.Thread(target=server.serve, args=(made,))
        thread.start()
        yield path
        server.stop()
        thread.join()
    path.unlink()
    folder.rmdir()


CHILD = """
import os, socket, sys
os.setgroups([]); os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(sys.argv[2])
    connection.sendall(sys.argv[3].encode() + b"\\n")
    print(connection.makefile().readline())
"""


def as_uid(uid: int, path: Path, request: dict[str, Any]) -> Any:
    command = [sys.executable, "-c", CHILD, str(uid), str(path), json.dumps(request)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become others")
def test_who_is_connected_is_whom_the_kernel_names(core: SimulatedCore, provider: Provider, door: Path) -> None:
    code = code_of(core)
    assert as_uid(NEW, door, {"do": "look", "code": code, "uid": ADA})["account"] == "new"
    assert "root" in as_uid(0, door, {"do": "link", "code": code})["refused"]
    assert as_uid(EVE, door, {"do": "link", "code": code, "uid": ADA, "account": "ada"})["account"] == "eve"
    assert [(each.username, each.uid) for each in provider.people.listed()] == [(USER, EVE)]


def raw(path: Path, data: bytes) -> Any:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(path))
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        return json.loads(connection.makefile().readline())


@pytest.mark.parametrize("data", [b"", b"\n", b"[]\n", b'"x"\n', b"\xff\n", b"{" * 900 + b"\n", b"x" * (LARGEST + 1)])
def test_what_is_no_request_is_refused_and_the_next_is_served(provider: Provider, door: Path, data: bytes) -> None:
    assert raw(door, data) == {"refused": "This is no request that is understood here."}
    assert "root" in raw(door, b'{"do": "mine"}\n')["refused"] or os.geteuid() != 0


def test_one_account_cannot_take_all_the_places(provider: Provider, door: Path) -> None:
    waiting = []
    for _ in range(4):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(door))
        waiting.append(connection)
    assert "Too many" in raw_answer(door)
    for connection in waiting:
        connection.close()


def raw_answer(path: Path) -> str:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(path))
        return connection.makefile().readline()


def typed(*words: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(main, [*words], input=answer)


@pytest.fixture
def as_ada(linking: Linking, door: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The socket, where this process counts as ada: what the kernel would say otherwise is tested above."""
    monkeypatch.setattr("ucloud_slurm.users.linkd.peer", lambda _connection: ADA)
    return door


def test_the_command_asks_first_and_says_whose_code_it_is(
    core: SimulatedCore, provider: Provider, as_ada: Path
) -> None:
    code = code_of(core)
    no = typed("link", code, "--socket", str(as_ada), answer="\n")
    assert (no.exit_code, f"lets the UCloud user {USER} start jobs on this cluster as you (ada)" in no.output) == (
        1,
        True,
    )
    assert provider.people.listed() == []
    yes = typed("link", code, "--socket", str(as_ada), answer="y\n")
    assert (yes.exit_code, f"{USER} is connected with ada." in yes.output) == (0, True)
    again = typed("link", code, "--socket", str(as_ada), "--yes")
    assert (again.exit_code, "not known" in again.output) == (1, True)
    gone = typed("unlink", "--socket", str(as_ada), "--yes")
    assert (gone.exit_code, "any more" in gone.output) == (0, True)
    assert provider.people.listed() == []


def test_the_command_needs_no_configuration_and_says_what_to_do_where_nobody_listens(tmp_path: Path) -> None:
    done = typed("--config", "/nonexistent", "link", "AAAA-AAAA-AAAA", "--socket", str(tmp_path / "none"))
    assert done.exit_code == 1
    assert "Is this the login node?" in done.output
    assert "ucloud-slurm-link.socket" in done.output
