"""The program that sudo starts as a user is one file: nothing that is installed, or that its caller sets, is in it."""

import io
import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Callable
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile

import pytest

from ucloud_slurm.users import bundle

BUILD = (
    "import sys; sys.path[:0] = [sys.argv[1]]; from ucloud_slurm.users import bundle; bundle.write(bundle.Path(sys.argv[2]))"
)
PLANTED = "import os; os.close(os.open({marker!r}, os.O_CREAT))"
REFUSAL = "ucloud-slurm-as-user: was not started by sudo; the runner starts it\n"


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A virtual environment with the program in it, at a path that a shell could misread."""
    folder = tmp_path / 'it\'s $(touch x) `id` "*" \n-I'
    venv.EnvBuilder(symlinks=True).create(folder)
    bundle.write(folder / "bin" / bundle.NAME)
    return folder / "bin" / bundle.NAME


def start(path: Path, *arguments: str, cwd: Path | None = None, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([path, *arguments], capture_output=True, text=True, check=False, cwd=cwd, env=environment)


def test_the_program_starts_where_it_lies_and_takes_no_arguments(installed: Path) -> None:
    assert start(installed).stderr == REFUSAL
    assert start(installed, "-h").stderr == "ucloud-slurm-as-user: takes no arguments; the runner starts it\n"
    assert start(installed, "").stderr == "ucloud-slurm-as-user: takes no arguments; the runner starts it\n"
    assert [path.name for path in installed.parents[2].iterdir()] == [installed.parents[1].name], "nothing was run"


def test_nothing_that_is_installed_and_nothing_of_the_caller_runs_in_it(installed: Path, tmp_path: Path) -> None:
    here = tmp_path / "here"
    packages = Path(sysconfig.get_path("purelib", "venv", vars={"base": str(installed.parents[1])}))
    planted = {
        packages / "any.pth": "pth",
        packages / "sitecustomize.py": "sitecustomize",
        packages / "usercustomize.py": "usercustomize",
        packages / "ucloud_slurm" / "__init__.py": "package",
        here / "ucloud_slurm" / "__init__.py": "folder",
        here / "ctypes.py": "standard library",
        here / "startup.py": "startup",
    }
    for path, name in planted.items():
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(PLANTED.format(marker=str(tmp_path / f"ran: {name}")))
    (here / "shell").write_text(f"touch '{tmp_path}/ran: shell'\n")
    (here / "python3").write_text(f"#!/bin/sh\ntouch '{tmp_path}/ran: python3'\n")
    (here / "python3").chmod(0o755)
    environment = {
        "PATH": str(here),
        "PYTHONPATH": str(here),
        "PYTHONSTARTUP": str(here / "startup.py"),
        "PYTHONHOME": str(here),
        "PYTHONINSPECT": "1",
        "PYTHONPLATLIBDIR": str(here),
        "ENV": str(here / "shell"),
        "BASH_ENV": str(here / "shell"),
        "BASH_FUNC_exec%%": f"() {{ touch '{tmp_path}/ran: function'; }}",
        "HOME": str(here),
    }
    assert start(installed, cwd=here, **environment).stderr == REFUSAL
    assert list(tmp_path.glob("ran: *")) == []
    # The same places do count for a Python that is started without more (Debian has a sitecustomize of its own).
    subprocess.run([installed.parent / "python3", "-c", "import ctypes, ucloud_slurm"], check=True, cwd=here, env={})
    ran = {path.name.removeprefix("ran: ") for path in tmp_path.glob("ran: *")}
    assert {"pth", "standard library", "folder"} <= ran


def test_two_programs_are_the_same_byte_for_byte(tmp_path: Path) -> None:
    (tmp_path / "other").symlink_to(bundle.PACKAGES)
    for number, packages in enumerate((bundle.PACKAGES, tmp_path / "other")):
        environment = {"PYTHONHASHSEED": str(number), "TZ": f"UTC+{number}"}
        argv = [sys.executable, "-c", BUILD, str(packages), str(tmp_path / str(number))]
        subprocess.run(argv, check=True, cwd=tmp_path, env=environment, umask=0o022 if number else 0o077)
    assert (tmp_path / "0").read_bytes() == (tmp_path / "1").read_bytes() == bundle.contents()
    assert (tmp_path / "0").stat().st_mode == (tmp_path / "1").stat().st_mode == 0o100755


def test_the_program_holds_the_modules_that_it_imports_and_no_other(installed: Path) -> None:
    with ZipFile(installed) as archive:
        names = {info.filename for info in archive.infolist() if info.compress_type == ZIP_STORED}
        assert names == {name for name in archive.namelist() if name.startswith("ucloud_slurm/")}
    sources = {name for name in names if name.endswith(".py")}
    assert names - sources == {f"{name}c" for name in sources}
    code = "import sys; sys.path.insert(0, sys.argv[1]); import ucloud_slurm.users.as_user; print(*sys.modules, sep='\\n')"
    argv = [sys.executable, "-I", "-S", "-c", code, str(installed)]
    loaded = set(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split())
    ours = {name for name in loaded if name.startswith("ucloud_slurm")}
    assert {name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in sources} >= ours
    assert not {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names - {"ucloud_slurm", "__main__", "org"}


# Whatever else it would load costs each first call of a person: enum and re alone as much as Python itself.
LOADED = {
    *("_abc", "_codecs", "_collections_abc", "_ctypes", "_frozen_importlib", "_frozen_importlib_external", "_imp", "_io"),
    *("_json", "_signal", "_socket", "_stat", "_thread", "_warnings", "_weakref", "abc", "builtins", "codecs", "encodings"),
    *("encodings.aliases", "encodings.utf_8", "errno", "fcntl", "genericpath", "grp", "io", "marshal", "os", "os.path"),
    *("posix", "posixpath", "pwd", "resource", "select", "stat", "sys", "time", "zipimport", "__future__", "__main__"),
}
OURS = {
    *("ucloud_slurm", "ucloud_slurm.errors", "ucloud_slurm.system", "ucloud_slurm.users"),
    *(
        f"ucloud_slurm.system.{name}"
        for name in ("accounts", "files", "ipc", "lean", "ownership", "slurm_options", "waiting_command")
    ),
    *(f"ucloud_slurm.users.{name}" for name in ("as_user", "operations")),
}


def test_a_start_loads_so_much_and_no_more(installed: Path) -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import ucloud_slurm.users.as_user; print(*sys.modules)"
    argv = [str(installed.parent / "python3"), "-I", "-S", "-B", "-c", code, str(installed)]
    loaded = set(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split())
    assert loaded - LOADED - OURS == set()
    assert "-I -S -B -c" in installed.read_bytes().split(b"\n")[1].decode()


def test_a_module_that_imports_a_package_makes_no_program(tmp_path: Path) -> None:
    for name, source in bundle.modules().items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(source)
    with (tmp_path / "ucloud_slurm" / "system" / "ipc.py").open("a") as module:
        module.write("\n\ndef later():\n    import requests.adapters\n")
    with pytest.raises(ImportError, match=r"ucloud_slurm.system.ipc imports requests.adapters"):
        bundle.contents(tmp_path)


def test_another_python_than_that_which_made_it_reads_the_sources(installed: Path) -> None:
    old = installed.read_bytes()
    made = io.BytesIO(old)
    prelude = old[: old.index(b"PK\x03\x04")]
    changed = io.BytesIO()
    changed.write(prelude)
    with ZipFile(made) as before, ZipFile(changed, "w") as after:
        for name in before.namelist():
            data = before.read(name)
            after.writestr(name, bytes(4) + data[4:] if name.endswith(".pyc") else data)
    installed.write_bytes(changed.getvalue())
    assert start(installed).stderr == REFUSAL


LOCAL_HEADER = b"PK\x03\x04"


@pytest.mark.parametrize(
    "left_of",
    [
        pytest.param(lambda whole: whole[: whole.index(LOCAL_HEADER)], id="no archive"),
        pytest.param(lambda whole: whole.replace(LOCAL_HEADER, b"gone"), id="replaced after its directory was read"),
        pytest.param(lambda whole: whole[: whole.index(LOCAL_HEADER)] + whole[-200_000:], id="cut"),
    ],
)
def test_a_start_that_cannot_read_the_modules_says_nothing_so_that_it_is_tried_again(
    installed: Path, left_of: Callable[[bytes], bytes]
) -> None:
    installed.write_bytes(left_of(installed.read_bytes()))
    done = start(installed)
    assert (done.returncode, done.stdout, done.stderr) == (bundle.UNREADABLE, "", "")


def test_the_compiled_modules_are_used(installed: Path) -> None:
    """Else each start would compile them."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); import ucloud_slurm.users.as_user as m; print(m.__file__)"
    argv = [str(installed.parent / "python3"), "-I", "-S", "-c", code, str(installed)]
    shown = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert shown == f"{installed}{os.sep}ucloud_slurm/users/as_user.pyc\n"


TARGET = """
import os, sys
sys.path.insert(0, sys.argv[1])
from ucloud_slurm.users import as_user
if sys.argv[2] == "protected": as_user._protect()
print("ready", flush=True); sys.stdin.readline()
os.execv("/bin/sh", ["sh", "-c", "echo ready; read line"])
"""
# What a process of the same user reaches of it, at first and after it has started something else. It is the parent, since
# some kernels let nobody else trace (Yama). ptrace(2): PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH.
INTRUDER = """
import ctypes, os, subprocess, sys
target = subprocess.Popen([sys.executable, "-I", "-S", *sys.argv[1:]], stdin=-1, stdout=-1, text=True)
libc = ctypes.CDLL(None)
zero = ctypes.c_long(0)
for _ in range(2):
    assert target.stdout.readline() == "ready\\n"
    reached = []
    for name in ("mem", "environ", "maps", "fd/0"):
        try:
            os.close(os.open(f"/proc/{target.pid}/{name}", os.O_RDONLY))
            reached.append(name)
        except PermissionError:
            pass
    if libc.ptrace(0x4206, target.pid, zero, zero) == 0:
        reached.append("ptrace")
        assert libc.ptrace(0x4207, target.pid, zero, zero) == 0
        os.waitpid(target.pid, 0)
        assert libc.ptrace(17, target.pid, zero, zero) == 0
    print(*reached, sep=" ", flush=True)
    target.stdin.write("\\n")
    target.stdin.flush()
target.wait()
"""


@pytest.mark.parametrize(("how", "reached"), [("protected", ""), ("as it was", "mem environ maps fd/0 ptrace")])
def test_no_process_of_its_user_reads_its_memory_and_what_it_starts_is_its_users_again(how: str, reached: str) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # where the user may enter
        Path(folder).chmod(0o755)
        path = Path(folder) / bundle.NAME
        (Path(folder) / "target.py").write_text(TARGET)
        bundle.write(path)
        done = subprocess.run(
            [python_for_all(), "-I", "-S", "-c", INTRUDER, str(Path(folder) / "target.py"), str(path), how],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            user=54321,
            group=54321,
            extra_groups=[],
        )
    assert done.stdout.splitlines() == [reached, "mem environ maps fd/0 ptrace"], done.stderr


def python_for_all() -> str:
    """The interpreter below the virtual environment, which other accounts can run."""
    return str(Path(sys.executable).resolve())
