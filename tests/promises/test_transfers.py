"""Files through what is shipped: nginx and gunicorn with their own configurations, real sockets, TLS."""

import hashlib
import http.client
import json
import os
import secrets
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import simple_websocket

from tests.promises.test_units import program
from tests.sandbox import nginx
from tests.sandbox.processes import wait_until
from tests.sandbox.site import free_port
from tests.support.tls import certificate
from ucloud_slurm.config import parse
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.store.drives import Drive
from ucloud_slurm.store.transfers import Transfer, TransferKind, hashed

ROOT = Path(__file__).parents[2]
ORIGIN = "https://ucloud.example.org"
MIB = 1024 * 1024


@dataclass(frozen=True)
class Served:
    """nginx before the unit, and the folder of a drive."""

    provider: Provider
    port: int
    drive: Path
    gunicorn: "subprocess.Popen[bytes]"
    log: Path

    def link(self, kind: TransferKind, name: str, **more: object) -> str:
        """What the web service does when UCloud asks for a link."""
        token, now = secrets.token_urlsafe(32), time.time()
        transfer = Transfer(
            hashed(token), kind, "Ada#1", self.provider.account, "17", str(self.drive), (name,), now, now + 600, policy="RENAME"
        )
        self.provider.transfers.create([transfer._replace(**more)])  # type: ignore[arg-type]
        return token

    def download_link(self, name: str) -> str:
        """The token of a download."""
        status = (self.drive / name).stat()
        return self.link(TransferKind.DOWNLOAD, name, size=status.st_size, modified_at=status.st_mtime_ns)

    def connection(self) -> http.client.HTTPSConnection:
        """One to nginx."""
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=60, context=unverified())

    def chunk(self, token: str, offset: int, total: int, data: bytes) -> int:
        """Sends a chunk as a browser does; gives the status."""
        named = {"Chunked-Upload-Token": token, "Chunked-Upload-Offset": str(offset), "Chunked-Upload-Total-Size": str(total)}
        with closing(self.connection()) as connection:
            connection.request("POST", path("upload"), data, {"Origin": ORIGIN} | named)
            answer = connection.getresponse()
            assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
            return answer.status


def path(name: str) -> str:
    return f"/ucloud/example/files/transfer/{name}"


def unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    program("nginx", "nginx", folder)
    certificate(folder, "hpc.example.org")
    for name in ("token", "key"):
        (folder / name).write_text("x")
    data = {
        "provider": {"id": "example", "url": "https://hpc.example.org"},
        "ucloud": {
            "url": "https://127.0.0.1:1",
            "origins": [ORIGIN],
            "refresh_token_file": str(folder / "token"),
            "public_key_file": str(folder / "key"),
        },
        "database": {"path": str(folder / "test.db")},
        "slurm": {"commands": str(folder)},
        "products": [{"id": "example-compute-1", "category": "example-compute", "partition": "cpu"}],
        "drives": [{"name": "project", "title": "Project", "owner": "project", "local": f"{folder}/projects/{{project}}"}],
    }
    drive = folder / "projects/p1"
    drive.mkdir(parents=True)
    provider = Provider.open(parse(data))
    provider.drives.registered(Drive("p-example/project/p1", "project", None, "p1", None, 0.0), "17", 0.0)
    address, log, port = folder / "files.sock", folder / "gunicorn.log", free_port()
    command = [sys.executable, "-m", "gunicorn", "-c", str(ROOT / "etc/gunicorn-files.conf.py"), f"--bind=unix:{address}"]
    environment = os.environ | {"UCLOUD_SLURM_TEST_UNIT": json.dumps(data), "PYTHONDONTWRITEBYTECODE": "1"}
    with log.open("wb") as out:
        gunicorn = subprocess.Popen(
            [*command, "tests.support.served_unit:app"], cwd=ROOT, stdout=out, stderr=out, env=environment
        )
    text = nginx.shipped(
        "nginx.conf",
        {
            "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
            "    listen [::]:443 ssl;\n": "",
            "listen 80;": f"listen 127.0.0.1:{free_port()};",
            "    listen [::]:80;\n": "",
            "/etc/ssl/certs/hpc.example.org.pem": f"{folder}/cert.pem",
            "/etc/ssl/private/hpc.example.org.key": f"{folder}/key.pem",
            "unix:/run/ucloud-slurm-files/files.sock": f"unix:{address}",
        },
    )
    try:
        wait_until("the unit answers", address.exists, seconds=30)
        with nginx.running(folder, text, port):
            yield Served(provider, port, drive, gunicorn, log)
    finally:
        gunicorn.terminate()
        gunicorn.wait(30)
        provider.close()
    assert "Traceback" not in log.read_text()


def test_a_large_file_comes_through_unchanged_and_without_a_copy_in_memory(served: Served) -> None:
    name = "large"
    with (served.drive / name).open("wb") as file:
        for number in range(300):
            file.write(bytes([number % 251]) * MIB)
    wanted = hashlib.sha256((served.drive / name).read_bytes()).hexdigest()
    got, size = hashlib.sha256(), 0
    with closing(served.connection()) as connection:
        connection.request("GET", f"{path('download')}?token={served.download_link(name)}&usernameHint=QWRhIzE=")
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Content-Length"]) == (200, str(300 * MIB))
        while piece := answer.read(MIB):
            got.update(piece)
            size += len(piece)
    assert (size, got.hexdigest()) == (300 * MIB, wanted)
    assert peak_mebibytes(served) < 200


def peak_mebibytes(served: Served) -> int:
    """The most memory that a process of the unit has had."""
    pids = [served.gunicorn.pid, *children(served.gunicorn.pid)]
    peaks = [
        int(line.split()[1]) // 1024
        for pid in pids
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmHWM:")
    ]
    return max(peaks)


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_file_that_shrinks_ends_the_connection_through_the_proxy_too(served: Served) -> None:
    file = served.drive / "shrinks"
    file.write_bytes(bytes(64 * MIB))
    token = served.download_link("shrinks")
    with closing(served.connection()) as connection:
        connection.request("GET", f"{path('download')}?token={token}")
        answer = connection.getresponse()
        assert len(answer.read(1000)) == 1000
        os.truncate(file, 1000)  # much of it is not on its way yet: nobody has read it
        with pytest.raises((http.client.IncompleteRead, ConnectionError, ssl.SSLError)):
            answer.read()
    wait_until("it is written down", lambda: "has become shorter" in served.log.read_text(), seconds=30)


def test_a_download_that_the_client_breaks_off_goes_on_where_it_was(served: Served) -> None:
    file = served.drive / "breaks"
    file.write_bytes(os.urandom(32 * MIB))
    token = served.download_link("breaks")
    with closing(served.connection()) as connection:
        connection.request("GET", f"{path('download')}?token={token}")
        answer = connection.getresponse()
        first = answer.read(MIB)
        tag = answer.headers["ETag"]
    with closing(served.connection()) as connection:
        connection.request("GET", f"{path('download')}?token={token}", headers={"Range": f"bytes={MIB}-", "If-Range": tag})
        answer = connection.getresponse()
        assert answer.status == 206
        assert first + answer.read() == file.read_bytes()


def test_a_whole_upload_comes_in_chunks_of_a_browser(served: Served) -> None:
    data = os.urandom(40_000_000)
    token = served.link(TransferKind.UPLOAD, "sent")
    for offset in range(0, len(data), 16_000_000):
        assert served.chunk(token, offset, len(data), data[offset : offset + 16_000_000]) == 200
    assert served.chunk(token, 32_000_000, len(data), data[32_000_000:]) == 200  # the first answer was lost
    assert (served.drive / "sent").read_bytes() == data


def test_a_chunk_that_is_refused_is_answered_and_not_cut_off(served: Served) -> None:
    """A browser whose connection breaks shows the upload as under way for ever."""
    data = bytes(16_000_000)
    assert served.chunk("nothing", 0, len(data), data) == 404
    token = served.link(TransferKind.UPLOAD, "refused")
    assert served.chunk(token, 16_000_000, 2 * len(data), data) == 409
    assert not (served.drive / "refused").exists()


def test_a_full_disk_is_said_and_what_came_stays(served: Served) -> None:
    full = served.drive / "full"
    full.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(full)], check=True)
    try:
        token = served.link(TransferKind.UPLOAD, "full", parts=("full", "a"))
        data = os.urandom(6 * MIB)
        assert served.chunk(token, 0, len(data), data[: 3 * MIB]) == 200
        assert served.chunk(token, 3 * MIB, len(data), data[3 * MIB :]) == 507
        subprocess.run(["mount", "-o", "remount,size=16m", str(full)], check=True)
        assert served.chunk(token, 3 * MIB, len(data), data[3 * MIB :]) == 200
        assert (full / "a").read_bytes() == data
    finally:
        subprocess.run(["umount", "-l", str(full)], check=True)


def test_a_folder_comes_through_the_proxy(served: Served) -> None:
    (served.drive / "folder").mkdir()
    token = served.link(TransferKind.FOLDER, "folder")
    url = f"wss://127.0.0.1:{served.port}{path('folder')}?token={token}"
    client = simple_websocket.Client(url, headers={"Origin": ORIGIN}, ssl_context=unverified())
    data = os.urandom(5_000_000)
    client.send(b"\x04" + struct.pack(">iqqi", 0, len(data), 1_795_000_000_000, 5) + b"sub/a")
    assert client.receive(30) == b"\0\0\0\0\0"
    client.send(b"\x02\0\0\0\0" + data[:3_000_000])
    client.send(b"\x02\0\0\0\0" + data[3_000_000:])
    assert client.receive(30) == b"\x05\0\0\0\x01"
    client.close()
    assert (served.drive / "folder/sub/a").read_bytes() == data


def test_somebody_who_says_nothing_holds_up_nobody(served: Served) -> None:
    """Each connection is one of the proxy's, which reads the head of a request before it passes it on."""
    silent = []
    try:
        for _ in range(100):
            sock = socket.create_connection(("127.0.0.1", served.port), timeout=10)
            silent.append(sock)
        (served.drive / "quick").write_bytes(b"text")
        with closing(served.connection()) as connection:
            connection.request("GET", f"{path('download')}?token={served.download_link('quick')}")
            assert connection.getresponse().read() == b"text"
    finally:
        for sock in silent:
            sock.close()


def test_no_token_is_in_a_log(served: Served) -> None:
    (served.drive / "logged").write_bytes(b"text")
    tokens = [served.download_link("logged"), served.link(TransferKind.UPLOAD, "logged2")]
    with closing(served.connection()) as connection:
        connection.request("GET", f"{path('download')}?token={tokens[0]}")
        assert connection.getresponse().read() == b"text"
    served.chunk(tokens[1], 0, 1, b"x")
    folder = served.log.parent
    for each in folder.glob("*.log"):
        text = each.read_text()
        assert not [token for token in tokens if token in text], each
    rows = json.dumps([dict(row) for row in served.provider.store.rows("select * from transfers")])
    assert not [token for token in tokens if token in rows]


def test_many_downloads_run_beside_each_other(served: Served) -> None:
    (served.drive / "many").write_bytes(os.urandom(MIB))
    failed: list[object] = []

    def fetch() -> None:
        with closing(served.connection()) as connection:
            connection.request("GET", f"{path('download')}?token={served.download_link('many')}")
            answer = connection.getresponse()
            if answer.status != 200 or len(answer.read()) != MIB:
                failed.append(answer.status)

    threads = [threading.Thread(target=fetch) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
