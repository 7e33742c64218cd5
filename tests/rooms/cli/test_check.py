"""check names what is wrong before researchers meet it: accounts, the runner, the Operator role, software."""

import grp
import os
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from tests.rooms.cli.conftest import Configure, FakeRunner, connect
from tests.support.database import mark_restored
from ucloud_slurm.cli import check, check_accounts, check_slurm
from ucloud_slurm.cli.output import Line
from ucloud_slurm.config import Config
from ucloud_slurm.errors import Misconfigured
from ucloud_slurm.slurm.scheduler import Scheduler
from ucloud_slurm.store.sqlite import Store
from ucloud_slurm.system import ipc
from ucloud_slurm.system.accounts import PeopleRule, own_account
from ucloud_slurm.system.filelock import LISTENER, exclusive_lock
from ucloud_slurm.users import bundle, service


def found(config: Config) -> list[Line]:
    """What check finds, without what is right about the rule and the program."""
    lines = list(check_accounts.accounts(config))
    return lines[2:] if lines[1][1].endswith("can be changed by root only") else lines


def test_with_our_own_account_its_folder_is_tried_and_the_danger_named(configure: Configure, tmp_path: Path) -> None:
    (ok, where), (level, danger) = found(configure("service"))
    assert (ok, where) == ("ok", f"jobs run as {own_account()} in {tmp_path}/{own_account()}")
    assert (level, danger) == ("warning", service.WARNING.format(user=own_account()))


def test_a_folder_of_jobs_that_cannot_be_made_is_named_by_its_key(configure: Configure, tmp_path: Path) -> None:
    (tmp_path / own_account()).write_text("not a folder")
    (level, text), _ = found(configure("service"))
    assert (level, text.partition(":")[0]) == ("failed", "jobs.folder")
    assert f"give {tmp_path / own_account()} to {own_account()}" in text
    assert "support" not in text


def test_another_account_for_all_is_tried_through_the_runner(configure: Configure, runner: FakeRunner) -> None:
    ((level, text),) = found(configure("service", users={"service_user": "u1"}))
    assert level == "ok"
    assert "can act as u1" in text
    assert [(message["verb"], message["user"]) for message in runner.asked] == [("trial", "u1")]


def test_the_first_person_of_the_table_who_is_fit_is_tried(configure: Configure, runner: FakeRunner) -> None:
    config = configure("table")
    connect(config, 2, 5, 60)
    lines = found(config)
    assert lines[0] == ("ok", "3 users of UCloud are connected")
    assert lines[1][0] == "warning"
    assert "U60#1 cannot run jobs: u60 may not log in" in lines[1][1]
    assert lines[2][0] == "ok"
    assert [message["user"] for message in runner.asked] == ["u2"]


@pytest.mark.usefixtures("runner")
def test_who_has_left_the_group_or_has_another_uid_now_is_named(configure: Configure) -> None:
    config = configure("table")
    connect(config, 49)
    assert ("warning", "U49#1 cannot run jobs: u49 is not in the group people") in found(config)
    connect(config, 3, uid=8000)
    assert any("had the uid 8003 when it was connected and has 7003 now" in text for _, text in found(config))


@pytest.mark.usefixtures("runner")
def test_of_many_who_cannot_run_jobs_ten_are_named(configure: Configure) -> None:
    config = configure("table")
    connect(config, *range(60, 72))
    warned = [text for level, text in found(config) if level == "warning" and "cannot run jobs" in text]
    assert len(warned) == 11
    assert warned[-1] == "and 2 more who cannot run jobs"


def test_before_anybody_is_connected_a_member_of_the_group_is_tried(configure: Configure, runner: FakeRunner) -> None:
    (level, text), tried = found(configure("table"))
    assert level == "warning"
    assert "nobody is connected yet" in text
    assert tried[0] == "ok"
    assert [message["user"] for message in runner.asked] == ["u1"]


def test_a_runner_that_does_not_answer_is_a_failure(configure: Configure) -> None:
    config = configure("table")
    connect(config, 2)
    level, text = found(config)[-1]
    assert level == "failed"
    assert "start ucloud-slurm-runner.socket" in text
    level, text = found(configure("table", users={"group": "nobody-there"}))[-1]
    assert level == "failed"
    assert "start ucloud-slurm-runner.socket" in text


def test_a_runner_that_may_not_act_is_a_failure_that_says_where_to_look(configure: Configure, runner: FakeRunner) -> None:
    runner.answer = {"refused": "the provider may not act as the account u1", "form": ipc.FORM}
    level, text = found(configure("table"))[-1]
    assert level == "failed"
    assert "journalctl -u ucloud-slurm-runner" in text
    runner.answer = {"problem": "The job's folder cannot be made (No space left on device)."}
    level, text = found(configure("table"))[-1]
    assert level == "failed"
    assert "No space left on device" in text


def test_the_program_of_the_site_must_be_there_and_safe(configure: Configure, runner: FakeRunner, tmp_path: Path) -> None:
    script = tmp_path / "who"
    config = configure("script", users={"script": str(script)})
    with pytest.raises(Misconfigured, match="cannot be used"):
        found(config)
    script.write_text("#!/bin/sh\n")
    script.chmod(0o777)
    with pytest.raises(Misconfigured, match="writable for its owner only"):
        found(config)
    script.chmod(0o755)
    assert [level for level, _ in found(config)] == ["ok", "ok"]
    assert [message["user"] for message in runner.asked] == ["u1"]


@pytest.mark.usefixtures("runner")
@pytest.mark.parametrize("mapping", ["service", "table"])
def test_secrets_that_others_can_read_are_a_failure(mapping: str, configure: Configure, tmp_path: Path) -> None:
    config = configure(mapping)
    (tmp_path / "token").chmod(0o644)
    assert ("failed", f"{tmp_path}/token can be read by other users; chmod 600 {tmp_path}/token") in found(config)


def test_without_the_role_of_operator_jobs_of_others_could_not_be_cancelled(configure: Configure) -> None:
    slurm = SimpleNamespace(is_operator=lambda _user, _timeout: False)

    def levels(config: Config) -> list[str]:
        return [level for level, _ in check_slurm.operator(config, cast("Scheduler", slurm))]

    assert levels(configure("service")) == ["warning"]
    assert levels(configure("table")) == ["failed"]
    assert levels(configure("service", users={"service_user": "u1"})) == ["failed"]
    slurm.is_operator = lambda _user, _timeout: True
    assert levels(configure("table")) == []


def test_a_runtime_and_folders_that_are_not_on_this_host_are_named(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    images = tmp_path / "images"
    roots = [{"ucloud": "/home", "local": "{home}"}, {"ucloud": "/work", "local": f"{tmp_path}/work"}]
    config = configure("service", containers={"runtime": "charliecloud", "images": [str(images)]}, files=roots)
    texts = [text for level, text in check.software(config) if level == "warning"]
    assert [text.split(" is not ")[0] for text in texts] == [
        "ch-run",
        f"containers.images: {images}",
        f"files: {tmp_path}/work",
    ]
    (tmp_path / "ch-run").touch(mode=0o755)
    images.mkdir()
    (tmp_path / "work").mkdir()
    assert list(check.software(config)) == [("ok", f"charliecloud: {tmp_path}/ch-run")]


def test_the_modules_of_this_host_are_counted_where_users_choose_from_them(configure: Configure, tmp_path: Path) -> None:
    init = tmp_path / "init"
    config = configure("service", applications={"find_modules": True}, jobs={"modules_init": str(init)})
    assert [text for level, text in check.software(config) if level == "warning"] == [
        "the modules of this host could not be listed: no file defines the function module (jobs.modules_init); "
        "users see no list of modules (applications.find_modules)"
    ]
    init.write_text("module() { echo gcc/12; }\n")
    counted = "1 environment modules on this host; make sure that the compute nodes have them"
    assert ("ok", counted) in list(check.software(config))


def test_the_provider_at_ucloud_is_named_and_a_logo_that_cannot_be_used(configure: Configure, tmp_path: Path) -> None:
    assert list(check._branding(configure("service"))) == []
    config = configure("service", branding={"title": "Cluster"})
    assert list(check._branding(config)) == [("ok", "UCloud shows Cluster, without a logo")]
    config = configure("service", branding={"title": "Cluster", "logo": str(tmp_path / "none")})
    with pytest.raises(Misconfigured, match=r"branding.logo: .* cannot be read"):
        list(check._branding(config))


def test_a_database_that_is_behind_is_named_with_the_command_that_repairs_it(configure: Configure) -> None:
    config = configure("service")
    store = Store(config.database.path)
    assert {level for level, _ in check._database(config)} <= {"ok", "warning"}
    mark_restored(store, 1.0)
    store.close()
    [text] = [text for level, text in check._database(config) if level == "failed"]
    assert "run ucloud-slurm reconcile" in text


def test_a_listener_that_does_not_run_is_named_where_ucloud_has_a_channel(configure: Configure) -> None:
    config = configure("service")
    assert config.ucloud.era == "today"
    assert [level for level, _ in check._channel(config)] == ["warning"]
    assert "systemctl enable --now ucloud-slurm-listener" in check._channel(config)[0][1]
    with exclusive_lock(config.database.path, LISTENER):
        assert check._channel(config) == [("ok", "the listener runs")]


@pytest.mark.parametrize(
    ("parameters", "per_second", "wanted"),
    [
        ("", None, None),
        ("enable_configless", None, None),
        ("enable_configless,rl_enable", None, "slurm.submit_per_second = 2"),
        ("rl_enable, rl_refill_rate=5", None, "slurm.submit_per_second = 5"),
        ("rl_enable,rl_refill_rate=5", 4.0, None),
    ],
)
def test_a_controller_that_limits_requests_asks_for_a_pace(
    configure: Configure, parameters: str, per_second: float | None, wanted: str | None
) -> None:
    config = configure("service", slurm={"submit_per_second": per_second})
    found = list(check_slurm.pace(config, {"SlurmctldParameters": parameters}))
    assert [level for level, _ in found] == (["warning"] if wanted else [])
    assert not wanted or found[0][1].endswith(wanted)


def test_slurms_files_that_are_missing_are_named_all_at_once(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf, there = tmp_path / "slurm.conf", tmp_path / "bin"
    there.mkdir()
    for name in check_slurm.COMMANDS:
        (there / name).touch(mode=0o755)
    config = configure("service", slurm={"conf": str(conf), "commands": str(there)})
    with pytest.raises(Misconfigured, match=f"^slurm.conf: there is no file {conf}; write it, or set slurm.conf$"):
        check_slurm.files(config)
    configless = tmp_path / "sent-by-the-controller"
    configless.touch()
    monkeypatch.setattr(check_slurm, "CONFIGLESS", configless)
    with pytest.raises(Misconfigured, match=f'set slurm.conf = "{configless}"'):
        check_slurm.files(config)
    check_slurm.files(configure("service", slurm={"conf": str(configless), "commands": str(there)}))
    (there / "sbatch").unlink()
    (there / "sacct").chmod(0o644)
    with pytest.raises(Misconfigured) as error:
        check_slurm.files(config)
    assert [sentence.split(";")[0] for sentence in error.value.sentences] == [
        f"slurm.conf: there is no file {conf}",
        f"slurm.commands: {there} has no sbatch, sacct that can be run",
    ]


def test_a_key_that_would_widen_the_rule_about_people_is_a_warning(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, runner: FakeRunner
) -> None:
    narrow = PeopleRule(("u[0-9]+",), 2000)
    monkeypatch.setattr(check_accounts, "read_rule", lambda: narrow)
    config = configure("table", users={"names": "[a-z0-9]+", "uid_floor": 1500})
    texts = [text for level, text in found(config) if level == "warning"]
    assert "users.uid_floor = 1500 allows uids that the rule about people does not" in texts[0]
    assert "users.names allows 'ada'" in texts[1]
    assert runner.asked
    config = configure("table", users={"names": "u[0-9]+", "uid_floor": 2500})
    assert [text for _, text in found(config) if "the rule about people" in text] == []


def test_members_of_groups_that_make_root_of_them_are_named(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configure("table")
    said = [text for level, text in check_accounts.accounts(config) if level == "ok"]
    assert "sudo -l -U NAME" in said[0], "what cannot be seen is said"
    groups = {"people": ["u1", "u2", "u3"], "docker": ["u2", "root"], "wheel": ["u3", "u9"], "science": ["u1"]}
    monkeypatch.setattr(grp, "getgrnam", lambda name: grp.struct_group((name, "x", 0, groups[name])))
    monkeypatch.setattr(check_accounts, "read_rule", lambda: PeopleRule(refused_groups=("docker", "science")))
    warned = [text for level, text in check_accounts.accounts(config) if level == "warning" and "become root" in text]
    assert [text.split(" (")[0] for text in warned] == [
        "u3 can become root through the group wheel: jobs run as u3",
        "u2 can become root through the group docker: no job runs as u2",
        "u1 can become root through the group science: no job runs as u1",
    ]


def test_a_program_that_others_can_change_is_a_failure(configure: Configure) -> None:
    path = configure("table").users.program
    python, settings = path.parent / "python3", path.parent.parent / "pyvenv.cfg"
    assert unfit(configure("table")) == []
    for place in (path, path.parent, settings):
        place.touch()
        mode = place.stat().st_mode
        place.chmod(0o777)
        said = unfit(configure("table"))
        assert {*said} == {f"users.program: {place} can be changed by others than its owner: chmod go-w {place}"}
        place.chmod(mode)
    python.unlink()
    assert ["No such file" in text for text in unfit(configure("table"))] == [True]
    python.symlink_to(settings)
    os.chown(settings, 54321, 0)
    assert ["belongs to the uid 54321" in text for text in unfit(configure("table"))] == [True, True]


def test_a_program_of_another_release_is_a_failure(configure: Configure, tmp_path: Path) -> None:
    config = configure("table")
    for name, source in bundle.modules().items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(source)
    assert bundle.contents(tmp_path) == config.users.program.read_bytes()
    (tmp_path / "ucloud_slurm" / "__init__.py").write_text('__version__ = "0.0.9"')
    bundle.write(config.users.program, tmp_path)
    assert ["is of another release than this one" in text for text in unfit(config)] == [True]
    config.users.program.write_text("#!/bin/sh\n")
    assert ["is not the program of this release" in text for text in unfit(config)] == [True]
    config.users.program.unlink()
    assert len(unfit(config)) == 2


@pytest.mark.parametrize(("value", "seconds"), [("60 sec", 60), ("10", 10), ("(null)", 10), ("", 10), ("sec", 10)])
def test_a_setting_of_slurm_that_is_no_number_ends_no_check(value: str, seconds: int) -> None:
    assert check_slurm.message_timeout({"MessageTimeout": value}) == seconds
    assert check_slurm.message_timeout({}) == 10


def unfit(config: Config) -> list[str]:
    return [text for level, text in check_accounts.accounts(config) if level == "failed" and "users.program" in text]
