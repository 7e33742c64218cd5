"""A drive, reached in each way that there is."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import hostile
from tests.support.folders import WAYS, Drive, files_by, old_kernel
from tests.support.runner_site import Site, runner_site
from ucloud_slurm.users.own_files import OwnFiles


@pytest.fixture(scope="package")
def files_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One runner for all tests; ada's programs have this kernel, bob's an old one."""
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as monkeypatch, runner_site(folder, monkeypatch) as site:
        hostile.behave(folder, "bob", "old_kernel")
        yield site


@pytest.fixture(params=WAYS)
def drive(request: pytest.FixtureRequest, files_site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Drive]:
    outside = tmp_path / "outside"
    for folder in (tmp_path / "drive", outside):
        folder.mkdir(mode=0o700)
    (outside / "secret").write_text("secret")
    with ExitStack() as stack:
        if request.param == "here, old kernel":
            stack.enter_context(old_kernel(monkeypatch))
        yield Drive(files_by(request.param, files_site), request.param, tmp_path / "drive", outside)
    check_outside(outside)


@pytest.fixture
def own_drive(tmp_path: Path) -> Drive:
    """A drive in this process, whose constants a test may change."""
    (tmp_path / "drive").mkdir()
    return Drive(OwnFiles(), "here", tmp_path / "drive", tmp_path / "outside")


def check_outside(outside: Path) -> None:
    """Nothing was done there."""
    assert [path.name for path in outside.iterdir()] == ["secret"], "something was done outside"
    assert (outside / "secret").read_text() == "secret"
