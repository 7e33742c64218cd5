"""``page`` prints how to reach the page, serves it, and ends with Ctrl-C."""

import re
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from tests.support.config_file import write_config
from ucloud_slurm.errors import Misconfigured
from ucloud_slurm.system import ipc

# As the account of the service, which is not root's.
COMMAND = """
import sys
from ucloud_slurm.cli import context, main
context.refuse_root = lambda: None
sys.argv[0] = "ucloud-slurm"
main.main()
"""


def started(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    (folder / "token").write_text("token")
    (folder / "token").chmod(0o600)
    command = [sys.executable, "-c", COMMAND, "--config", str(write_config(folder)), "page", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    return process.returncode, output, errors


def test_it_prints_a_line_for_ssh_and_a_link_that_works(tmp_path: Path) -> None:
    process = started(tmp_path)
    assert process.stdout is not None
    printed = "".join(process.stdout.readline() for _ in range(8))
    ssh = re.search(r"^    ssh -N -L (\d+):127\.0\.0\.1:(\d+) \S+$", printed, re.MULTILINE)
    link = re.search(r"^    (http://127\.0\.0\.1:(\d+)/enter\?token=\S+)$", printed, re.MULTILINE)
    assert ssh is not None
    assert link is not None, printed
    assert ssh[1] == ssh[2] == link[2]
    session = requests.Session()
    assert "Overview" in session.get(link[1], timeout=30).text
    assert session.get(f"http://127.0.0.1:{link[2]}/jobs", timeout=30).status_code == 200
    status, output, errors = ended(process)
    assert (status, output.splitlines()[-1], errors) == (0, "The page is closed.", "")


def test_at_a_socket_it_lets_the_group_of_the_proxy_in(tmp_path: Path) -> None:
    path = tmp_path / "page.sock"
    process = started(tmp_path, "--socket", str(path))
    assert process.stdout is not None
    assert str(path) in process.stdout.readline()
    assert stat.filemode(path.stat().st_mode) == "srw-rw----"
    assert ended(process)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--acts", "--socket", "page.sock"], "--acts: at a socket, name the header"),
        (["--acts", "--user-header", "X-User"], "--user-header: is read with --socket and --acts only"),
        (["--socket", "page.sock", "--user-header", "X-User"], "--user-header: is read with --socket and --acts only"),
        (["--acts", "--socket", "page.sock", "--user-header", "X User"], "--user-header: 'X User' should be the name"),
    ],
)
def test_acts_need_to_know_who_does_them(tmp_path: Path, arguments: list[str], said: str) -> None:
    words = [str(tmp_path / word) if word == "page.sock" else word for word in arguments]
    process = started(tmp_path, *words)
    try:
        output, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, output) == (78, "")
    assert errors.startswith(f"ucloud-slurm: {said}")
    assert not (tmp_path / "page.sock").exists()


def test_a_file_in_the_place_of_the_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_text("keep this")
    for place in (path, tmp_path / ("x" * 120)):
        with pytest.raises(
            Misconfigured, match=r"the socket cannot be made \((Address already in use|AF_UNIX path too long)\)"
        ):
            ipc.listener(place, 0o600)
    assert path.read_text() == "keep this"


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        output, errors = started(tmp_path, "--port", str(port)).communicate(timeout=60)
    assert output == ""
    assert errors.startswith(f"ucloud-slurm: --port: {port} cannot be used (")
