"""Steps: each has a question and commands that agree; what cannot be done here is left to the administrator."""

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ucloud_slurm import config
from ucloud_slurm.config.annotated import EXAMPLE
from ucloud_slurm.setup import host as doing
from ucloud_slurm.setup.host import apply, certificate_of, doable, is_enforced, remaining, run_line
from ucloud_slurm.setup.step import Chosen, Host, Step, substitute
from ucloud_slurm.setup.steps import steps
from ucloud_slurm.store.fence import Permit, this_instant
from ucloud_slurm.system.process import Finished

ROOT = Path(__file__).parents[3]
CHOSEN = Chosen("ucloud", "/etc/ssl/certs/x.pem", "/etc/ssl/private/x.key")
HOST = Host(
    config=Path("/etc/ucloud-slurm/config.toml"),
    drafts=None,
    shipped=ROOT,
    program=Path("/opt/ucloud-slurm/bin/ucloud-slurm"),
    proxy_user="www-data",
    installer="apt-get install --yes",
    selinux=False,
)


def of(host: Host = HOST, chosen: Chosen = CHOSEN, **tables: Any) -> dict[str, Step]:
    found = steps(config.parse({**EXAMPLE, **tables}), chosen, host)
    assert len({step.name for step in found}) == len(found)
    return {step.name: step for step in found}


TABLE: dict[str, Any] = {"users": {"mapping": "table"}}
EVERYTHING = [
    of(**TABLE),
    of(users={"mapping": "service"}, jobs={"folder": "/home/ucloud jobs"}),
    of(HOST._replace(drafts=Path("/home/ada/my drafts"), selinux=True), **TABLE),
    of(**TABLE, database={"standby": "/shared by two/it's"}, hooks=[{"events": ["job-ended"], "program": "/program"}]),
]


@pytest.mark.parametrize("found", EVERYTHING)
def test_every_line_is_one_of_the_shell(found: dict[str, Step]) -> None:
    for step in found.values():
        for text in (step.look, step.command):
            done = subprocess.run(["/bin/sh", "-n", "-c", text], capture_output=True, text=True, check=False)
            assert done.stderr == "", step.name


@pytest.mark.parametrize("found", EVERYTHING)
def test_a_step_needs_only_steps_before_it(found: dict[str, Step]) -> None:
    before: set[str] = set()
    for step in found.values():
        assert {*step.needs} <= before, step.name
        before.add(step.name)


@pytest.mark.parametrize("found", EVERYTHING)
def test_what_is_pasted_does_not_end_the_shell_of_the_administrator(found: dict[str, Step]) -> None:
    assert [step.name for step in found.values() if "exit" in step.command] == []


def test_a_site_whose_jobs_are_all_of_one_account_needs_no_sudo() -> None:
    found = of(users={"mapping": "service"})
    assert not {"sudo", "people", "folder"} & {*found}
    assert "runner" not in found["enabled"].command
    assert {"sudo", "people"} <= {*of(**TABLE)}
    assert "ucloud-slurm-runner.socket" in of(**TABLE)["enabled"].command


def test_a_folder_of_jobs_elsewhere_is_made_and_the_units_may_write_there() -> None:
    step = of(users={"mapping": "service"}, jobs={"folder": "/home/uc/{user}"})["folder"]
    assert "install -d -m 0700 -o ucloud-slurm -g ucloud-slurm /home/uc\n" in step.command
    assert "'[Service]' ProtectHome=tmpfs BindPaths=/home/uc ReadWritePaths=/home/uc" in step.command


def test_selinux_has_steps_where_it_is_enforced_only(tmp_path: Path) -> None:
    assert {"labels", "policy"} <= {*of(HOST._replace(selinux=True), **TABLE)}
    assert not {"labels", "policy"} & {*of(**TABLE)}
    (tmp_path / "enforce").write_text("1")
    assert is_enforced(tmp_path / "enforce")
    assert not is_enforced(tmp_path / "none")


def test_what_needs_a_decision_is_left_to_the_administrator() -> None:
    assert {step.name for step in of(**TABLE).values() if step.by_hand} == {"nginx", "certificate", "products"}


def ran(line: str, folder: Path, *names: str) -> str:
    """Runs a command of a step with these places of the host in a folder."""
    for name in names:
        place = folder / name.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        line = line.replace(name, str(place))
    done = run_line(f"set -e\n{line}", 10.0)
    assert done.status == 0, done.errors
    return line


def test_the_site_of_nginx_has_the_names_and_the_certificate(tmp_path: Path) -> None:
    where = "/etc/nginx/conf.d/ucloud-slurm.conf"
    provider = {"id": "sdu.2", "url": "https://hpc.sdu.dk:8443"}
    step = of(provider=provider, **TABLE)["site"]
    (sed, *_) = step.command.splitlines()
    ran(sed, tmp_path, where)
    text = (tmp_path / where.lstrip("/")).read_text()
    assert "example" not in text.replace("# An example", "").replace('and "example" in', "").replace("# Change", "")
    assert text.count("server_name hpc.sdu.dk;") == 2
    assert "listen [::]:8443 ssl;" in text
    assert "return 301 https://hpc.sdu.dk:8443$request_uri;" in text
    assert certificate_of(text) == (CHOSEN.certificate, CHOSEN.certificate_key)
    ran(step.look, tmp_path, "/etc/nginx")
    (tmp_path / where.lstrip("/")).rename(tmp_path / f"{where.lstrip('/')}.wrong")
    with pytest.raises(AssertionError):
        ran(step.look, tmp_path, "/etc/nginx")


def test_the_rule_of_sudo_has_the_group_of_the_people(tmp_path: Path) -> None:
    where = "/etc/sudoers.d/ucloud-slurm"
    step = of(users={"mapping": "table", "group": "DOMAIN\\hpc users"})["sudo"]
    ran(step.command.replace("visudo", "true"), tmp_path, where)
    path = tmp_path / where.lstrip("/")
    assert stat.S_IMODE(path.stat().st_mode) == 0o440
    assert "ucloud-slurm ALL = (%DOMAIN\\\\hpc\\ users) NOPASSWD: " in path.read_text()
    ran(step.look, tmp_path, where)
    visudo = shutil.which("visudo", path="/usr/sbin:/sbin:/usr/bin")
    if visudo is not None:
        assert subprocess.run([visudo, "-cf", path], capture_output=True, check=False).returncode == 0


def test_the_units_that_are_enabled_are_shipped() -> None:
    drives = [{"name": "home", "title": "Home", "local": "{home}"}]
    named = of(drives=drives, **TABLE)["enabled"].command.split()[3:]
    assert "ucloud-slurm-files.socket" in named
    assert [unit for unit in named if not (ROOT / "systemd" / unit).is_file()] == []


def test_a_site_with_hooks_has_their_account_and_their_units() -> None:
    hooks = of(hooks=[{"events": ["job-ended"], "program": "/program"}], **TABLE)
    theirs = {"ucloud-slurm-hookd.socket", "ucloud-slurm-hooks.timer"}
    for name in ("units", "enabled"):
        assert theirs <= {*re.findall(r"ucloud-slurm[a-z-]*\.[a-z]+", hooks[name].look)}, name
        assert not theirs & {*re.findall(r"ucloud-slurm[a-z-]*\.[a-z]+", of(**TABLE)[name].look)}, name
    assert theirs <= {*hooks["enabled"].command.split()}
    assert "getent passwd ucloud-slurm-hooks" in hooks["accounts"].look
    assert "ucloud-slurm-hookd.service" in hooks["reload"].command.split()
    assert "ucloud-slurm-hookd.service" not in of(**TABLE)["reload"].command


def test_a_host_that_has_not_the_lease_enables_the_unit_of_the_lease_and_no_other() -> None:
    found = of(database={"standby": "/shared"}, **TABLE)
    assert not {"standby", "lease"} & {*of(**TABLE)}
    left = [found["standby"], found["lease"], found["enabled"], found["reload"], found["check"]]
    assert [step.name for step in doable(left)] == ["standby"], "who works is for the administrator to say"
    assert "systemctl enable ucloud-slurm-standby.service" in found["standby"].command
    assert "database take-over --first" in found["lease"].command


def test_the_unit_of_the_lease_may_write_to_the_standby_folder(tmp_path: Path) -> None:
    shared, units = "/shared of two", "/etc/systemd/system/ucloud-slurm-standby.service.d"
    step = of(database={"standby": shared}, **TABLE)["standby"]
    look = re.search(r"grep.*?(?= && )", step.look)
    assert look
    command = "\n".join(line for line in step.command.splitlines() if not line.startswith(("systemctl", "test")))
    ran(command, tmp_path, units)
    ran(look[0], tmp_path, units)
    (dropin,) = (tmp_path / units.lstrip("/")).iterdir()
    assert dropin.read_text() == f'[Unit]\nRequiresMountsFor="{shared}"\n[Service]\nReadWritePaths="{shared}"\n'


def test_the_lease_is_known_by_the_permit_of_this_host(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    look = of(database={"standby": "/shared", "path": str(path)}, **TABLE)["lease"].look

    def has_lease(*, mine: bool, problem: str | None = None) -> bool:
        Permit(1, "login1", mine=mine, since=this_instant(), problem=problem).write(path)
        return run_line(look, 10.0).status == 0

    assert run_line(look, 10.0).status != 0, "no unit has written one"
    assert has_lease(mine=True)
    assert not has_lease(mine=False)
    assert not has_lease(mine=True, problem="the folder hangs")


SYSTEMCTL = """#!/bin/sh
case $* in
    *is-active*ucloud-slurm.service) exit 0 ;;
    *is-active*) exit 3 ;;
    show*) date --utc --date='AGE seconds ago' '+%a %F %T.%6N UTC' ;;
esac
"""


@pytest.mark.parametrize(("age", "is_done"), [(3600, False), (-3600, True)])
def test_services_are_told_that_began_before_the_configuration_was_written(
    age: int, is_done: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "systemctl"
    program.write_text(SYSTEMCTL.replace("AGE", str(age)))
    program.chmod(0o755)
    monkeypatch.setattr(doing, "PATH", f"{tmp_path}:{doing.PATH}")
    for name in ("config.toml", "key"):
        (tmp_path / name).touch()
    ucloud = EXAMPLE["ucloud"] | {"public_key_file": str(tmp_path / "key")}
    step = of(HOST._replace(config=tmp_path / "config.toml"), ucloud=ucloud, **TABLE)["reload"]
    assert (run_line(step.look, 10.0).status == 0) == is_done
    os.utime(tmp_path / "config.toml", (0, 0))
    assert (run_line(step.look, 10.0).status == 0) == is_done, "the key is newer"
    os.utime(tmp_path / "key", (0, 0))
    assert run_line(step.look, 10.0).status == 0
    (tmp_path / "key").unlink()
    assert run_line(step.look, 10.0).status != 0


@pytest.mark.parametrize("text", ["a.b*[c]^$\\#&", "/path with 'quotes'/x"])
def test_a_text_is_replaced_by_any_other(text: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text(f"before {text} after axb*[c]\n")
    done = run_line(f"sed {substitute({text: 'new&' + text})} {tmp_path}/file", 10.0)
    assert done.output == f"before new&{text} after axb*[c]\n"


# ---- doing


def step(name: str, folder: Path, command: str | None = None, **values: Any) -> Step:
    return Step(name, name.upper(), f"test -e {folder}/{name}", command or f"touch {folder}/{name}", **values)


def test_steps_are_done_in_their_order_and_a_second_time_nothing_is(tmp_path: Path) -> None:
    all_ = [step("a", tmp_path), step("b", tmp_path, f"cp {tmp_path}/a {tmp_path}/b", needs=("a",))]
    (tmp_path / "a").touch()
    assert remaining(all_, run_line) == all_[1:]
    (tmp_path / "a").unlink()
    shown: list[Step] = []
    outcome = apply(remaining(all_, run_line), run_line, shown.append)
    assert (outcome.done, outcome.left, outcome.failed, shown) == (all_, [], [], all_)
    assert remaining(all_, run_line) == []


def test_a_step_is_not_looked_at_before_what_it_needs_is_done(tmp_path: Path) -> None:
    looked: list[str] = []

    def run(line: str, seconds: float) -> Finished:
        looked.append(line)
        return run_line(line, seconds)

    all_ = [step("a", tmp_path), step("b", tmp_path, needs=("a",)), step("c", tmp_path, needs=("b",))]
    assert remaining(all_, run) == all_
    assert looked == [all_[0].look]


def test_what_the_check_warns_of_is_shown(tmp_path: Path) -> None:
    found = apply([step("a", tmp_path, f"echo ok all; echo warning  nobody; touch {tmp_path}/a")], run_line, lambda _step: None)
    assert found.warnings == ["warning nobody"]


def test_a_step_that_fails_is_a_sentence_and_what_needs_it_is_left(tmp_path: Path) -> None:
    all_ = [
        step("a", tmp_path, "echo no space >&2\nfalse\ntouch /nowhere"),
        step("b", tmp_path, needs=("a",)),
        step("c", tmp_path),
        step("d", tmp_path, "true"),
    ]
    outcome = apply(all_, run_line, lambda _step: None)
    assert [each.name for each in outcome.done] == ["c"]
    assert [each.name for each in outcome.left] == ["a", "b", "d"]
    assert outcome.failed == ["A: ended with 1: no space", "D: the commands ended well, but it is not done afterwards"]
    assert not (tmp_path / "b").exists()


def test_what_is_left_to_the_administrator_is_not_done_nor_what_needs_it(tmp_path: Path) -> None:
    all_ = [
        step("a", tmp_path, by_hand=True),
        step("b", tmp_path, needs=("a",)),
        step("c", tmp_path, needs=("b",)),
        step("d", tmp_path),
    ]
    assert [each.name for each in doable(all_)] == ["d"]
    assert [each.name for each in apply(all_, run_line, lambda _step: None).left] == ["a", "b", "c"]


def test_a_command_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doing, "STEP_SECONDS", 0.1)
    outcome = apply([step("a", tmp_path, "sleep 60")], run_line, lambda _step: None)
    assert outcome.failed == ["A: ended with 124: sh gave no answer in 0.1 s"]


def is_done(line: str) -> bool:
    """Whether the question of a step is answered with yes."""
    return run_line(line, 10.0).status == 0


def test_a_unit_that_is_missing_or_empty_is_installed_again(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "systemd", tmp_path, dirs_exist_ok=True)
    look = of(**TABLE)["units"].look.replace("systemctl cat $unit", f"cat {tmp_path}/$unit")
    assert is_done(look)
    (tmp_path / "ucloud-slurm-hookd.socket").unlink()
    assert is_done(look), "no program of the site needs it"
    for name in ("ucloud-slurm-runner.socket", "ucloud-slurm-link.service", "ucloud-slurm-listener.service"):
        text = (tmp_path / name).read_text()
        (tmp_path / name).write_text("")
        assert not is_done(look), name
        (tmp_path / name).unlink()
        assert not is_done(look), name
        (tmp_path / name).write_text(text)
    assert is_done(look)


def test_settings_of_gunicorn_that_are_empty_are_not_there(tmp_path: Path) -> None:
    step = of(HOST._replace(config=tmp_path / "config.toml"))["gunicorn"]
    for name in ("gunicorn.conf.py", "gunicorn-files.conf.py"):
        assert not is_done(step.look)
        (tmp_path / name).write_text("")
        assert not is_done(step.look)
        (tmp_path / name).write_text("x = 1\n")
    assert is_done(step.look)
    assert "test -s" in step.command


def test_a_rule_that_sudo_does_not_use_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "ucloud-slurm"
    look = of(**TABLE)["sudo"].look.replace("/etc/sudoers.d/ucloud-slurm", str(path))
    text = (ROOT / "etc/sudoers").read_text()
    path.write_text(text)
    path.chmod(0o440)
    assert is_done(look)
    path.write_text("".join(f"# {line}" for line in text.splitlines(keepends=True)))
    assert not is_done(look), "it is a comment"
    path.write_text(text)
    path.chmod(0o666)
    assert not is_done(look), "anybody may write it"


def test_a_folder_that_setup_has_made_is_opened_for_the_daemon_user_and_no_other_one() -> None:
    elsewhere = of(HOST._replace(config=Path("/srv/ucloud slurm/config.toml")))["files"].command
    assert elsewhere.startswith(
        "test \"$(stat -c %U:%G:%a '/srv/ucloud slurm')\" != root:root:750 || chgrp ucloud-slurm '/srv/ucloud slurm'\n"
    )
    assert of()["files"].command.startswith("chgrp ucloud-slurm /etc/ucloud-slurm\n")
