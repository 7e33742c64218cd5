"""What check says of programs of the site."""

from pathlib import Path

import pytest

from tests.conftest import Open
from tests.support.hook_site import HookSite
from ucloud_slurm.cli.check_hooks import hooks


@pytest.fixture
def site(tmp_path: Path) -> HookSite:
    return HookSite(tmp_path)


def test_check_names_programs_that_are_not_trusted_and_a_socket_that_does_not_answer(
    site: HookSite, open_provider: Open
) -> None:
    assert list(hooks(open_provider().config)) == []
    config = open_provider(hooks=[site.hook("job-ended"), site.hook("job-accepted")]).config
    with site.serving(config):
        assert list(hooks(config)) == [("ok", f"{site.socket} answers, for job-ended, job-accepted")]
    program = site.program("job-ended")
    program.chmod(0o777)
    site.program("job-accepted").unlink()
    first, second, third = hooks(config)
    assert first == ("failed", f"{program} is not run: {program} can be changed by others than its owner; chmod go-w {program}")
    assert second[0] == "failed"
    assert "job-accepted cannot be used (No such file or directory)" in second[1]
    assert third[1].startswith(f"nobody runs programs of the site at {site.socket} (")
    assert third[1].endswith("systemctl enable --now ucloud-slurm-hookd.socket ucloud-slurm-hooks.timer")
