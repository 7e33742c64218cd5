"""The table as an administrator keeps it: `ucloud-slurm users`."""

import grp
import json
import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.conftest import configuration
from tests.sandbox.core import SimulatedCore
from ucloud_slurm.cli.main import main
from ucloud_slurm.errors import Forbidden
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.store.people import UserLink
from ucloud_slurm.users import name_service

ENTRIES = {
    "ada": ("ada", "x", 54321, 54321, "", "/home/ada", "/bin/bash"),
    "bob": ("bob", "x", 54322, 54322, "", "/home/bob", "/bin/bash"),
    "out": ("out", "x", 54323, 54323, "", "/home/out", "/bin/bash"),
    "dead": ("dead", "x", 54324, 54324, "", "/home/dead", "/usr/sbin/nologin"),
    "low": ("low", "x", 998, 54325, "", "/home/low", "/bin/bash"),
}
GROUP = 64321
Type = Callable[..., Result]


@pytest.fixture(autouse=True)
def accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    by_name, groups, group = pwd.getpwnam, name_service.groups_of, grp.getgrnam
    monkeypatch.setattr(pwd, "getpwnam", lambda name: pwd.struct_passwd(ENTRIES[name]) if name in ENTRIES else by_name(name))
    monkeypatch.setattr(
        grp, "getgrnam", lambda name: grp.struct_group((name, "x", GROUP, [])) if name == "ucloud-users" else group(name)
    )
    monkeypatch.setattr(
        name_service,
        "groups_of",
        lambda name, gid: groups(name, gid) if name not in ENTRIES else [gid] if name == "out" else [gid, GROUP],
    )


@pytest.fixture
def users(core: SimulatedCore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Type:
    """Types a line of `ucloud-slurm users`, as the service's account, which an administrator has become."""
    config = configuration(core, tmp_path, users={"mapping": "table"})
    monkeypatch.setattr("ucloud_slurm.cli.context.refuse_root", lambda: None)
    monkeypatch.setattr("ucloud_slurm.cli.context.read", lambda _path: config)
    monkeypatch.setattr("ucloud_slurm.system.origin.LOGIN_UID", tmp_path / "none")
    monkeypatch.setenv("SUDO_USER", "grace")

    def type_(*words: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(main, ["users", *words], input=stdin)

    return type_


def listed(users: Type) -> list[tuple[str, str]]:
    return [(each["ucloud_user"], each["local_user"]) for each in json.loads(users("list", "--json").output)]


def test_who_is_added_is_listed_with_when_and_by_whom(users: Type) -> None:
    assert users("add", "Ada#1", "ada").exit_code == 0
    (found,) = json.loads(users("list", "--json").output)
    assert (found["ucloud_user"], found["local_user"], found["uid"], found["added_by"]) == ("Ada#1", "ada", 54321, "grace")
    assert found["added_at"]
    assert "Ada#1" in users("list").output


@pytest.mark.parametrize(
    ("account", "said"),
    [
        ("root", "root"),
        ("low", "998"),
        ("dead", "nologin"),
        ("nobody-at-all", "no account"),
        ("root ", "no account"),
        ("-r", "no account"),
        ("a/b", "no account"),
        ("", "no account"),
        ("ada\x00", "no account"),
        ("out", "gpasswd --add out ucloud-users"),
    ],
)
def test_an_account_that_jobs_may_not_run_as_is_refused_and_the_reason_said(users: Type, account: str, said: str) -> None:
    done = users("add", "Ada#1", "--", account)
    assert done.exit_code == 78
    assert said in done.output
    assert listed(users) == []


def test_a_user_has_one_account_and_an_account_one_user_unless_it_is_said(users: Type) -> None:
    users("add", "Ada#1", "ada")
    assert "connected with ada; remove that first" in users("add", "Ada#1", "bob").output
    assert "connected with Ada#1 already" in users("add", "Course#2", "ada").output
    assert listed(users) == [("Ada#1", "ada")]
    assert users("add", "Course#2", "ada", "--shared").exit_code == 0
    assert users("add", "Ada#1", "ada").exit_code == 0
    assert listed(users) == [("Ada#1", "ada"), ("Course#2", "ada")]


def test_names_of_ucloud_are_compared_letter_by_letter(users: Type) -> None:
    users("add", "Ada#1", "ada")
    done = users("test", "ada#1")
    assert (done.exit_code, done.stderr) == (
        1,
        "ucloud-slurm: ada#1 is not connected: ucloud-slurm users add 'ada#1' LOCAL_USER\n",
    )
    assert users("remove", "ADA#1").exit_code == 1
    assert listed(users) == [("Ada#1", "ada")]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"B\xf8b#2,bob\n", "is not text in UTF-8; save it as CSV in UTF-8."),
        (b"b" * 200_000 + b",bob\n", "after line 1: is no CSV (field larger than field limit (131072))."),
    ],
)
def test_a_file_that_is_no_csv_is_one_sentence_and_nobody_is_connected(
    users: Type, tmp_path: Path, data: bytes, said: str
) -> None:
    (tmp_path / "people.csv").write_bytes(b"ucloud_user,local_user\nAda#1,ada\n" + data)
    done = users("import", str(tmp_path / "people.csv"))
    assert (done.exit_code, done.stderr.count("\n")) == (78, 1)
    assert said.replace("line 1", "line 2") in done.stderr
    assert listed(users) == []


@pytest.mark.parametrize(("project", "account"), [("", "physics"), ("\x1b[2J", "physics"), ("p-1", "é"), ("p-1", "a/b")])
def test_a_project_or_an_account_that_is_none_is_refused(users: Type, project: str, account: str) -> None:
    assert users("projects", "add", project, account).exit_code == 2
    assert json.loads(users("projects", "list", "--json").stdout) == []


def test_what_is_typed_cannot_move_the_cursor_of_a_terminal(users: Type) -> None:
    assert users("remove", "a\n\x1b[2J").stderr == "ucloud-slurm: a [2J is not connected with an account.\n"


def test_who_is_removed_is_gone_and_the_history_keeps_it(users: Type) -> None:
    users("add", "Ada#1", "ada")
    assert users("remove", "Ada#1").exit_code == 0
    assert users("remove", "Ada#1").exit_code == 1
    history = json.loads(users("history", "--json").output)
    assert [(each["who"], each["what"]) for each in history] == [
        ("grace", "connected Ada#1 with ada"),
        ("grace", "disconnected Ada#1 from ada"),
    ]
    assert listed(users) == []


def test_an_import_is_all_or_nothing_and_every_error_has_its_line(users: Type) -> None:
    text = "ucloud_user,local_user\nAda#1,ada\nRoot#1,root\nBob#2,bob\nDead#3,dead\n"
    done = users("import", "-", stdin=text)
    assert done.exit_code == 78
    assert "line 3" in done.output
    assert "line 5" in done.output
    assert listed(users) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Ada#1,ada\n",
        "ucloud_user,local_user\nAda#1\n",
        "ucloud_user,local_user\nAda#1,ada,x\n",
        "ucloud_user,local_user\n,ada\n",
        "ucloud_user,local_user\nAda#1,ada\nAda#1,bob\n",
        "ucloud_user,local_user\nAda#1,ada\nEve#1,ada\n",
    ],
)
def test_what_is_no_table_is_not_imported(users: Type, text: str) -> None:
    done = users("import", "-", stdin=text)
    assert (done.exit_code in (1, 78), type(done.exception)) == (True, SystemExit), done.output
    assert listed(users) == []


def test_importing_what_was_exported_changes_nothing(users: Type) -> None:
    users("import", "-", stdin='ucloud_user,local_user\n"A, ""B""#1",ada\nBøb#2,bob\n')
    before, history = users("export").output, users("history", "--json").output
    done = users("import", "-", stdin=before)
    assert (done.exit_code, "0 connected, 2 were already" in done.output) == (0, True)
    assert (users("export").output, users("history", "--json").output) == (before, history)
    assert listed(users) == [('A, "B"#1', "ada"), ("Bøb#2", "bob")]


def test_projects_have_slurm_accounts_and_the_history_keeps_them(users: Type) -> None:
    assert users("projects", "add", "p-1", "physics").exit_code == 0
    assert json.loads(users("projects", "list", "--json").output)[0]["account"] == "physics"
    for wrong in ("-A", "a b", "", "a,b", "../x"):
        assert users("projects", "add", "p-2", "--", wrong).exit_code != 0
    assert users("projects", "remove", "p-1").exit_code == 0
    assert users("projects", "remove", "p-1").exit_code == 1
    assert len(json.loads(users("history", "--json").output)) == 2


def test_an_account_that_was_made_anew_is_somebody_else(
    users: Type, core: SimulatedCore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users("add", "Ada#1", "ada")
    monkeypatch.setitem(ENTRIES, "ada", ("ada", "x", 54999, 54999, "", "/home/ada", "/bin/bash"))
    assert "54321 when it was connected and has 54999 now" in users("test", "Ada#1").output


def test_nobody_types_as_root(core: SimulatedCore, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        done = CliRunner().invoke(main, ["--config", str(tmp_path / "config.toml"), "users", "list"])
        assert "config.toml: cannot be read (No such file or directory); ucloud-slurm setup writes it" in done.output
        (tmp_path / "config.toml").touch()
        done = CliRunner().invoke(main, ["--config", str(tmp_path / "config.toml"), "users", "list"])
        assert (done.exit_code, "does not run as root" in done.output) == (78, True)


def test_the_slurm_account_comes_from_the_table_the_pattern_or_the_product(core: SimulatedCore, tmp_path: Path) -> None:
    table = {"mapping": "table", "account": "uc-{project}", "personal_account": "home-{user}"}
    provider = Provider.open(configuration(core, tmp_path, users=table))
    provider.people.add([UserLink("Ada#1", "ada", 54321, 0.0, "grace")])
    provider.people.add_project("known", "physics", "grace", 0.0)
    of = provider.mapping.identity
    assert of("Ada#1", "known").account == "physics"
    assert of("Ada#1", "other").account == "uc-other"
    assert of("Ada#1", None).account == "home-ada"
    provider.close()
    (tmp_path / "test.db").unlink()
    plain = Provider.open(configuration(core, tmp_path, users={"mapping": "table"}))
    plain.people.add([UserLink("Ada#1", "ada", 54321, 0.0, "grace")])
    assert plain.mapping.identity("Ada#1", "other").account is plain.mapping.identity("Ada#1", None).account is None
    plain.close()


@pytest.mark.parametrize("project", ["a b", "x --uid=0", "../p", "", "é", "a\nb", "x" * 200, "a,b"])
def test_no_project_makes_a_slurm_account_that_is_not_a_plain_word(core: SimulatedCore, tmp_path: Path, project: str) -> None:
    provider = Provider.open(configuration(core, tmp_path, users={"mapping": "table", "account": "{project}"}))
    provider.people.add([UserLink("Ada#1", "ada", 54321, 0.0, "grace")])
    with pytest.raises(Forbidden, match="no account here"):
        provider.mapping.identity("Ada#1", project)
    provider.close()
