"""Login shells in folders of a drive: below its root, as the user, and as long as somebody looks at them."""

import os
import pwd
import select
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from tests.promises.test_privileged_program import python_for_all
from tests.sandbox.processes import wait_until
from tests.support.folders import PATIENCE, Drive
from ucloud_slurm.errors import Problem
from ucloud_slurm.system import beneath, terminal
from ucloud_slurm.system.terminal import Terminal, TerminalError
from ucloud_slurm.users import bundle
from ucloud_slurm.users.files import FilesAs


@contextmanager
def shell(drive: Drive, *parts: str, cols: int = 80, rows: int = 24) -> Iterator[Terminal]:
    terminal = drive.files.shell(drive.at(*parts), cols, rows, within=20.0)
    try:
        yield terminal
    finally:
        terminal.close()


def said(terminal: Terminal, command: str) -> str:
    """What a command prints in a shell."""
    terminal.write(f"{command}; printf 'do''ne'\r".encode())
    data, until = b"", time.monotonic() + PATIENCE
    while b"done" not in data:
        assert time.monotonic() < until, data
        select.select([terminal.descriptor], [], [], 1)
        with suppress(BlockingIOError):
            piece = terminal.read()
            assert piece, data
            data += piece
    return data.decode(errors="replace")


def refused(files: FilesAs, drive: Drive, *parts: str) -> Problem:
    with pytest.raises(Problem) as refusal:
        files.shell(drive.at(*parts), 80, 24, within=20.0).close()
    return refusal.value


def test_a_shell_begins_in_a_folder_of_the_drive_as_its_user(drive: Drive) -> None:
    (drive.root / "a b" / "$(id)").mkdir(parents=True)
    with shell(drive, "a b", "$(id)", cols=132, rows=43) as terminal:
        shown = said(terminal, "pwd -P; echo [`id -u`] [`stty size`]; echo $0 $HOME $TERM")
        assert f"{drive.root}/a b/$(id)\r\n" in shown
        assert f"[{os.geteuid()}] [43 132]" in shown
        entry = pwd.getpwuid(os.geteuid())
        assert f"{entry.pw_shell} {entry.pw_dir} xterm-256color" in shown
    with shell(drive) as terminal:
        assert f"{drive.root}\r\n" in said(terminal, "pwd -P")


@pytest.mark.parametrize("size", [(0, -5), (10**12, 2**70)])
def test_a_size_that_no_terminal_has_becomes_one(drive: Drive, size: tuple[int, int]) -> None:
    with shell(drive, cols=size[0], rows=size[1]) as terminal:
        assert ("[1 1]" if size[0] < 1 else "[1000 1000]") in said(terminal, "echo [`stty size`]")


def test_a_shell_ends_when_nobody_looks_at_it_any_more(drive: Drive, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with shell(drive) as terminal:
        said(terminal, f"echo $$ > {pid_file}")
    pid = int(pid_file.read_text())
    wait_until("the shell is gone", lambda: not Path(f"/proc/{pid}").exists(), seconds=PATIENCE)


def test_no_shell_begins_where_a_link_leads_out(drive: Drive) -> None:
    (drive.root / "link").symlink_to(drive.outside)
    (drive.root / "up").symlink_to("../outside")
    for name in ("link", "up"):
        assert refused(drive.files, drive, name).status == 403


def test_no_shell_begins_in_what_is_no_folder_or_not_there(drive: Drive) -> None:
    (drive.root / "file").touch()
    os.mkfifo(drive.root / "pipe")
    assert refused(drive.files, drive, "nothing").status == 404
    assert {refused(drive.files, drive, name).status for name in ("file", "pipe")} == {400}


def test_a_folder_that_is_swapped_for_a_link_between_two_looks_gets_no_shell(
    own_drive: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first look finds a folder, the second one the link."""
    own_drive.outside.mkdir()
    folder = own_drive.root / "folder"
    folder.mkdir()
    look = beneath.status

    def swap(place: int, name: bytes) -> os.stat_result:
        found = look(place, name)
        if not folder.is_symlink():
            folder.rename(own_drive.root / "before")
            folder.symlink_to(own_drive.outside)
        return found

    monkeypatch.setattr(beneath, "status", swap)
    assert refused(own_drive.files, own_drive, "folder").status == 403
    assert folder.is_symlink()


def test_a_folder_that_is_swapped_after_it_was_opened_is_the_one_that_was_opened(
    own_drive: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_drive.outside.mkdir()
    folder = own_drive.root / "folder"
    folder.mkdir()
    start = terminal.start

    def swapped(*arguments: object, **more: object) -> terminal.PtyTerminal:
        folder.rename(own_drive.root / "before")
        folder.symlink_to(own_drive.outside)
        return start(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(terminal, "start", swapped)
    with shell(own_drive, "folder") as opened:
        assert f"{own_drive.root}/before\r\n" in said(opened, "pwd -P")


def test_a_terminal_that_the_system_does_not_give_leaves_no_descriptor(
    own_drive: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_arguments: object) -> None:
        raise TerminalError("the system gives no pseudo-terminal")

    before = sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208
    monkeypatch.setattr(terminal, "start", fails)
    with pytest.raises(TerminalError):
        own_drive.files.shell(own_drive.at(), 80, 24)
    assert sorted(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_a_shell_that_prints_without_end_ends_as_quietly(own_drive: Drive, tmp_path: Path) -> None:
    """What is sent to a closed socket, and what was typed and not read, is no error of anybody's."""

    def is_gone(process: Path) -> bool:
        return not process.exists()

    pid_file = tmp_path / "pid"
    for _ in range(3):
        with shell(own_drive) as opened:
            said(opened, f"echo $$ > {pid_file}")
            opened.write(b"yes\r")
            assert select.select([opened.descriptor], [], [], PATIENCE)[0]
            opened.write(b"more\r" * 200)
        process = Path("/proc") / pid_file.read_text().strip()
        wait_until("the shell is gone", partial(is_gone, process), seconds=PATIENCE)
    wait_until("no thread is left", lambda: not any(one.name == "files" for one in threading.enumerate()), seconds=PATIENCE)


AS_USER = """
import os, pwd, select, socket, sys
sys.path.insert(0, sys.argv[1])
from ucloud_slurm.users import as_user
as_user._protect()
from ucloud_slurm.users import file_verbs, pump
pwd.getpwuid = lambda uid: pwd.struct_passwd(("u", "x", uid, uid, "", "/nonexistent", "/bin/sh"))
def ask(*parts):
    message = {"user": "u", "verb": "shell", "deadline": 1, "form": 1, "root": sys.argv[2], "parts": [*parts]}
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    given = message | {"cols": 80, "rows": 24}
    answer = file_verbs.answer(given, [theirs.fileno()], lambda: False, pump.detach)
    theirs.close()
    return answer, ours
answer, shell = ask("folder")
shell.send(b"istty -echo; echo [`pwd -P`] [`id -u`] [`umask`]; ls other/secret; cat /proc/$PPID/environ; exit\\n")
print(answer, b"".join(iter(lambda: shell.recv(4096), b"")).decode())
print(ask("locked")[0], ask("closed")[0])
"""


def test_a_program_that_nobody_may_trace_opens_a_shell_that_is_its_user_s() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # where the user may enter
        folder = Path(name)
        folder.chmod(0o755)
        for each, owner, mode in (
            ("drive", 54321, 0o700),
            ("drive/folder", 54321, 0o100),
            ("drive/folder/other", 0, 0o700),
            ("drive/locked", 54321, 0o600),
            ("drive/closed", 0, 0o700),
        ):
            (folder / each).mkdir()
            os.chown(folder / each, owner, owner)
            (folder / each).chmod(mode)
        bundle.write(folder / bundle.NAME)
        done = subprocess.run(
            [python_for_all(), "-I", "-S", "-c", AS_USER, str(folder / bundle.NAME), str(folder / "drive")],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            user=54321,
            group=54321,
            extra_groups=[],
            umask=0o077,
        )
        assert done.stderr == ""
        opened, refused_ = done.stdout.replace("\r", "").strip().rsplit("\n", 1)
        assert opened.startswith("{}")
        assert f"[{folder}/drive/folder] [54321] [0077]" in opened
        assert opened.count("Permission denied") == 2  # somebody else's folder, and the process that holds the terminal
        assert refused_ == "{'failed': 'denied', 'target': False} {'failed': 'denied', 'target': False}"
