"""The operator's page in a real browser without JavaScript: its link, its form and its links work under its own policy."""

from collections.abc import Iterator

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from tests.conftest import Clock, World
from tests.rooms.page import conftest as room
from tests.rooms.page.conftest import Page
from tests.sandbox import packages
from tests.support.factories import accept_live, new_job
from tests.support.web import PATIENCE, chromium, shoot
from ucloud_slurm.page.guard import Guard
from ucloud_slurm.store.job_state import Stop

pytestmark = pytest.mark.real

page = room.page


@pytest.fixture
def acting(world: World, clock: Clock) -> Iterator[Page]:
    """The page with acts, whose link nobody has opened yet."""
    with room.paged(world.provider, clock, Guard("grace")) as page:
        yield page


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    folder = tmp_path_factory.mktemp("browser")
    packages.install(packages.missing(packages.BROWSER), folder / "apt-get.log", print)
    with chromium(folder) as driver:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
        yield driver


def test_an_operator_opens_the_link_and_finds_the_life_of_a_job(world: World, page: Page, browser: webdriver.Chrome) -> None:
    browser.get(page.link)
    assert browser.current_url == f"{page.url}/"
    job = world.submit(name="Fold 1UBQ")
    for number in range(3):
        accept_live(world.provider.jobs, new_job(str(number)), 7000 + number)
    world.model.begin_run(world.slurm(job))
    world.work(1200)
    world.model.end(world.slurm(job))
    world.work(60)
    world.provider.store.change(
        "update jobs set owner = 'Ada#1815', local_user = 'ada', project = 'protein-folding' where id = ?", [job]
    )
    browser.find_element(By.LINK_TEXT, "Jobs").click()
    assert len(browser.find_elements(By.CSS_SELECTOR, "tbody tr")) == 4
    browser.find_element(By.NAME, "state").find_element(By.XPATH, "option[text()='success']").click()
    browser.find_element(By.XPATH, "//button[text()='Search']").click()
    (found,) = browser.find_elements(By.CSS_SELECTOR, "tbody th a")
    found.click()
    assert browser.find_element(By.TAG_NAME, "h1").text == f"Job {job} success"
    life = [each.text for each in browser.find_elements(By.CSS_SELECTOR, ".life .what")]
    assert any(line.startswith("The job started") for line in life)
    browser.set_window_size(1200, 1150)
    shoot(browser, "operators-page")
    browser.find_element(By.LINK_TEXT, "Use").click()
    (bars,) = browser.find_elements(By.CSS_SELECTOR, "svg path.s0")
    assert bars.size["height"] > 20, "they are drawn"
    assert browser.find_element(By.TAG_NAME, "body").value_of_css_property("margin") == "0px", "the style is applied"
    log: list[object] = browser.get_log("browser")  # type: ignore[no-untyped-call]
    assert log == [], "nothing is blocked or missing"


def test_an_operator_cancels_a_job_after_the_page_has_said_what_will_happen(
    world: World, acting: Page, browser: webdriver.Chrome
) -> None:
    job = world.submit(name="Fold 1UBQ")
    world.model.begin_run(world.slurm(job))
    world.work(60)
    browser.get(acting.link)
    browser.get(f"{acting.url}/jobs/{job}")
    browser.find_element(By.LINK_TEXT, "Cancel the job").click()
    assert "This cannot be undone." in browser.find_element(By.CSS_SELECTOR, ".plan").text
    assert world.row(job).stop is None
    browser.find_element(By.NAME, "why").send_keys("The node is repaired.")
    browser.set_window_size(1200, 700)
    shoot(browser, "operators-act")
    browser.find_element(By.XPATH, "//button[text()='Cancel the job']").click()
    WebDriverWait(browser, PATIENCE).until(lambda shown: shown.current_url.startswith(f"{acting.url}/jobs/{job}?"))
    assert f"Slurm was asked to cancel job {job}" in browser.find_element(By.CSS_SELECTOR, "[role=status]").text
    assert world.row(job).stop is Stop.CANCELLED
    browser.find_element(By.LINK_TEXT, "Acts").click()
    (act,) = browser.find_elements(By.CSS_SELECTOR, "tbody tr")
    assert f"cancelled the job {job}: The node is repaired." in act.text
    log: list[object] = browser.get_log("browser")  # type: ignore[no-untyped-call]
    assert log == [], "nothing is blocked or missing"
