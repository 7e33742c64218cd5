"""P13: the page is open to the browser that has opened its link, and to nothing else that can connect."""

import http.client
import socket
from pathlib import Path

import requests

from tests.conftest import Clock, World
from tests.rooms.page.conftest import Page, serving
from ucloud_slurm.page.access import LINK_SECONDS, TRIES, Access
from ucloud_slurm.page.app import HEADERS, create_page
from ucloud_slurm.page.server import SLOTS
from ucloud_slurm.system import ipc

PORT = 8080


def routes(page: Page) -> list[str]:
    """An address of every route but those that are open: the style, and the link."""
    found = [str(rule.rule).replace("<job_id>", "1") for rule in page.app.url_map.iter_rules()]
    return [path for path in found if path not in ("/enter", "/static/<path:filename>")]


def test_a_link_opens_the_page_once(page: Page) -> None:
    first = page.browser.get(page.link, timeout=30)
    assert (first.status_code, first.url, "Health" in first.text) == (200, f"{page.url}/", True)
    assert page.look("/jobs").status_code == 200
    again = requests.get(page.link, timeout=30)
    assert (again.status_code, "A link works once" in again.text) == (403, True)
    assert page.look("/jobs").status_code == 200, "the browser that was first keeps its page"


def test_the_cookie_is_for_this_page_only(page: Page) -> None:
    cookie = requests.get(page.link, timeout=30, allow_redirects=False).headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert page.access.token not in cookie


def test_nothing_is_shown_without_the_cookie(page: Page) -> None:
    assert len(routes(page)) >= 9
    for path in routes(page):
        for cookie in ("", "x", page.access.token, "\N{SNOWMAN}"):
            headers = {"Cookie": f"ucloud-slurm-page={cookie}".encode()}
            answer = requests.get(page.url + path, headers=headers, timeout=30)
            assert (answer.status_code, "Health" in answer.text) == (403, False), (path, cookie)


def test_another_name_of_this_host_is_refused(opened: Page) -> None:
    port, cookie = opened.port, "; ".join(f"{each.name}={each.value}" for each in opened.browser.cookies)
    others = (
        "example.org",
        f"example.org:{port}",
        "127.0.0.1",
        "127.0.0.1:1",
        f"localhost.example.org:{port}",
        f"127.0.0.1:{port}x",
    )
    for host, status in ((f"localhost:{port}", 200), (f"127.0.0.1:{port}x", 421), *((other, 421) for other in others)):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/jobs", headers={"Host": host, "Cookie": cookie})
        answer = connection.getresponse()
        assert (answer.status, b"Search" in answer.read()) == (status, status == 200), host
        connection.close()


def test_nothing_can_be_changed(opened: Page) -> None:
    for path in routes(opened):
        for verb in ("POST", "PUT", "DELETE"):
            answer = opened.browser.request(verb, opened.url + path, data={"x": "y"}, timeout=30)
            assert answer.status_code == 405, path


def test_every_answer_forbids_scripts_frames_and_caches(opened: Page) -> None:
    for path in ("/", "/jobs", "/jobs/none", "/jobs?state=none", "/static/page.css", "/none"):
        answer = opened.look(path)
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS, path
        assert "werkzeug" not in str(answer.headers).lower()
    assert "script-src" not in HEADERS["Content-Security-Policy"]
    assert HEADERS["Content-Security-Policy"].startswith("default-src 'none';")


def test_a_token_is_void_when_it_was_used_is_too_old_or_was_guessed_at(clock: Clock) -> None:
    used, old, guessed = Access(clock, PORT), Access(clock, PORT), Access(clock, PORT)
    assert used.admits(used.enter(used.token) or "")
    assert used.enter(used.token) is None
    for number in range(TRIES):
        assert guessed.enter(f"guess {number}") is None
    assert guessed.enter(guessed.token) is None
    clock.advance(LINK_SECONDS + 1)
    assert old.enter(old.token) is None


def test_a_few_wrong_tokens_do_not_close_the_page(clock: Clock) -> None:
    access = Access(clock, PORT)
    for _ in range(TRIES - 1):
        assert access.enter("") is None
    assert access.enter(access.token) is not None


def test_two_pages_in_one_browser_have_cookies_of_their_own(clock: Clock) -> None:
    """The ports of 127.0.0.1 share their cookies."""
    assert Access(clock, PORT).cookie_name != Access(clock, PORT + 1).cookie_name


def test_the_page_is_idle_while_only_strangers_ask(clock: Clock) -> None:
    access = Access(clock, PORT)
    cookie = access.enter(access.token)
    assert cookie is not None
    clock.advance(100)
    access.admits("stranger")
    assert access.idle_seconds() == 100
    access.admits(cookie)
    assert access.idle_seconds() == 0


def test_connections_that_say_nothing_take_no_more_than_their_slots(page: Page) -> None:
    silent = [socket.create_connection(("127.0.0.1", page.port), timeout=30) for _ in range(SLOTS)]
    one_more = socket.create_connection(("127.0.0.1", page.port), timeout=30)
    assert one_more.recv(1) == b"", "it is closed at once"
    for connection in (*silent, one_more):
        connection.close()


def test_behind_a_proxy_the_socket_is_what_admits(world: World, tmp_path: Path) -> None:
    path = tmp_path / "page.sock"
    with ipc.listener(path, 0o660) as listening, serving(listening, create_page(world.provider, None)):
        assert path.stat().st_mode & 0o777 == 0o660
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30)
            connection.connect(str(path))
            connection.sendall(b"GET /jobs HTTP/1.1\r\nHost: hpc.example.org\r\n\r\n")
            answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"There is no such job." in answer
