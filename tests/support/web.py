"""Jobs' web pages as a browser, or somebody without one, reaches them: a site, nginx, and visitors."""

import http.client
import json
import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from selenium import webdriver

from tests.conftest import site_opener
from tests.sandbox import nginx
from tests.sandbox.cluster import Cluster
from tests.sandbox.core import SimulatedCore
from tests.sandbox.installation import Installation
from tests.sandbox.site import Site, free_port
from tests.support.factories import application, word
from tests.support.tls import certificate

SCREENSHOTS = os.environ.get("UCLOUD_SLURM_SCREENSHOTS")  # a folder
PATIENCE = 60.0
PORT = '"$UCLOUD_PORT"'


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        """What it says, for an answer of the application."""
        assert self.headers.get("X-Own") == "yes", self
        return json.loads(self.text)


@dataclass
class Visitor:
    """Somebody with cookies, and without a browser's manners."""

    port: int
    cookies: dict[str, str] = field(default_factory=dict)

    def ask(self, url: str, verb: str = "GET", body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Asks nginx, with the cookie of the host unless another is given."""
        parts = urlsplit(url)
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=30, context=context)
        cookie = {"Cookie": self.cookies[parts.netloc]} if parts.netloc in self.cookies else {}
        try:
            path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
            connection.request(verb, path, body, {"Host": parts.netloc} | cookie | dict(headers or {}))
            answer = connection.getresponse()
            for name, morsel in SimpleCookie(answer.headers.get("Set-Cookie", "")).items():
                self.cookies[parts.netloc] = f"{name}={morsel.value}"
            return Answer(answer.status, dict(answer.headers), answer.read().decode())
        finally:
            connection.close()

    def enter(self, link: str) -> str:
        """Opens a link of UCloud's; gives the address of the application, with a slash at its end."""
        assert self.ask(link).status == 303
        return link.partition("_ucloud/")[0]


@dataclass
class Web:
    """A site with nginx before it."""

    site: Site
    core: SimulatedCore
    cluster: Cluster
    apps: Path
    port: int

    def submit(self, kind: str, program: str, *arguments: str, replicas: int = 1, **more: Any) -> str:
        """A researcher starts one of tests/applications; gives the id of its job as soon as it runs."""
        words = " ".join((f"exec {self.apps}/{program}", *arguments))
        app = application(word("sh"), word("-c"), word(words), applicationType=kind, **more)
        self.core.catalogue.add_application(app)
        job_id = self.core.submit(
            application=(app["metadata"]["name"], "1.0"),
            product="example-compute-1",
            minutes=10,
            parameters={},
            replicas=replicas,
        )
        self.core.wait(job_id, "RUNNING", PATIENCE)
        return job_id

    def link(self, job_id: str, rank: int = 0, user: str | None = None) -> str:
        """What UCloud shows as the link to the web page of a job."""
        opened = self.core.open_session(job_id, rank, "WEB", user)
        assert opened is not None
        return str(opened["redirectClientTo"])

    def visit(self, job_id: str, rank: int = 0, user: str | None = None) -> tuple[Visitor, str]:
        """Somebody who has opened the web page of a job, and its address."""
        visitor = Visitor(self.port)
        return visitor, visitor.enter(self.link(job_id, rank, user))

    def folder(self, job_id: str) -> Path:
        return self.site.folder / "jobs" / job_id


@contextmanager
def web_opener(cluster: Cluster, installation: Installation, apps: Path, folder: Path, url: str) -> Iterator[Web]:
    """A site whose ``sessions.url`` is given, with a # for the port of nginx."""
    port = free_port()
    tables = {
        "sessions": {"url": url.replace("#", str(port)), "most_per_job": 100},
        "ucloud": {"origins": [f"https://cloud.localhost:{port}"]},
    }
    certificate(folder, "hpc.example.org")
    with site_opener(cluster, installation) as open_site:
        site, core = open_site(loop=1.0, workers=2, tables=tables)
        common = {
            "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
            "    listen [::]:443 ssl;\n": "",
            "http://unix:/run/ucloud-slurm/web.sock": site.url,
        }
        main = nginx.shipped(
            "nginx.conf",
            common
            | {
                "listen 80;": f"listen 127.0.0.1:{free_port()};",
                "    listen [::]:80;\n": "",
                "server_name hpc.example.org;": "server_name hpc.localhost;",
                "/etc/ssl/certs/hpc.example.org.pem": f"{folder}/cert.pem",
                "/etc/ssl/private/hpc.example.org.key": f"{folder}/key.pem",
            },
        )
        sessions = nginx.shipped("nginx-sessions.conf", {})
        sessions = sessions if "*." in url else nginx.path_form(sessions)
        sessions = nginx.changed(
            sessions,
            common
            | {
                "/etc/ssl/certs/apps.hpc.example.org.pem": f"{folder}/cert.pem",
                "/etc/ssl/private/apps.hpc.example.org.key": f"{folder}/key.pem",
            }
            | (
                {r"\.apps\.hpc\.example\.org$": r"\.apps\.localhost$"}
                if "*." in url
                else {"server_name apps.hpc.example.org;": "server_name apps.localhost;"}
            ),
        )
        # Where UCloud's own pages come from.
        ucloud = (
            f"server {{ listen 127.0.0.1:{port} ssl; server_name cloud.localhost; root /usr/share/novnc; "
            f"include /etc/nginx/mime.types; "
            f"ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem; }}\n"
        )
        with nginx.running(folder, main + sessions + ucloud, port):
            yield Web(site, core, cluster, apps, port)
        for job in core.jobs:
            cluster.run("scancel", "--quiet", f"--name=ucloud-{job.id}")


def is_waiting(answer: Answer) -> bool:
    return answer.status == 503 and "The application is starting" in answer.text and "refresh" in answer.text


def is_closed(answer: Answer) -> bool:
    return answer.status == 403 and "This session is closed" in answer.text


# -- in the browser ---------------------------------------------------------------------------------------------


def shoot(browser: webdriver.Chrome, name: str) -> None:
    """Keeps what the browser shows in a picture, for those who want to see."""
    if SCREENSHOTS:
        browser.save_screenshot(f"{SCREENSHOTS}/{name}.png")


@contextmanager
def chromium(folder: Path) -> Iterator[webdriver.Chrome]:
    """A browser without a screen, to which any certificate is good.

    :param folder: for what it writes
    """
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--ignore-certificate-errors",
        "--window-size=1200,900",
    ):
        options.add_argument(argument)
    environment = os.environ | {"TMPDIR": str(folder)}
    driver = webdriver.Chrome(options, webdriver.ChromeService("/usr/bin/chromedriver", env=environment))
    driver.set_page_load_timeout(PATIENCE)
    driver.set_script_timeout(PATIENCE)
    try:
        yield driver
    finally:
        driver.quit()
