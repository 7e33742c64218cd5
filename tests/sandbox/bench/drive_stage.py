"""The stage of files: a site whose user has a drive, its file unit, and nginx before both and beside them."""

import json
import os
import pwd
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.sandbox import nginx, packages
from tests.sandbox.bench.programs import Http
from tests.sandbox.bench.stage import OWNER, PRODUCT, RUNNING, Scene, Stage
from tests.sandbox.core.files import UploadLink
from tests.sandbox.driven import give_drive
from tests.sandbox.errors import SandboxError
from tests.sandbox.processes import find, with_descendants
from tests.sandbox.site import free_port

ACCOUNT = "alice"
AT_ONCE = 110
# As UCloud has them: with drives, all products are synchronised.
PRODUCTS = tuple({key: each[key] for key in ("id", "category", "partition")} for each in (PRODUCT, RUNNING))


@dataclass(frozen=True, slots=True)
class DriveScene:
    """Such a site.

    :ivar folder: the drive's
    :ivar static: URL at which nginx serves the drive's files itself, and takes files by WebDAV below ``dav/``
    """

    scene: Scene
    drive: str
    folder: Path
    static: str

    def path(self, name: str) -> str:
        """UCloud's path of something in the drive."""
        return f"/{self.drive}/{name}"

    def download(self, name: str) -> str:
        """A new link."""
        return self.scene.core.download_link(OWNER, self.path(name))

    def upload(self, name: str) -> UploadLink:
        """A new upload."""
        return self.scene.core.upload_link(OWNER, self.path(name))

    def listing(self, name: str) -> tuple[Http, str]:
        """The client that asks for the first page of a folder, and what it asks, as UCloud does."""
        core = self.scene.core
        core.browse(OWNER, self.path(name))
        asked = [each for each in core.exchanges if each.call.endswith(".browse") and each.direction == "core->provider"][-1]
        return self.scene.http(OWNER, f"/ucloud/{core.provider}/files/browse"), json.dumps(asked.request)

    def give(self, *paths: Path) -> None:
        """Makes files those of the drive's user."""
        account = pwd.getpwnam(ACCOUNT)
        for path in paths:
            os.chown(path, account.pw_uid, account.pw_gid)

    def unit_memory(self) -> float:
        """MiB that the file unit has, each page that several processes share counted once (PSS)."""
        master = next(each for each in self.scene.site.processes if b"transfer.wsgi" in _line(each.pid))
        found = find(master.pid)
        return sum(_pss(each.pid) for each in with_descendants([found] if found else [])) / 1024


@contextmanager
def drive_scene(stage: Stage) -> Iterator[DriveScene]:
    """Such a site. Its drive is on the disk of the cluster's folder, and is deleted afterwards.

    :raises SandboxError: without root there is no account for its user
    """
    if not stage.cluster.users:
        raise SandboxError("files of a user need root")
    packages.install(packages.missing(("nginx", "curl")), stage.cluster.folder / "apt-get.log", lambda _: None)
    base = stage.cluster.folder / "bench-files"
    shutil.rmtree(base, ignore_errors=True)
    folder = base / ACCOUNT
    (folder / "dav").mkdir(parents=True)
    port, static = free_port(), free_port()
    tables: dict[str, Any] = {
        "provider": {"url": f"http://127.0.0.1:{port}"},
        "jobs": {"folder": f"{base}/{{user}}/jobs"},
        "transfers": {"at_once": AT_ONCE, "at_once_per_user": AT_ONCE},
    }
    drives = ({"name": "bench", "title": "Bench", "local": f"{base}/{{user}}"},)
    try:
        with stage.scene("files", links={OWNER: ACCOUNT}, tables=tables, drives=drives, products=PRODUCTS) as scene:
            unit = scene.site.serve_files(unix=True)
            text = _nginx(port, static, scene.site.url, unit, folder)
            place = scene.site.folder.parent / f"{scene.site.folder.name}-nginx"
            place.mkdir(mode=0o700)
            try:
                drive = give_drive(scene.site, scene.core, OWNER)
                made = DriveScene(scene, drive, folder, f"http://127.0.0.1:{static}")
                made.give(folder)
                with nginx.running(place, text, port):
                    yield made
            finally:
                shutil.rmtree(place, ignore_errors=True)
    finally:
        shutil.rmtree(base, ignore_errors=True)


def _nginx(port: int, static: int, web: str, files: str, folder: Path) -> str:
    """The shipped configuration without TLS, and a server that serves the same files itself."""
    shipped = nginx.shipped(
        "nginx.conf",
        {
            "listen 443 ssl;": f"listen 127.0.0.1:{port};",
            "    listen [::]:443 ssl;\n": "",
            "listen 80;": f"listen 127.0.0.1:{free_port()};",
            "    listen [::]:80;\n": "",
            "    ssl_certificate /etc/ssl/certs/hpc.example.org.pem;\n": "",
            "    ssl_certificate_key /etc/ssl/private/hpc.example.org.key;\n": "",
            "http://unix:/run/ucloud-slurm/web.sock": web,
            "http://unix:/run/ucloud-slurm-files/files.sock": files,
        },
    )
    return shipped + (
        f"server {{ listen 127.0.0.1:{static}; root {folder}; sendfile on; tcp_nopush on; client_max_body_size 0; "
        "location /dav/ { dav_methods PUT; } }\n"
    )


def _line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def _pss(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
