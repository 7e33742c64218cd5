"""The files of a job have one place, and every part of the product finds them there."""

import pytest

from tests.support.factories import application, word
from tests.support.scripts import PLAN, build
from ucloud_slurm.bridge.naming import SCRIPT_NAME, JobPaths, LocalUser
from ucloud_slurm.users import operations

ADA = LocalUser("ada", "/home/ada", "/bin/bash")


@pytest.mark.parametrize(
    ("template", "folder"),
    [
        ("{home}/ucloud-jobs", "/home/ada/ucloud-jobs/7"),
        ("/scratch/{user}/jobs/", "/scratch/ada/jobs/7"),
        ("/scratch", "/scratch/7"),
    ],
)
def test_every_job_has_a_folder_of_its_own_in_the_configured_one(template: str, folder: str) -> None:
    assert JobPaths.of(template, ADA, "7").folder == folder


def test_what_acts_as_the_user_opens_the_files_of_a_job_and_no_others() -> None:
    paths = JobPaths("/jobs/7")
    opened = [paths.log(stream, rank) for stream in ("stdout", "stderr") for rank in (0, 65532)]
    for path in (*opened, paths.port_file(0), paths.port_file(65532)):
        assert operations._is_file(path.removeprefix("/jobs/7/"))
    assert not operations._is_file(SCRIPT_NAME)
    assert operations._is_script(SCRIPT_NAME)


def test_the_script_writes_the_files_where_the_service_reads_them() -> None:
    submission = build(
        PLAN._replace(nodes=2), folder="/50%/jobs", app=application(word("serve"), applicationType="WEB", allowMultiNode=True)
    )
    paths = JobPaths(submission.folder)
    assert (submission.output, submission.error) == (paths.log("stdout", 0), paths.log("stderr", 0))
    for stream in ("stdout", "stderr"):
        pattern = paths.log_pattern(stream)
        assert pattern in submission.script
        assert f"{paths.folder}/{pattern.replace('%t', '1')}" == paths.log(stream, 1)
    # srun writes there from its own folder: in a path it would replace patterns, or none behind a backslash.
    assert submission.script.index(f"\ncd {paths.folder} ") < submission.script.index("\nsrun ")
    announced = '"$UCLOUD_JOB_FOLDER/port-${SLURM_PROCID:-0}"'
    assert f"UCLOUD_PORT_FILE={announced}" in submission.script
    assert paths.port_file(0) == f"{submission.folder}/port-0"
    assert f"UCLOUD_HOSTFILE={paths.host_file}" in submission.script.replace("'", "")
