"""check says where the web service can be reached, by whom, and what is wrong with it."""

import grp
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandbox.site import free_port
from tests.support.server import Server, running
from ucloud_slurm.cli import check_web
from ucloud_slurm.cli.check_web import listening, web

TABLE = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:22B9 00000000:0000 0A 00000000:00000000 00:00000000 00000000   987        0 7001 1 0 100 0 0 10 0
   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 7002 1 0 100 0 0 10 0
   2: 0100007F:22B9 0100007F:9999 01 00000000:00000000 00:00000000 00000000   987        0 7003 1 0 100 0 0 10 0
"""
TABLE6 = """  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when
   0: 00000000000000000000000001000000:22B9 00000000000000000000000000000000:0000 0A 0:0 00:0 0   987        0 7004 1 0
"""


def texts(path: Path) -> list[str]:
    return [f"{level}: {text}" for level, text in web(path)]


def serve(path: Path, answer: bytes) -> threading.Thread:
    """Answers one connection at a path."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def work() -> None:
        with listener:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


@pytest.fixture
def root_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The folders of tests are as good as root's."""
    monkeypatch.setattr(check_web, "distrust", lambda *_: None)


def test_a_port_is_named_with_its_address_and_others_are_not() -> None:
    assert listening(TABLE, {"7001", "7003"}) == ["127.0.0.1:8889"]
    assert listening(TABLE6, {"7004"}) == ["[::1]:8889"]
    assert listening(TABLE, ()) == []


@pytest.fixture
def on_tcp(tmp_path: Path) -> Iterator[tuple[Server, int]]:
    port = free_port()
    with running(tmp_path, f"--bind=127.0.0.1:{port}", "--name=ucloud_slurm.wsgi") as server:
        yield server, port


def test_a_service_on_a_tcp_port_is_a_warning_with_the_repair(on_tcp: tuple[Server, int], tmp_path: Path) -> None:
    (line,) = texts(tmp_path / "none.sock")
    assert line.startswith(f"warning: the web service listens on the TCP port 127.0.0.1:{on_tcp[1]}: ")
    assert f"let nginx use unix:{tmp_path}/none.sock" in line


def test_a_service_that_is_not_installed_is_a_warning(tmp_path: Path) -> None:
    (line,) = texts(tmp_path / "web.sock")
    assert line.startswith("warning: ")
    assert "systemctl enable --now ucloud-slurm.socket ucloud-slurm.service" in line


@pytest.mark.usefixtures("root_only")
def test_a_service_that_answers_is_ok(tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    thread = serve(path, b"HTTP/1.1 200 OK\r\n\r\n")
    path.chmod(0o660)
    assert texts(path)[-1] == f"ok: the web service answers on {path}"
    thread.join()
    assert "does not answer" in texts(path)[-1], "nobody listens any more"


@pytest.mark.usefixtures("root_only")
def test_what_answers_for_the_service_is_not_taken_for_it(tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    thread = serve(path, b"SSH-2.0\r\n")
    path.chmod(0o660)
    assert "it answers something else" in texts(path)[-1]
    thread.join()


@pytest.mark.usefixtures("root_only")
def test_a_socket_that_everybody_may_use_is_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    thread = serve(path, b"HTTP/1.1 200 OK\r\n\r\n")
    path.chmod(0o666)
    assert any(line.startswith("failed: ") and "0666" in line for line in texts(path))
    thread.join()


@pytest.mark.usefixtures("root_only")
def test_the_group_of_the_proxy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "web.sock"
    thread = serve(path, b"HTTP/1.1 200 OK\r\n\r\n")
    path.chmod(0o660)
    assert any("should belong to ucloud-slurm-proxy" in line for line in texts(path))
    thread.join()
    monkeypatch.setattr(check_web, "GROUP", grp.getgrgid(os.getegid()).gr_name)
    assert not any("should belong to" in line for line in texts(path))


def test_a_folder_that_others_own_is_a_failure_and_a_file_is_no_socket(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    path = folder / "web.sock"
    thread = serve(path, b"HTTP/1.1 200 OK\r\n\r\n")
    path.chmod(0o660)
    assert any(line.startswith("failed: others could put a socket in the place") for line in texts(path))
    thread.join()
    path.unlink()
    path.touch()
    assert texts(path) == [f"failed: {path} is not a socket; delete it, then: systemctl restart ucloud-slurm.socket"]
