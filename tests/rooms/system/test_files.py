"""A folder that cannot be made is explained to those who can do something about it."""

import errno
import os
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from ucloud_slurm.errors import StorageFullError
from ucloud_slurm.system.files import make_folder


def why(path: str, home: str | None) -> str:
    with pytest.raises(StorageFullError) as caught:
        make_folder(path, {"job.sh": "#!/bin/sh\n"}, home=home)
    assert caught.value.status == 507
    assert path in caught.value.why
    return caught.value.why


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["mkdir", "open"])
def test_a_full_home_is_its_owners_to_clear(tmp_path: Path, mocker: MockerFixture, number: int, call: str) -> None:
    mocker.patch.object(os, call, side_effect=OSError(number, os.strerror(number)))
    text = why(f"{tmp_path}/jobs/7", str(tmp_path))
    assert "free some space there" in text
    assert os.strerror(number) in text
    assert "provider" not in text


def test_a_home_that_does_not_exist_is_made_by_logging_in() -> None:
    text = why("/proc/nobody/ucloud-jobs/7", "/proc/nobody")
    assert "Log in to the cluster once" in text
    assert "provider" not in text


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ESTALE, errno.EIO])
def test_what_only_an_administrator_can_mend_names_the_folder(tmp_path: Path, mocker: MockerFixture, number: int) -> None:
    mocker.patch.object(os, "mkdir", side_effect=OSError(number, os.strerror(number)))
    assert "ask the cluster's support, and name that folder" in why(f"{tmp_path}/jobs/7", str(tmp_path))


def test_a_scratch_folder_that_is_missing_is_not_mended_by_logging_in(tmp_path: Path) -> None:
    assert "ask the cluster's support" in why("/proc/scratch/alice/7", str(tmp_path))


@pytest.mark.parametrize("home", [True, False])
def test_something_else_in_the_place_of_a_folder_is_to_be_renamed(tmp_path: Path, home: bool) -> None:
    (tmp_path / "7").symlink_to("/tmp")
    (tmp_path / "8").touch()
    for name in ("7", "8"):
        text = why(f"{tmp_path}/{name}", str(tmp_path) if home else None)
        assert ("rename what is in its place" in text) is home
    assert not Path("/tmp/job.sh").exists()


def test_a_folder_of_the_provider_is_the_providers_to_mend(mocker: MockerFixture) -> None:
    mocker.patch.object(os, "mkdir", side_effect=OSError(errno.ENOSPC, "No space left on device"))
    assert "please tell the provider's support" in why("/srv/jobs/7", None)
