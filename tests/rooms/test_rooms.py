"""The rooms of the house: who may know whom, and who may touch the world."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ucloud_slurm

HOUSE = Path(ucloud_slurm.__file__).parent
BASE = {"errors", "config", "run", "frames", "turns"}
STANDARD = ("errors", "run", "users/rules.py")
MAY_IMPORT = {
    "ucloud": BASE,
    "slurm": BASE,
    "bridge": BASE | {"ucloud", "slurm"},
    "store": BASE | {"ucloud"},
    "users": BASE | {"bridge", "store"},
    "worker": BASE | {"ucloud", "slurm", "bridge", "store", "users", "provider", "rendering"},
    "web": BASE | {"ucloud", "slurm", "bridge", "store", "users", "worker", "provider", "rendering"},
    "listener": (BASE - {"config"}) | {"ucloud", "store", "journal"},
    "cli": BASE
    | {"bridge", "ucloud", "slurm", "store", "users", "worker", "provider", "journal", "sandbox", "listener"},
    "sandbox": BASE | {"ucloud"},
}
# What decides must not do: no clock, no files, no processes, no network.
IMPURE = {
    "os",
    "subprocess",
    "socket",
    "time",
    "datetime",
    "requests",
    "sqlite3",
    "sqlite_utils",
    "pathlib",
    "threading",
}
PURE = ("bridge", "ucloud/applications.py", "ucloud/channel.py", "ucloud/control.py", "ucloud/eras.py",
        "ucloud/jobs.py", "ucloud/products.py", "ucloud/products_v2.py", "ucloud/wire.py", "slurm/parse.py",
        "slurm/records.py", "slurm/states.py", "slurm/refusals.py", "slurm/scheduler.py",
        "slurm/pyslurm/translation.py", "listener/pulse.py")  # fmt: skip


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            if node.module == "ucloud_slurm":
                yield from (f"ucloud_slurm.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_arrows_between_rooms_go_one_way(room: str) -> None:
    for path in (HOUSE / room).rglob("*.py"):
        for name in imports(path):
            parts = name.split(".")
            if parts[0] == "ucloud_slurm" and len(parts) > 1 and parts[1] != "__version__":
                assert parts[1] in MAY_IMPORT[room] | {room}, f"{path} imports {name}"


def test_every_room_has_a_rule() -> None:
    assert {path.parent.name for path in HOUSE.glob("*/__init__.py")} == set(MAY_IMPORT)


@pytest.mark.parametrize("place", PURE)
def test_what_decides_touches_nothing(place: str) -> None:
    where = HOUSE / place
    for path in [where] if where.is_file() else where.rglob("*.py"):
        used = {name.split(".")[0] for name in imports(path)}
        assert not used & IMPURE, f"{path} imports {used & IMPURE}"


def test_sql_is_in_the_store_only() -> None:
    for path in HOUSE.rglob("*.py"):
        if "store" not in path.parts and "sandbox" not in path.parts:
            assert not {"sqlite3", "sqlite_utils"} & {name.split(".")[0] for name in imports(path)}, path


@pytest.mark.parametrize("path", sorted(HOUSE.rglob("*.py")), ids=lambda path: str(path.relative_to(HOUSE)))
def test_no_module_grows_beyond_what_a_reader_holds(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


def test_pyslurm_is_loaded_in_its_own_process_only() -> None:
    loading = [path.name for path in HOUSE.rglob("*.py") if 'import_module("pyslurm")' in path.read_text()]
    assert sorted(loading) == ["host.py", "lister.py"]  # the one is the product's, the other the bench's
    assert not [path for path in HOUSE.rglob("*.py") if "pyslurm" in set(imports(path))]


def test_the_process_of_pyslurm_loads_little() -> None:
    code = "import sys; import ucloud_slurm.slurm.pyslurm.child; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    ours = {name for name in loaded if name.startswith("ucloud_slurm")}
    assert ours == {"ucloud_slurm", "ucloud_slurm.system.ipc", "ucloud_slurm.slurm", "ucloud_slurm.slurm.pyslurm",
                    "ucloud_slurm.slurm.pyslurm.child"}  # fmt: skip
    assert "pydantic" not in loaded
