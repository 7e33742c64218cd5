"""Whatever is on the command line, and whatever its streams are: one sentence, and no stack trace."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

import pytest
from click.testing import CliRunner

from tests.support.config_file import write_config
from ucloud_slurm.cli import main as command
from ucloud_slurm.errors import Misconfigured
from ucloud_slurm.system import accounts

NOBODY = 65534
RUN = "import sys; sys.argv[0] = 'ucloud-slurm'; from ucloud_slurm.cli import main; main.run()"


def started(code: str, stdout: int | IO[str] = subprocess.PIPE, encoding: str = "utf-8") -> subprocess.CompletedProcess[str]:
    """A process that runs the code as the program does."""
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    return subprocess.run(
        [sys.executable, "-c", code], stdout=stdout, stderr=subprocess.PIPE, encoding=encoding, check=False, env=env
    )


def test_an_argument_that_is_no_text_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["ucloud-slurm", "users", "add", os.fsdecode(b"\xff#1"), "ada"])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    with pytest.raises(SystemExit) as ended:
        command.run()
    assert ended.value.code == 2
    assert capsys.readouterr().err == "ucloud-slurm: '\\udcff#1' on the command line should be text in UTF-8.\n"


def test_what_nobody_has_foreseen_is_one_sentence_without_its_text() -> None:
    code = RUN.replace("main.run()", "main.main = lambda **_: int('a secret'); main.run()")
    done = started(code)
    assert done.returncode == 1
    assert "ValueError at " in done.stderr
    assert "ucloud-slurm report" in done.stderr
    assert "secret" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_output_that_cannot_be_written_is_one_sentence() -> None:
    with Path("/dev/full").open("w") as full:
        done = started(RUN.replace("'ucloud-slurm'", "'ucloud-slurm'; sys.argv.append('--help')"), stdout=full)
    assert (done.returncode, done.stderr) == (1, "ucloud-slurm: The output cannot be written (No space left on device).\n")


def test_closed_streams_are_opened_before_a_file_gets_their_numbers() -> None:
    show = "lambda **_: print(sys.stdin.read(), sys.stdout.isatty(), os.dup(2), file=sys.stderr)"
    closed = "import os, sys; os.close(0); os.close(1); sys.stdin = sys.stdout = None; "  # as Python begins then
    done = started(closed + RUN.replace("main.run()", f"main.main = {show}; main.run()"))
    assert done.stderr == " False 3\n"


def test_letters_that_a_terminal_lacks_are_printed_in_ascii() -> None:
    code = RUN.replace("main.run()", "import click; main.main = lambda **_: click.echo('p\\xe4ck \\U0001f600'); main.run()")
    done = started(code, encoding="latin-1")
    assert (done.stdout, done.stderr) == ("päck \\U0001f600\n", "")


@pytest.mark.parametrize(
    "words",
    [
        ("jobs", "--all", "--most", "9" * 30),
        ("outbox", "--most", str(2**63 - 1)),
        ("acts", "--most", "9" * 30),
        ("drives", "--most", "9" * 30),
        ("hooks", "list", "--most", "9" * 30),
        ("hooks", "drop", "9" * 30),
        ("page", "--idle", "9" * 400),
        ("worker", "--loop", "nan"),
        ("worker", "--loop", "inf"),
        ("worker", "--wait", "-1"),
        ("status", "--watch", "nan"),
    ],
)
def test_a_number_that_nothing_can_use_is_refused_by_name(words: tuple[str, ...], tmp_path: Path) -> None:
    done = CliRunner().invoke(command.main, ["--config", str(tmp_path / "none"), *words])
    assert done.exit_code == 2
    assert "Error: Invalid value for '" in done.stderr


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (Path.mkdir, "(Is a directory); name the configuration with --config, or set UCLOUD_SLURM_CONFIG.\n"),
        (Path.exists, "(No such file or directory); ucloud-slurm setup writes it, or set UCLOUD_SLURM_CONFIG.\n"),
    ],
)
def test_a_configuration_that_cannot_be_read_has_a_next_step(make: Callable[[Path], object], said: str, tmp_path: Path) -> None:
    make(tmp_path / "config.toml")
    done = CliRunner().invoke(command.main, ["--config", str(tmp_path / "config.toml"), "jobs"])
    assert done.exit_code == 78
    assert done.stderr == f"ucloud-slurm: {tmp_path}/config.toml: cannot be read {said}"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_somebody_else_is_sent_to_the_daemon_user(monkeypatch: pytest.MonkeyPatch) -> None:
    with TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        write_config(folder).chmod(0o600)
        monkeypatch.setattr(os, "access", lambda *_, **_more: False)  # it asks for the real uid, that of the tests
        os.seteuid(NOBODY)
        try:
            done = CliRunner().invoke(command.main, ["--config", f"{folder}/config.toml", "jobs"])
        finally:
            os.seteuid(0)
    assert done.exit_code == 78
    assert "(Permission denied); the daemon user may read it: runuser -u ucloud-slurm" in done.stderr


def test_a_uid_without_an_account_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000_001)
    with pytest.raises(Misconfigured, match="no account with the uid 4000000001"):
        accounts.own_account()
