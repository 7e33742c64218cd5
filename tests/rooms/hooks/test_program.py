"""Whatever a program of the site does, it ends at its limit, and the reason is a sentence."""

import os
import re
import time
from pathlib import Path

import pytest

from tests.sandbox.processes import wait_until
from ucloud_slurm.hooks.program import HookFailedError, run

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}
LONG = 60.0  # in which a busy host runs any of these


def script(folder: Path, text: str, mode: int = 0o755) -> str:
    path = folder / "program"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(mode)
    return str(path)


def alive(pid: int) -> bool:
    """Whether a process runs, and is no zombie that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_program_gets_the_document_and_a_fixed_environment(tmp_path: Path) -> None:
    text = "cat; env | grep -v -e ^PWD= -e ^_= -e ^SHLVL= -e ^OLDPWD=; pwd"
    assert run(script(tmp_path, text), '{"a": 1}', LONG, ENVIRONMENT).splitlines() == ['{"a": 1}', "PATH=/usr/bin:/bin", "/"]


def test_a_program_that_does_not_read_a_large_document_is_not_waited_for(tmp_path: Path) -> None:
    assert run(script(tmp_path, "echo ready"), "x" * 4_000_000, LONG, ENVIRONMENT) == "ready\n"


def test_a_program_that_hangs_is_killed_with_all_processes_of_its_group(tmp_path: Path) -> None:
    children = tmp_path / "children"
    text = f"sleep 1000 & echo $! > {children}; sleep 1001 & echo $! >> {children}; wait"
    pids: list[int] = []
    for within in (0.5, 5.0, 50.0):  # a busy host takes a while to start it
        with pytest.raises(HookFailedError, match=f"took longer than {within:g} s and was killed"):
            run(script(tmp_path, text), "{}", within, ENVIRONMENT)
        pids = [int(line) for line in children.read_text().split()] if children.exists() else []
        if len(pids) == 2:
            break
    assert len(pids) == 2
    wait_until("they have ended", lambda: not any(map(alive, pids)), seconds=20)


def test_a_child_that_stays_and_has_the_output_open_neither_delays_nor_survives(tmp_path: Path) -> None:
    child, began = tmp_path / "child", time.monotonic()
    assert run(script(tmp_path, f"sleep 1000 & echo $! > {child}; echo done"), "{}", 1000.0, ENVIRONMENT) == "done\n"
    assert time.monotonic() - began < 900
    wait_until("it has ended", lambda: not alive(int(child.read_text())), seconds=20)


def test_megabytes_of_output_are_read_and_refused(tmp_path: Path) -> None:
    with pytest.raises(HookFailedError, match="printed more than 64 KiB"):
        run(script(tmp_path, "head -c 5000000 /dev/zero"), "{}", LONG, ENVIRONMENT)


def test_the_last_line_of_a_program_that_fails_is_in_the_reason(tmp_path: Path) -> None:
    text = "head -c 30000 /dev/zero >&2; echo >&2; printf 'the \\033[1mdirectory\\nLDAP is away\\n' >&2; exit 3"
    with pytest.raises(HookFailedError, match=r"ended with exit status 3: LDAP is away$"):
        run(script(tmp_path, text), "{}", LONG, ENVIRONMENT)
    with pytest.raises(HookFailedError, match=r"ended with signal 9$"):
        run(script(tmp_path, "kill -9 $$"), "{}", LONG, ENVIRONMENT)


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777])
def test_a_program_that_others_can_change_is_not_run(tmp_path: Path, mode: int) -> None:
    ran = tmp_path / "ran"
    program = script(tmp_path, f"touch {ran}", mode)
    with pytest.raises(HookFailedError, match=f"can be changed by others than its owner; repair it with chmod go-w {program}"):
        run(program, "{}", LONG, ENVIRONMENT)
    assert not ran.exists()


def test_a_program_in_a_folder_that_others_can_change_is_not_run(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(HookFailedError, match=f"{folder} can be changed by others"):
        run(script(folder, "true"), "{}", LONG, ENVIRONMENT)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another account")
def test_a_program_of_another_account_is_not_run(tmp_path: Path) -> None:
    program = script(tmp_path, "true")
    os.chown(program, 12345, 12345)
    with pytest.raises(HookFailedError, match=re.escape("should belong to root or the account that runs it")):
        run(program, "{}", LONG, ENVIRONMENT)


def test_a_program_that_is_missing_or_cannot_be_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(HookFailedError, match="No such file"):
        run(str(tmp_path / "missing"), "{}", LONG, ENVIRONMENT)
    with pytest.raises(HookFailedError, match="program cannot be run"):
        run(script(tmp_path, "true", 0o644), "{}", LONG, ENVIRONMENT)
    (tmp_path / "program").unlink()
    (tmp_path / "program").write_text("#!/no/such/interpreter\n")
    (tmp_path / "program").chmod(0o755)
    with pytest.raises(HookFailedError, match="check the file and its first line"):
        run(str(tmp_path / "program"), "{}", LONG, ENVIRONMENT)
