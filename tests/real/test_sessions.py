"""Web pages and screens of jobs on the real cluster, through the shipped nginx, in a real browser."""

import base64
import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By

from tests.sandbox import packages
from tests.sandbox.cluster import Cluster
from tests.sandbox.installation import Installation
from tests.sandbox.processes import answers, wait_until
from tests.support.web import PATIENCE, PORT, Visitor, Web, chromium, is_closed, is_waiting, shoot, web_opener
from ucloud_slurm.web.announcements import AGAIN_SECONDS, FRESH_SECONDS

HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(b"0123456789abcdef").decode(),
}


@pytest.fixture(scope="module")
def apps(cluster: Cluster) -> Path:
    """The applications, where jobs can read them, and what they need."""
    packages.install(packages.missing(packages.SESSIONS), cluster.folder / "apt-get.log", print)
    folder = cluster.folder / "apps"
    folder.mkdir(mode=0o755, exist_ok=True)
    for path in (Path(__file__).parent / "applications").glob("*.*"):
        shutil.copyfile(path, folder / path.name)
        (folder / path.name).chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def web(cluster: Cluster, installation: Installation, apps: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """Every session has a host name of its own."""
    folder = tmp_path_factory.mktemp("nginx")
    with web_opener(cluster, installation, apps, folder, "https://*.apps.localhost:#") as web:
        yield web


@pytest.fixture(scope="module")
def job(web: Web) -> str:
    """A job with two nodes that echoes."""
    job_id = web.submit("WEB", "echo.py", PORT, replicas=2)
    pages = [web.visit(job_id, rank) for rank in (0, 1)]
    wait_until("both are up", lambda: all(who.ask(base).status == 200 for who, base in pages), seconds=PATIENCE)
    return job_id


@pytest.fixture(scope="module")
def browser(apps: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """A browser without a screen, to which any certificate is good."""
    with chromium(tmp_path_factory.mktemp("browser")) as driver:
        yield driver


def shown(browser: webdriver.Chrome) -> str:
    """The text of the page."""
    return str(browser.execute_script("return document.body ? document.body.innerText : ''"))


def run_the_cell(browser: webdriver.Chrome) -> str:
    """Runs the cell of the notebook that is open; gives what it prints."""
    ready = "return !!(window.Jupyter && Jupyter.notebook && Jupyter.notebook.kernel && Jupyter.notebook.kernel.is_connected())"
    wait_until("the kernel is connected", lambda: bool(browser.execute_script(ready)), seconds=PATIENCE)
    browser.execute_script("Jupyter.notebook.execute_cells([0])")
    output = "return document.querySelector('.output_stdout') ? document.querySelector('.output_stdout').innerText.trim() : ''"
    wait_until("the cell has printed", lambda: bool(browser.execute_script(output)), seconds=PATIENCE)
    return str(browser.execute_script(output))


def test_a_notebook_is_reached_through_nginx_in_a_browser(web: Web, browser: webdriver.Chrome) -> None:
    job_id = web.submit("WEB", "notebook.sh")
    browser.get(web.link(job_id))
    # The link, a cookie, perhaps a while of waiting, and then the page that the job has named.
    wait_until("the notebook opens", lambda: "/notebooks/work.ipynb" in browser.current_url, seconds=PATIENCE)
    assert run_the_cell(browser) == f"{job_id} 42"
    shoot(browser, "jupyter")
    web.core.terminate(job_id)


def test_a_screen_is_shown_by_novnc(web: Web, browser: webdriver.Chrome) -> None:
    job_id = web.submit("VNC", "screen.sh", "duckling", vnc={"password": "duckling", "port": 5900})
    file = web.folder(job_id) / "port-0"
    wait_until("a port is announced", lambda: file.exists() and file.read_text() != "", seconds=PATIENCE)
    port = int(file.read_text())
    wait_until("the screen is there", lambda: answers("127.0.0.1", port), seconds=PATIENCE)
    opened = web.core.open_session(job_id, 0, "VNC")
    assert opened is not None
    assert opened["password"] == "duckling"
    link = urlsplit(opened["url"])
    assert link.scheme == "wss"
    path = quote(f"{link.path[1:]}?{link.query}", safe="")
    browser.get(
        f"https://cloud.localhost:{web.port}/vnc_lite.html?host={link.hostname}&port={link.port}&password=duckling&path={path}"
    )
    colours = """
        const canvas = document.querySelector('canvas');
        if (!canvas || !canvas.width) return 0;
        const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        const found = new Set();
        for (let i = 0; i < data.length; i += 4) found.add(data[i] << 16 | data[i + 1] << 8 | data[i + 2]);
        return found.size;
    """
    wait_until("a window is shown", lambda: browser.execute_script(colours) > 2, seconds=PATIENCE)
    canvas = browser.find_element(By.TAG_NAME, "canvas")
    ActionChains(browser).move_to_element(canvas).click().send_keys("hello from a browser\n").perform()
    typed = web.folder(job_id) / "typed"
    wait_until("the job has read it", lambda: typed.exists() and typed.read_text() != "", seconds=PATIENCE)
    shoot(browser, "novnc")
    assert typed.read_text() == "hello from a browser\n"
    # Its link works once as well.
    assert is_closed(Visitor(web.port).ask(opened["url"], headers=HANDSHAKE))
    web.core.terminate(job_id)


def test_a_screens_link_is_not_spent_before_there_is_a_screen(web: Web) -> None:
    job_id = web.submit("VNC", "slow.sh", vnc={"password": None, "port": 5900})
    wait_until("it has begun", (web.folder(job_id) / "begun").exists, seconds=PATIENCE)
    opened = web.core.open_session(job_id, 0, "VNC")
    assert opened is not None
    assert is_waiting(Visitor(web.port).ask(opened["url"], headers=HANDSHAKE))
    (web.folder(job_id) / "announce").touch()
    file = web.folder(job_id) / "port-0"
    wait_until("a port is announced", lambda: file.exists() and file.read_text() != "", seconds=PATIENCE)
    assert is_waiting(Visitor(web.port).ask(opened["url"], headers=HANDSHAKE))
    (web.folder(job_id) / "listen").touch()
    port = int(file.read_text())
    wait_until("it listens", lambda: answers("127.0.0.1", port), seconds=PATIENCE)
    # Each look is bounded, and a busy host may need a second one: until then it is the page that waits.
    seen = list[int]()

    def shown_or_waiting() -> bool:
        answer = Visitor(web.port).ask(opened["url"], headers=HANDSHAKE)
        seen.append(answer.status)
        return not is_waiting(answer)

    wait_until("the screen is there", shown_or_waiting, seconds=PATIENCE)
    assert seen[-1] == 200
    assert is_closed(Visitor(web.port).ask(opened["url"], headers=HANDSHAKE))
    web.core.terminate(job_id)


def test_an_application_that_is_not_up_yet_is_a_waiting_page(web: Web, browser: webdriver.Chrome) -> None:
    job_id = web.submit("WEB", "slow.sh")
    wait_until("it has begun", (web.folder(job_id) / "begun").exists, seconds=PATIENCE)
    visitor, base = web.visit(job_id)
    browser.get(web.link(job_id))
    assert "The application is starting" in shown(browser)
    assert is_waiting(visitor.ask(base))
    assert is_waiting(visitor.ask(f"{base}_ucloud/go"))
    (web.folder(job_id) / "announce").touch()
    wait_until("a port is announced", lambda: visitor.ask(f"{base}_ucloud/go").status == 303, seconds=PATIENCE)
    assert is_waiting(visitor.ask(base))
    assert is_waiting(visitor.ask(base, "POST", b"x"))
    (web.folder(job_id) / "listen").touch()
    # Nobody touches the browser: its page looks again by itself.
    wait_until("the application is shown", lambda: '"rank"' in shown(browser), seconds=PATIENCE)
    assert visitor.ask(base).json["path"] == "/"
    web.core.terminate(job_id)


# -- who may see what -------------------------------------------------------------------------------------------


def test_every_node_of_a_job_has_a_page_of_its_own(web: Web, job: str) -> None:
    pages = [web.visit(job, rank) for rank in (0, 1)]
    assert [visitor.ask(base).json["rank"] for visitor, base in pages] == ["0", "1"]


def test_a_link_works_once(web: Web, job: str) -> None:
    link = web.link(job)
    visitor = Visitor(web.port)
    base = visitor.enter(link)
    other = Visitor(web.port)
    answer = other.ask(link)
    assert answer.status == 403
    assert "does not work any more" in answer.text
    assert other.cookies == {}
    assert is_closed(other.ask(base))
    # Again in the same browser it leads to the page that is open already.
    visitor.enter(link)
    assert visitor.ask(base).status == 200


def test_a_link_does_not_work_at_another_address(web: Web, job: str) -> None:
    one, two = urlsplit(web.link(job)), urlsplit(web.link(job))
    assert Visitor(web.port).ask(two._replace(netloc=one.netloc).geturl()).status == 403


def test_a_stolen_label_without_the_cookie_is_refused(web: Web, job: str) -> None:
    visitor, base = web.visit(job)
    thief = Visitor(web.port)
    label = urlsplit(base).netloc.partition(".")[0]
    assert is_closed(thief.ask(base))
    for headers in (
        {"X-UCloud-Session": label, "X-UCloud-Upstream": "127.0.0.1:1", "X-Original-URI": "/"},
        {"Cookie": "__Host-ucloud-session=guessed"},
        {"Cookie": f"__Host-ucloud-session={label}", "X_UCloud_Session": label},
    ):
        assert is_closed(thief.ask(base, headers=headers)), headers
    assert is_closed(thief.ask(f"{base}_ucloud/vnc?token=guessed"))
    assert thief.ask(f"{base}_ucloud/go").status == 403
    for page in ("authorize", "waiting", "closed", "", "other"):
        assert visitor.ask(f"{base}_ucloud/{page}").status == 404, page
    assert visitor.ask(base).status == 200


def test_the_cookie_of_one_session_does_not_open_another(web: Web, job: str) -> None:
    (one, here), (_, there) = web.visit(job), web.visit(job)
    (cookie,) = one.cookies.values()
    label = urlsplit(here).netloc.partition(".")[0]
    assert is_closed(one.ask(there, headers={"Cookie": cookie}))
    assert is_closed(one.ask(there, headers={"Cookie": cookie, "X-UCloud-Session": label}))
    assert one.ask(here).status == 200


def test_the_application_never_sees_our_cookie(web: Web, job: str) -> None:
    visitor, base = web.visit(job)
    (ours,) = visitor.cookies.values()
    for sent, seen in (
        (ours, None),
        (f"{ours}; a=1; b=2", "a=1; b=2"),
        (f"a=1; {ours}; b=2", "a=1; b=2"),
        (f"a=1; b=2; {ours}", "a=1; b=2"),
        (f"a=1;{ours};b=2", "a=1;b=2"),
        (f"{ours};", None),
        (f"a=1; not{ours}; {ours}", f"a=1; not{ours}"),
    ):
        answer = visitor.ask(base, headers={"Cookie": sent})
        assert answer.json["headers"].get("Cookie") == seen, sent


def test_the_rest_of_a_request_and_of_its_answer_passes_unchanged(web: Web, job: str) -> None:
    visitor, base = web.visit(job)
    path = "a%2Fb/%C3%A9/../c?x=%20&y=//z"
    own = {"X-Mine": "1", "Authorization": "token t"}
    asked = visitor.ask(base + path, "POST", b"x" * 3_000_000, own).json
    assert asked["path"] == f"/{path}"
    assert asked["size"] == 3_000_000
    sent = asked["headers"]
    assert (sent["Host"], sent["X-Forwarded-Proto"]) == (urlsplit(base).netloc, "https")
    assert own.items() <= sent.items()
    for status in (401, 403, 404, 500, 502, 503, 504):
        answer = visitor.ask(f"{base}status/{status}")
        assert answer.status == status
        assert answer.json["path"] == f"/status/{status}"


def test_an_application_cannot_steer_nginx(web: Web, job: str) -> None:
    visitor, base = web.visit(job)
    assert visitor.ask(f"{base}accel").json["path"] == "/accel"


@contextmanager
def privileged_port() -> Iterator[tuple[int, list[Any]]]:
    """A service of the node, which has a port below 1024; and who has come to it."""
    came: list[Any] = []
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        for port in range(1023, 600, -1):
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            break
        listener.listen()

        def accept() -> None:
            try:
                while True:
                    connection, peer = listener.accept()
                    came.append(peer)
                    connection.close()
            except OSError:
                return

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1], came
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_nginx_goes_nowhere_else(web: Web, job: str) -> None:
    """A job can write what it likes into the file, or put something else into its place."""
    file = web.folder(job) / "port-0"
    port = file.read_text().strip()
    owner = file.stat()
    elsewhere = web.folder(job) / "elsewhere"

    def write(text: str) -> None:
        file.unlink(missing_ok=True)
        file.write_text(text)
        os.chown(file, owner.st_uid, owner.st_gid)

    def link() -> None:
        write(port)
        file.rename(elsewhere)
        file.symlink_to(elsewhere)
        os.chown(file, owner.st_uid, owner.st_gid, follow_symlinks=False)

    def pipe() -> None:
        file.unlink()
        os.mkfifo(file)
        os.chown(file, owner.st_uid, owner.st_gid)

    def of_another_account() -> None:
        file.unlink()
        file.write_text(port)

    with privileged_port() as (privileged, came):
        try:
            texts = (
                str(privileged),
                "0",
                "65536",
                "99999",
                f"0x{int(port):x}",
                f"127.0.0.1:{port}",
                f"{port}:80",
                f"{port}\n80",
                f"{port} /\r\nX: y",
                f"{port} //elsewhere.example.org/",
                f"{port} /\\elsewhere",
                f"-{port}",
                f"{port}@127.0.0.1",
                "",
                "\0",
                "9" * 5000,
            )
            wrong = [(repr(text)[:40], lambda text=text: write(text)) for text in texts]
            visitor, base = web.visit(job)
            write("")
            until = time.monotonic() + FRESH_SECONDS  # after which each process reads the file again
            while time.monotonic() < until or not is_waiting(visitor.ask(base)):
                visitor.ask(base)
            for name, make in (*wrong, ("link", link), ("pipe", pipe), ("of another account", of_another_account)):
                make()
                until = time.monotonic() + 2 * AGAIN_SECONDS  # by which the file is read
                while time.monotonic() < until:
                    assert is_waiting(visitor.ask(base)), name
                    assert is_waiting(visitor.ask(f"{base}_ucloud/go")), name
        finally:
            write(port + "\n")
    assert came == []
    wait_until("the port is known again", lambda: visitor.ask(base).status == 200, seconds=PATIENCE)


def test_a_closed_job_closes_its_pages(web: Web) -> None:
    job_id = web.submit("WEB", "echo.py", PORT)
    visitor, base = web.visit(job_id)
    wait_until("the application is up", lambda: visitor.ask(base).status == 200, seconds=PATIENCE)
    late = web.link(job_id)
    web.core.terminate(job_id)
    assert is_closed(visitor.ask(base))
    assert Visitor(web.port).ask(late).status == 403
    web.core.wait(job_id, "SUCCESS", PATIENCE)
    assert is_closed(visitor.ask(base))
    assert visitor.ask(f"{base}_ucloud/go").status == 403


def test_access_taken_away_closes_pages(web: Web, job: str) -> None:
    guest = {"type": "user", "username": "guest"}
    web.core.update_acl(job, added=[{"entity": guest, "permissions": ["READ"]}])
    (visitor, base), (owner, own) = web.visit(job, user="guest"), web.visit(job)
    assert visitor.ask(base).status == 200
    web.core.update_acl(job, deleted=[guest])
    assert is_closed(visitor.ask(base))
    assert owner.ask(own).status == 200


# -- all sessions at one host -----------------------------------------------------------------------------------


def test_below_a_path_of_one_host_an_application_is_reached_as_well(
    cluster: Cluster, installation: Installation, apps: Path, tmp_path: Path, browser: webdriver.Chrome
) -> None:
    url = "https://apps.localhost:#/session/*"
    with web_opener(cluster, installation, apps, tmp_path, url) as web:
        job_id = web.submit("WEB", "echo.py", PORT, replicas=2)
        for rank in (0, 1):
            base = f"/session/{job_id}-{rank}/"
            browser.get(web.link(job_id, rank))
            wait_until("the application is shown", lambda: '"rank"' in shown(browser), seconds=PATIENCE)
            assert urlsplit(browser.current_url).path == base
            assert browser.execute_script("return performance.getEntriesByType('navigation')[0].responseStatus") == 200
            said = json.loads(shown(browser))
            assert (said["rank"], said["path"], said["headers"].get("Cookie")) == (str(rank), base, None)
            browser.get(browser.current_url + "deeper?x=1")
            assert json.loads(shown(browser))["path"] == f"{base}deeper?x=1"
            host = f"https://apps.localhost:{web.port}"
            assert is_closed(Visitor(web.port).ask(host + base))
            assert Visitor(web.port).ask(host + "/").status == 404


# -- the service itself -----------------------------------------------------------------------------------------

SHELL = """
const [url, session, done] = arguments;
const socket = new WebSocket(url);
const send = (id, payload) =>
    socket.send(JSON.stringify({call: 'jobs.compute.example.shell.open', streamId: id, payload}));
let text = '';
socket.onopen = () => send('0', {type: 'initialize', sessionIdentifier: session, cols: 80, rows: 24});
socket.onclose = () => done('closed after: ' + text);
socket.onmessage = event => {
    const frame = JSON.parse(event.data);
    if (frame.payload && frame.payload.type === 'initialize') send('1', {type: 'input', data: 'echo $((6 * 7)).\\n'});
    if (frame.payload && frame.payload.type === 'data') text += frame.payload.data;
    if (text.includes('42.')) done('42.');
};
"""


def test_a_shell_is_opened_through_nginx_in_a_browser(web: Web, job: str, browser: webdriver.Chrome) -> None:
    opened = web.core.open_session(job, 0, "SHELL")
    assert opened is not None
    browser.get(f"https://cloud.localhost:{web.port}/package.json")
    url = f"wss://hpc.localhost:{web.port}/ucloud/example/websocket"
    assert browser.execute_async_script(SHELL, url, opened["sessionIdentifier"]) == "42."
