"""File systems of a user's own that do not answer (fuse(4), for real): they keep that user waiting, and nobody else."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.sandbox.processes import wait_until
from tests.support import fuse, hostile
from tests.support.runner_site import PATIENCE, Site, runner_site
from ucloud_slurm.errors import NotNow
from ucloud_slurm.system.files import NotARegularFileError
from ucloud_slurm.users.files import Place
from ucloud_slurm.users.impersonation import packets
from ucloud_slurm.users.runner_files import RunnerFiles

pytestmark = pytest.mark.real


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with runner_site(tmp_path, monkeypatch) as site:
        yield site


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    folder = tmp_path / "slow"
    folder.mkdir()
    return folder


def in_thread(action: Callable[[], object]) -> threading.Thread:
    def quietly() -> None:
        with suppress(OSError, NotNow, NotARegularFileError):
            action()

    thread = threading.Thread(target=quietly)
    thread.start()
    return thread


def test_a_file_that_answers_is_read_through_the_runner(site: Site, mounted: Path) -> None:
    with fuse.slow_files(mounted, "stdout-0.log", b"hello\n", held=set()) as files:
        found = site.client("ada").open(str(files.file))
        assert found is not None
        assert os.read(found, 100) == b"hello\n"
        os.close(found)


@pytest.mark.parametrize("held", [fuse.OPEN, fuse.GETATTR, fuse.FLUSH], ids=["open", "fstat", "close"])
def test_a_file_that_blocks_whoever_touches_it_holds_nothing_of_the_runner(site: Site, mounted: Path, held: int) -> None:
    site.client("bob").prepare(str(site.folder / "bobs"), {})
    with fuse.slow_files(mounted, "stdout-0.log", held={held}) as files:
        asking = [in_thread(lambda: os.close(site.client("ada").open(str(files.file)) or -1)) for _ in range(3)]
        wait_until("the file system is asked", lambda: held in files.asked, seconds=PATIENCE)
        for _ in range(20):
            begun = time.monotonic()
            site.client("bob").prepare(str(site.folder / "bobs"), {})
            assert time.monotonic() - begun < 5
        # Though the file system never answers, every request ends, and the runner has none of the files.
        wait_until("the requests have ended", lambda: not +site.runner._requests, seconds=PATIENCE)
        with pytest.raises(NotNow):
            site.client("ada").prepare(str(site.folder / "adas"), {})
    for thread in asking:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_a_file_that_nobody_waits_for_any_more_is_dropped_without_touching_it(site: Site, mounted: Path) -> None:
    with fuse.slow_files(mounted, "stdout-0.log", held={fuse.FLUSH, fuse.GETATTR}) as files:
        given = os.open(files.file, os.O_RDONLY)
        closing = []
        ours, theirs = packets()
        with theirs:
            for _ in range(3):
                socket.send_fds(theirs, [b"."], [given])
        closing.append(in_thread(lambda: os.close(given)))
        wait_until("one close waits", lambda: fuse.FLUSH in files.asked, seconds=PATIENCE)
        ours.close()  # here, in the thread of the test: it would hang with the other
        site.client("bob").prepare(str(site.folder / "bobs"), {})
    closing[0].join(PATIENCE)
    assert not closing[0].is_alive()
    assert hostile.pids(site.folder, "bob")


@pytest.mark.parametrize("held", [fuse.OPEN, fuse.GETATTR], ids=["open", "fstat"])
def test_a_drive_on_a_file_server_that_hangs_holds_up_its_user_only(site: Site, mounted: Path, held: int) -> None:
    (site.folder / "drive").mkdir()
    (site.folder / "drive/a").touch()
    ada, bob = RunnerFiles(site.path, "ada"), RunnerFiles(site.path, "bob")
    bobs = Place(str(site.folder / "drive"), ("a",))
    bob.stat(bobs, within=PATIENCE)
    with fuse.slow_files(mounted, "data", held={held}) as files:
        place = Place(str(mounted), ("data",))
        asking = [in_thread(lambda: os.close(ada.read(place, within=1.0).descriptor)) for _ in range(3)]
        wait_until("the file system is asked", lambda: held in files.asked, seconds=PATIENCE)
        for _ in range(20):
            begun = time.monotonic()
            assert bob.stat(bobs, within=5.0).name == "a"
            assert time.monotonic() - begun < 5
        wait_until("the requests have ended", lambda: not +site.runner._requests, seconds=PATIENCE)
        with pytest.raises(NotNow):
            ada.stat(Place(str(site.folder / "drive"), ("a",)), within=1.0)
    for thread in asking:
        thread.join(PATIENCE)
        assert not thread.is_alive()
