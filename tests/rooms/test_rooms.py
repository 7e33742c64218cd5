"""The rooms of the house: who may know whom, and who may touch the world."""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ucloud_slurm
from tests.support.source import parsed

HOUSE = Path(ucloud_slurm.__file__).parent
ROOT = HOUSE.parent
MODULES = sorted(HOUSE.rglob("*.py"))

# Every room and every module at the root, from the bottom up: each may import what stands in its row.
MAY_IMPORT: dict[str, set[str]] = {
    "__init__": set(),
    "errors": set(),
    "system": {"errors"},
    "config": {"__init__", "errors", "system"},
    "ucloud": {"errors"},
    "slurm": {"errors", "system", "config"},
    "setup": {"errors", "system", "config", "slurm"},
    "bridge": {"errors", "config", "slurm", "ucloud"},
    "hooks": {"errors", "system", "config"},
    "store": {"errors", "system", "config", "ucloud"},
    "users": {"errors", "system", "config", "slurm", "bridge", "store"},
    "provider": {"__init__", "errors", "system", "config", "ucloud", "slurm", "bridge", "hooks", "store", "users"},
    "worker": {"errors", "system", "config", "ucloud", "slurm", "bridge", "hooks", "store", "users", "provider"},
    "web": {"__init__", "errors", "system", "ucloud", "slurm", "bridge", "store", "users", "provider"},
    "page": {"__init__", "errors", "system", "ucloud", "bridge", "store", "provider"},
    "transfer": {"errors", "system", "config", "ucloud", "bridge", "store", "users", "provider"},
    "listener": {"errors", "system", "ucloud", "store"},
    "app": {"errors", "system", "config", "users", "provider", "web"},
    "wsgi": {"errors", "system", "app"},
    "cli": {
        "__init__",
        "errors",
        "system",
        "config",
        "ucloud",
        "slurm",
        "setup",
        "bridge",
        "hooks",
        "store",
        "users",
        "provider",
        "worker",
        "listener",
        "page",
    },
    "__main__": {"cli"},
}

# What sudo starts as a user, what isolated child processes load before they drop anything, and what both are made
# of: nothing but the standard library and modules of ours that stand here too.
STANDARD_LIBRARY_ONLY = (
    "errors.py",
    "system",
    "users/as_user.py",
    "users/bundle.py",
    "users/file_failures.py",
    "users/file_jobs.py",
    "users/file_verbs.py",
    "users/folder_shell.py",
    "users/operations.py",
    "users/pump.py",
    "slurm/pyslurm/child.py",
    "provider/rendering_child.py",
    "bridge/template/messages.py",
)

# What decides must not do: no clock, no files, no processes, no network.
IMPURE = {"os", "subprocess", "socket", "time", "datetime", "requests", "sqlite3", "sqlite_utils", "pathlib", "threading"}
PURE = (
    "bridge",
    "page/plots.py",
    "page/timeline.py",
    "ucloud/applications.py",
    "ucloud/channel.py",
    "ucloud/eras.py",
    "ucloud/gate.py",
    "ucloud/jobs.py",
    "ucloud/products.py",
    "ucloud/reports.py",
    "ucloud/tasks.py",
    "ucloud/wire.py",
    "slurm/errors.py",
    "slurm/identity.py",
    "slurm/parse.py",
    "slurm/records.py",
    "slurm/scheduler.py",
    "slurm/shown.py",
    "slurm/states.py",
    "slurm/pyslurm/translation.py",
    "setup/proposal.py",
    "transfer/messages.py",
    "transfer/ranges.py",
    "ucloud/files.py",
    "hooks/decision.py",
    "listener/pulse.py",
    "web/live/admission.py",
    "worker/candidates.py",
    "worker/changes.py",
    "worker/comparison.py",
)


def imports(path: Path, *, when_loaded: bool = False) -> Iterator[str]:
    """The modules that a file names in its imports.

    :param when_loaded: only those that are imported as it is loaded itself
    """
    tree = parsed(path)
    for node in tree.body if when_loaded else ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names if module_file(f"{node.module}.{alias.name}"))
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def module_file(name: str) -> Path | None:
    """The file of a module of ours; None for everything else."""
    if name.split(".", maxsplit=1)[0] != "ucloud_slurm":
        return None
    place = ROOT.joinpath(*name.split("."))
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)


def room_of(path: Path) -> str:
    """The room that a file is in; a module at the root is its own."""
    return path.relative_to(HOUSE).parts[0].removesuffix(".py")


def rooms_used(path: Path) -> set[str]:
    """The rooms and modules at the root that a file imports."""
    used = set()
    for name in imports(path):
        if name == "ucloud_slurm" or name.startswith("ucloud_slurm."):
            file = module_file(name)
            if file is not None:
                used.add(room_of(file))
    return used - {room_of(path)}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_a_module_imports_only_rooms_below_its_own(path: Path) -> None:
    rule = MAY_IMPORT[room_of(path)]  # every module has one
    assert rooms_used(path) - {"__init__"} <= rule, "an arrow that goes up"
    if "__init__" in rooms_used(path) and "__version__" in path.read_text():
        assert "__init__" in rule


def test_the_rules_are_about_what_is_there_and_have_no_circle() -> None:
    assert {room_of(path) for path in MODULES} == set(MAY_IMPORT)
    list(graphlib.TopologicalSorter(MAY_IMPORT).static_order())  # raises CycleError


def test_modules_import_each_other_in_one_direction() -> None:
    graph = {
        path: {file for name in imports(path, when_loaded=True) if (file := module_file(name)) not in (None, path)}
        for path in MODULES
    }
    list(graphlib.TopologicalSorter({path: known - {HOUSE / "__init__.py"} for path, known in graph.items()}).static_order())


@pytest.mark.parametrize("place", STANDARD_LIBRARY_ONLY)
def test_what_drops_its_rights_loads_the_standard_library_only(place: str) -> None:
    allowed = {file for one in STANDARD_LIBRARY_ONLY for file in files(one)}
    for path in files(place):
        for name in imports(path, when_loaded=True):
            file = module_file(name)
            if file is not None:
                assert file in allowed or file.name == "__init__.py", f"{path} imports {name}"
            else:
                assert name.split(".")[0] in sys.stdlib_module_names, f"{path} imports {name}"


def files(place: str) -> list[Path]:
    """The module of that name, or all modules of a room."""
    where = HOUSE / place
    return [where] if where.is_file() else sorted(where.rglob("*.py"))


@pytest.mark.parametrize("place", PURE)
def test_what_decides_touches_nothing(place: str) -> None:
    for path in files(place):
        used = {name.split(".")[0] for name in imports(path)}
        assert not used & IMPURE, f"{path} imports {used & IMPURE}"


def test_sql_is_in_the_store_only() -> None:
    for path in MODULES:
        if room_of(path) != "store":
            assert not {"sqlite3", "sqlite_utils"} & {name.split(".")[0] for name in imports(path)}, path


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_no_module_grows_beyond_what_a_reader_holds(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300


def test_the_package_stays_a_size_that_one_person_can_know() -> None:
    texts = [path.read_text() for path in MODULES]
    assert len([path for path in MODULES if path.name != "__init__.py"]) <= 347
    assert sum(len(text.splitlines()) for text in texts) <= 48_340
    assert sum(text.count("# noqa") + text.count("# fmt: ") for text in texts) <= 40


def test_pyslurm_is_loaded_in_its_own_process_only() -> None:
    loading = [path.name for path in MODULES if 'import_module("pyslurm")' in path.read_text()]
    assert loading == ["child.py"]
    assert not [path for path in MODULES if "pyslurm" in set(imports(path))]


def test_the_process_of_pyslurm_loads_little() -> None:
    code = "import sys; import ucloud_slurm.slurm.pyslurm.child; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    ours = {name for name in loaded if name.startswith("ucloud_slurm")}
    assert ours == {
        "ucloud_slurm",
        "ucloud_slurm.errors",
        "ucloud_slurm.slurm",
        "ucloud_slurm.slurm.pyslurm",
        "ucloud_slurm.slurm.pyslurm.child",
        "ucloud_slurm.system",
        "ucloud_slurm.system.ipc",
        "ucloud_slurm.system.lean",
    }
    assert "pydantic" not in loaded
