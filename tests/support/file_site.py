"""A site whose users have drives, as UCloud's users reach it: the file unit, the runner, nginx, and UCloud's own page."""

import pwd
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import site_opener
from tests.sandbox import nginx
from tests.sandbox.cluster import Cluster
from tests.sandbox.core import SimulatedCore
from tests.sandbox.core.web_client import WebClient
from tests.sandbox.installation import Installation
from tests.sandbox.processes import wait_until
from tests.sandbox.site import Site, free_port
from tests.support.people import ALICE, LINKS
from tests.support.tls import certificate

PATIENCE = 120.0
HOME = {"name": "home", "title": "Home", "local": "{home}"}
NAMES = ("here", "measured", "big.bin", "page.html", "secret", "sent", "folder", "whole", "copied", "again")
CLOUD, STRANGE, PROVIDER = "cloud.localhost", "strange.localhost", "hpc.localhost"


@dataclass
class FileSite:
    """Such a site, and alice's drive there.

    :ivar page: where UCloud's page is
    :ivar strange_page: the same page at an address that is not UCloud's
    """

    site: Site
    core: SimulatedCore
    cluster: Cluster
    page: str
    strange_page: str

    @property
    def home(self) -> Path:
        """Alice's home."""
        return Path(pwd.getpwnam("alice").pw_dir)

    @property
    def drive(self) -> str:
        """UCloud's id of alice's drive."""
        return self.core.drives.named(f"h-example/home/{ALICE}").id

    def start_job(self, app: dict[str, Any], **parameters: Any) -> str:
        """Alice starts a job."""
        self.core.catalogue.add_application(app)
        return self.core.submit(
            application=(app["metadata"]["name"], "1.0"),
            product="example-compute-1",
            owner=ALICE,
            minutes=10,
            parameters=parameters,
        )


@contextmanager
def file_site(cluster: Cluster, installation: Installation, folder: Path) -> Iterator[FileSite]:
    """Such a site, without what a run before has left in alice's home."""
    home = Path(pwd.getpwnam("alice").pw_dir)
    for name in ("ucloud-jobs", "Trash", *NAMES):
        shutil.rmtree(home / name, ignore_errors=True)
        if (home / name).is_file():
            (home / name).unlink()
    port = free_port()
    page = f"https://{CLOUD}:{port}"
    tables = {"provider": {"url": f"https://{PROVIDER}:{port}"}, "ucloud": {"origins": [page]}}
    certificate(folder, "hpc.example.org")
    with site_opener(cluster, installation) as open_site:
        site, core = open_site(workers=2, era="today", links=LINKS, drives=[HOME], tables=tables)
        files = site.serve_files()
        client = WebClient(core, ALICE)
        try:
            site.cli("products", "sync", "--yes")
            core.retrieve_drive_products()
            core.directory.add_user(ALICE)
            core.accounts.set_quota(10**9, ALICE)
            site.listen()
            core.wait_until(lambda: core.notifications.connected > 0, PATIENCE, "the listener")
            site.loop(0.5)
            wait_until("alice has a drive", lambda: core.browse_drives(ALICE) != [], seconds=PATIENCE)
            with nginx.running(folder, _nginx(folder, port, site.url, files, client.url), port):
                yield FileSite(site, core, cluster, f"{page}/", f"https://{STRANGE}:{port}/")
        finally:
            client.close()
    cluster.run("scancel", "--user=alice")


def _nginx(folder: Path, port: int, web: str, files: str, client: str) -> str:
    """The shipped configuration, and a server for UCloud's page at two addresses."""
    shipped = nginx.shipped(
        "nginx.conf",
        {
            "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
            "    listen [::]:443 ssl;\n": "",
            "listen 80;": f"listen 127.0.0.1:{free_port()};",
            "    listen [::]:80;\n": "",
            "server_name hpc.example.org;": f"server_name {PROVIDER};",
            "http://unix:/run/ucloud-slurm/web.sock": web,
            "http://unix:/run/ucloud-slurm-files/files.sock": files,
            "/etc/ssl/certs/hpc.example.org.pem": f"{folder}/cert.pem",
            "/etc/ssl/private/hpc.example.org.key": f"{folder}/key.pem",
        },
    )
    ucloud = (
        f"server {{ listen 127.0.0.1:{port} ssl; server_name {CLOUD} {STRANGE}; location / {{ proxy_pass {client}; }} "
        f"ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem; }}\n"
    )
    return shipped + ucloud
