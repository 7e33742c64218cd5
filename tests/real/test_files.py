"""A researcher's files on the real cluster: seen, sent, used by a job and fetched, in a real browser through nginx."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver

from tests.sandbox import packages
from tests.sandbox.cluster import Cluster
from tests.sandbox.installation import Installation
from tests.sandbox.processes import wait_until
from tests.support.factories import application, parameter, var, word
from tests.support.file_page import FilePage
from tests.support.file_site import PATIENCE, FileSite, file_site
from tests.support.people import ALICE
from tests.support.web import chromium, shoot

pytestmark = pytest.mark.beside  # with the others that use alice's home
UPPER = 'tr a-z A-Z < "$0" > result.dat; echo done'


@pytest.fixture(scope="module")
def site(cluster: Cluster, installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileSite]:
    packages.install(packages.missing(packages.FILES), cluster.folder / "apt-get.log", print)
    with file_site(cluster, installation, tmp_path_factory.mktemp("nginx")) as site:
        yield site


@pytest.fixture(scope="module")
def browser(site: FileSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path_factory.mktemp("browser")) as driver:
        yield driver


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    folder = tmp_path / "downloads"
    folder.mkdir()
    return folder


@pytest.fixture
def page(site: FileSite, browser: webdriver.Chrome, downloads: Path) -> FilePage:
    return FilePage(browser, site.page, downloads)


def measured(folder: Path) -> dict[str, bytes]:
    """A folder of a researcher's own computer: a large file, an empty one, one below with another alphabet in its name."""
    files = {"in.dat": os.urandom(17_000_000), "empty": b"", "runs/første kørsel.txt": b"abc\n" * 1000}
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return files


def test_a_folder_is_uploaded_a_job_takes_its_input_from_it_and_the_result_is_downloaded(
    site: FileSite, browser: webdriver.Chrome, page: FilePage, tmp_path: Path
) -> None:
    (site.home / "here").mkdir(exist_ok=True)
    page.open_drive("Home")
    assert "here" in page.names()
    shoot(browser, "files-1-home")
    files = measured(tmp_path / "measured")
    assert page.upload_folder(tmp_path / "measured") == "done: Uploaded 3 of 3 files"
    shoot(browser, "files-2-folder-uploaded")
    assert {name: (site.home / "measured" / name).read_bytes() for name in files} == files
    assert {path.owner() for path in (site.home / "measured").rglob("*")} == {"alice"}
    page.open("measured")
    assert page.names() == ["empty", "in.dat", "runs"]
    app = application(word("sh"), word("-c"), word(UPPER), var("data"), parameters=[parameter("data", "input_file")])
    job_id = site.start_job(app, data={"type": "file", "path": f"/{site.drive}/measured/runs/første kørsel.txt"})
    site.core.wait(job_id, "SUCCESS", PATIENCE)
    page.open_output(job_id)
    assert "result.dat" in page.names()
    shoot(browser, "files-3-output-folder")
    assert page.download("result.dat") == files["runs/første kørsel.txt"].upper()
    shoot(browser, "files-4-result-downloaded")


def test_a_file_of_several_chunks_comes_and_goes_byte_for_byte(site: FileSite, page: FilePage, tmp_path: Path) -> None:
    data = os.urandom(33_000_000)
    (tmp_path / "big.bin").write_bytes(data)
    page.open_drive("Home")
    assert page.upload_file(tmp_path / "big.bin") == "done: done"
    assert (site.home / "big.bin").read_bytes() == data
    assert page.download("big.bin") == data


def test_a_file_is_looked_at_on_the_page_and_never_runs_there(site: FileSite, page: FilePage) -> None:
    text = "<script>document.title = 'owned'</script> & æøå"
    (site.home / "page.html").write_text(text)
    page.open_drive("Home")
    assert page.preview("page.html") == text
    assert page.download("page.html") == text.encode()


def test_a_page_that_is_not_uclouds_sends_and_sees_nothing(
    site: FileSite, browser: webdriver.Chrome, downloads: Path, tmp_path: Path
) -> None:
    (site.home / "secret").write_text("secret")
    (tmp_path / "sent").write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/sent").write_bytes(b"x")
    page = FilePage(browser, site.strange_page, downloads)
    page.open_drive("Home")
    assert page.upload_file(tmp_path / "sent") == "hangs: in progress"
    assert page.upload_folder(tmp_path / "folder") == "incomplete: Uploaded 0 of 1 files"
    assert "blocked" in page.preview("secret")
    assert not (site.home / "sent").exists()
    assert not (site.home / "folder/sent").exists()


def test_a_copy_is_made_as_its_user_and_the_trash_is_emptied(site: FileSite, page: FilePage) -> None:
    (site.home / "whole/deep").mkdir(parents=True)
    (site.home / "whole/deep/data").write_bytes(b"x" * 1_000_000)
    for path in (site.home / "whole", site.home / "whole/deep", site.home / "whole/deep/data"):
        os.chown(path, site.home.stat().st_uid, site.home.stat().st_gid)
    at = f"/{site.drive}"
    site.core.copy(ALICE, (f"{at}/whole", f"{at}/copied"))
    copy = site.home / "copied/deep/data"
    wait_until("it is copied", copy.exists, seconds=PATIENCE)
    assert (copy.owner(), copy.read_bytes()) == ("alice", b"x" * 1_000_000)
    site.core.trash(ALICE, f"{at}/whole")
    assert (site.home / "Trash/whole").is_dir()
    site.core.empty_trash(ALICE, f"{at}/Trash")
    wait_until("the trash is empty", lambda: list((site.home / "Trash").iterdir()) == [], seconds=PATIENCE)
    # A failure is shown, however short it was.
    site.core.copy(ALICE, (f"{at}/whole", f"{at}/again"))
    wait_until("the failure is shown", lambda: bool(site.core.tasks.listed(ALICE)), seconds=PATIENCE)
    site.core.wait_until(lambda: site.core.tasks.listed(ALICE)[-1].state == "FAILURE", PATIENCE, "the reason")
    assert site.core.tasks.listed(ALICE)[-1].progress == '"/whole" does not exist.'
