"""The page of a connection in a real browser: it looks again by itself, and its buttons work under its own policy."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from tests.conftest import World
from tests.rooms.users.linking import conftest as room
from tests.rooms.users.linking.people import ADA, BOB, USER, ask, connect
from tests.sandbox import packages
from tests.sandbox.browser import CONNECT, NOT_MINE
from tests.sandbox.processes import wait_until
from tests.support.web import PATIENCE, chromium

pytestmark = pytest.mark.real

accounts, most, provider, world, path = room.accounts, room.most, room.provider, room.world, room.path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    folder = tmp_path_factory.mktemp("browser")
    packages.install(packages.missing(packages.BROWSER), folder / "apt-get.log", print)
    with chromium(folder) as driver:
        yield driver


def press(browser: webdriver.Chrome, button: str) -> None:
    browser.find_element(By.XPATH, f"//button[text()='{button}']").click()


def shows(browser: webdriver.Chrome, text: str) -> None:
    wait_until(f"the page shows {text}", lambda: text in browser.page_source, seconds=PATIENCE)


def test_the_page_asks_by_itself_and_its_answers_are_taken(world: World, path: Path, browser: webdriver.Chrome) -> None:
    browser.get(connect(world).address)
    for uid, button, then in ((BOB, NOT_MINE, "This is a new code"), (ADA, CONNECT, f"{USER} is connected with ada")):
        code = browser.find_elements(By.TAG_NAME, "pre")[1].text
        assert ask(path, uid, verb="claim", code=code)["username"] == USER
        shows(browser, NOT_MINE)
        press(browser, button)
        shows(browser, then)
    link = world.provider.people.of(USER)
    assert link is not None
    assert link.local_user == "ada"
