"""UCloud's page about files in a real browser (:mod:`tests.sandbox.core.web_client`), and a hand that uses it."""

from pathlib import Path

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from tests.sandbox.processes import wait_until

PATIENCE = 60.0


class FilePage:
    """The page, as one user has it before them."""

    def __init__(self, browser: webdriver.Chrome, url: str, downloads: Path) -> None:
        """Opens it.

        :param downloads: the folder for what is downloaded
        """
        self._browser = browser
        self._downloads = downloads
        self._url = url
        allowed = {"behavior": "allow", "downloadPath": str(downloads)}
        browser.execute_cdp_cmd("Browser.setDownloadBehavior", allowed)
        self.load()

    def load(self) -> None:
        """Loads the page anew."""
        self._browser.get(self._url)
        wait_until("there are drives", lambda: self._rows("drives") != {}, seconds=PATIENCE)

    @property
    def problem(self) -> str:
        """What the page says that is wrong."""
        return self._browser.find_element(By.ID, "problem").text

    def open_drive(self, title: str) -> None:
        """Opens a drive by its title."""
        self._press("drives", title)
        self._wait_for_list()

    def open(self, name: str) -> None:
        """Opens a folder of the list."""
        self._press("entries", name)
        self._wait_for_list()

    def open_output(self, job_id: str) -> None:
        """Opens the folder of a job that has ended."""

        def is_offered() -> bool:
            self.load()
            return any(row.get_attribute("data-folder") for row in self._jobs(job_id))

        wait_until(f"the folder of job {job_id} is offered", is_offered, seconds=PATIENCE)
        self._jobs(job_id)[0].click()
        self._wait_for_list()

    def names(self) -> list[str]:
        """What the list shows, in order."""
        return list(self._rows("entries"))

    def upload_file(self, path: Path) -> str:
        """Chooses a file to be uploaded; returns what the page says in the end."""
        return self._upload("file", path)

    def upload_folder(self, path: Path) -> str:
        """Chooses a folder to be uploaded; returns what the page says in the end."""
        return self._upload("folder", path)

    def download(self, name: str) -> bytes:
        """Presses "Download"; returns what the browser has stored. The page stays."""
        self._rows("entries")[name].find_element(By.CLASS_NAME, "download").click()
        file = self._downloads / name
        wait_until(f"{name} is downloaded", file.exists, seconds=PATIENCE)  # a file that is not whole has another name
        assert self._browser.current_url == self._url
        return file.read_bytes()

    def preview(self, name: str) -> str:
        """Looks at a file on the page itself."""
        self._browser.execute_script("document.getElementById('preview').textContent = ''")
        self._press("entries", name)
        shown = self._browser.find_element(By.ID, "preview")
        wait_until("it is shown", lambda: shown.text != "", seconds=PATIENCE)
        return shown.text

    def _upload(self, kind: str, path: Path) -> str:
        before = len(self._browser.find_elements(By.CSS_SELECTOR, "#uploads li"))
        self._browser.find_element(By.ID, kind).send_keys(str(path))
        done = "#uploads li:not([data-state=running])"
        wait_until("it has ended", lambda: len(self._browser.find_elements(By.CSS_SELECTOR, done)) > before, seconds=PATIENCE)
        row = self._browser.find_elements(By.CSS_SELECTOR, done)[before]
        self._wait_for_list()
        return f"{row.get_attribute('data-state')}: {row.find_element(By.TAG_NAME, 'span').text}"

    def _jobs(self, job_id: str) -> list[WebElement]:
        return self._browser.find_elements(By.CSS_SELECTOR, f"#jobs li[data-job='{job_id}']")

    def _rows(self, list_id: str) -> dict[str, WebElement]:
        rows = self._browser.find_elements(By.CSS_SELECTOR, f"#{list_id} li")
        return {row.get_attribute("data-name") or "": row for row in rows}

    def _press(self, list_id: str, name: str) -> None:
        self._rows(list_id)[name].find_element(By.CLASS_NAME, "name").click()

    def _wait_for_list(self) -> None:
        ready = "return !document.body.dataset.loading"
        wait_until("the list is there", lambda: bool(self._browser.execute_script(ready)), seconds=PATIENCE)
