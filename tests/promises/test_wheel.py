"""What is shipped is the product alone: no simulated UCloud, no test, and no dependency that only those have."""

import ast
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from email import message_from_bytes
from importlib.metadata import packages_distributions
from pathlib import Path
from zipfile import ZipFile

import pytest

from ucloud_slurm.users import bundle

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "ucloud_slurm"
BUILD_SDIST = "import sys; from setuptools import build_meta; print(build_meta.build_sdist(sys.argv[1]))"
BUILD_EDITABLE = "import sys; from setuptools import build_meta; print(build_meta.build_editable(sys.argv[1]))"
SHIPPED = re.compile(
    r"ucloud_slurm/(.+\.py|py\.typed|(web|page)/templates/[^/]+\.html|page/static/[^/]+\.(css|svg))|ucloud_slurm-[^/]+\.dist-info/.+"
    r"|ucloud_slurm-[^/]+\.data/scripts/ucloud-slurm-as-user"
    r"|ucloud_slurm-[^/]+\.data/data/share/ucloud-slurm/(etc|systemd)/([^/]+/)?[^/]+"
)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy without what earlier builds have left, which setuptools would put into a wheel."""
    copy = tmp_path_factory.mktemp("wheel") / "checkout"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__"))
    return copy


@pytest.fixture(scope="module")
def wheel(checkout: Path) -> Path:
    return pip_wheel(checkout)


def pip_wheel(source: Path) -> Path:
    """Builds the wheel of a source tree beside it."""
    folder = source.with_name(f"{source.name}-wheel")
    run("-m", "pip", "wheel", str(source), "--no-deps", "--no-build-isolation", "--no-index", "-w", str(folder))
    (made,) = folder.iterdir()
    return made


def run(*arguments: str, cwd: Path | None = None) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=cwd, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def names(wheel: Path) -> set[str]:
    with ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_a_wheel_holds_the_package_and_no_simulated_ucloud(wheel: Path) -> None:
    shipped = names(wheel)
    assert not [name for name in shipped if not SHIPPED.fullmatch(name)]
    assert not [name for name in shipped if {"tests", "sandbox", "core"} & set(Path(name).parts)]
    here = {str(path.relative_to(ROOT)) for path in PACKAGE.rglob("*") if path.is_file()}
    modules = {name for name in shipped if name.startswith("ucloud_slurm/")}
    assert modules == {name for name in here if "__pycache__" not in name}
    with ZipFile(wheel) as archive:
        code = [name for name in shipped if name.startswith("ucloud_slurm/")]
        assert not [name for name in code if re.search(rb"(?i)simulated.?(ucloud|core)", archive.read(name))]


def test_a_wheel_holds_what_setup_installs_on_a_host(wheel: Path) -> None:
    placed = {name.partition(".data/data/share/ucloud-slurm/")[2] for name in names(wheel)} - {""}
    files = [path for folder in ("etc", "systemd") for path in (ROOT / folder).rglob("*") if path.is_file()]
    assert placed == {str(path.relative_to(ROOT)) for path in files}


def test_a_wheel_of_the_source_distribution_holds_the_same(checkout: Path, wheel: Path, tmp_path: Path) -> None:
    made = tmp_path / run("-c", BUILD_SDIST, str(tmp_path), cwd=checkout).splitlines()[-1]
    run("-m", "tarfile", "--extract", str(made), str(tmp_path / "source"))
    (source,) = (tmp_path / "source").iterdir()
    assert (source / "tests" / "sandbox" / "__main__.py").is_file()  # the sandbox comes with the sources
    other = pip_wheel(source)
    assert names(other) == names(wheel)
    assert the_program(other) == the_program(wheel) == bundle.contents(), "wherever it is built"


def test_every_way_to_install_gives_the_program_that_sudo_starts(checkout: Path, wheel: Path, tmp_path: Path) -> None:
    editable = tmp_path / run("-c", BUILD_EDITABLE, str(tmp_path), cwd=checkout).splitlines()[-1]
    venv.EnvBuilder(symlinks=True).create(tmp_path / "venv")
    made = tmp_path / "venv" / "bin" / bundle.NAME
    for each in (wheel, editable):
        into = ("--python", str(tmp_path / "venv"), "install", "--no-deps", "--no-index", "--force-reinstall")
        run("-m", "pip", *into, str(each))
        assert made.read_bytes() == bundle.contents()
        assert made.stat().st_mode & 0o777 == 0o755
        assert "was not started by sudo" in subprocess.run([made], capture_output=True, text=True, check=False, env={}).stderr
        made.unlink()


def the_program(wheel: Path) -> bytes:
    with ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(f"/scripts/{bundle.NAME}")]
        return archive.read(name)


def test_the_product_asks_for_what_it_imports_and_nothing_else(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        (metadata,) = [name for name in archive.namelist() if name.endswith("METADATA")]
        asked = message_from_bytes(archive.read(metadata)).get_all("Requires-Dist", [])
    required = {normal(re.split(r"[^\w.-]", text)[0]) for text in asked if "extra ==" not in text}
    distributions = packages_distributions()
    imported = {name for path in PACKAGE.rglob("*.py") for name in imports(path)}
    foreign = {normal(distributions[name][0]) for name in imported - sys.stdlib_module_names - {"ucloud_slurm"}}
    # Parts of pydantic and of Flask, which ask for the release that suits them.
    assert foreign - {"markupsafe", "pydantic-core", "werkzeug"} == required


def imports(path: Path) -> Iterator[str]:
    """The packages that a module imports by name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)


def normal(name: str) -> str:
    """The name of a distribution as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()
