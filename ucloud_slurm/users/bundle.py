"""The file that sudo starts as a user: a shell script of one line, and behind it a zip archive of the modules it needs.

Nothing else in the Python that is beside it counts: no site-packages, no .pth file, no variable, no folder of the
caller's (python(1): -I, -S, -B). The archive has each module as source and compiled by the Python that makes the file
(zipimport takes what fits). setup.py makes the file, and two files that are made alike are the same, byte for byte.
"""

import ast
import importlib.util
import io
import marshal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from zipfile import ZipFile, ZipInfo

NAME = "ucloud-slurm-as-user"
PACKAGES = Path(__file__).parents[2]  # the folder that the package lies in
ROOT = "ucloud_slurm.users.as_user"

# Of a start that could not read the archive, for lack of memory or as it was replaced meanwhile (EX_TEMPFAIL in sysexits.h).
# It says nothing, which the runner takes as silence, so that the job is retried.
UNREADABLE = 75
# sudo starts it by its whole path, so that $0 is one; without one, nothing is found. -c loads less than a zip archive
# that is called as a script.
_PRELUDE = f"""#!/bin/sh
exec "${{0%/*}}/python3" -I -S -B -c 'import sys; sys.argv[:1] = (); sys.path.insert(0, sys.argv[0])
try: from {ROOT} import main
except (ImportError, EOFError, OSError) as error:
    if getattr(error, "name", None) not in (None, "{ROOT.partition(".")[0]}"): raise
    sys.exit({UNREADABLE})
main()' "$0" "$@"
exit
"""
_MODE = 0o100644 << 16
_LONE_FILE = (1980, 1, 1, 0, 0, 0)  # the earliest time of a zip archive
_UNCHECKED_HASH = 0b01  # PEP 552
# Whether CPython writes an object or a reference to it depends on who else holds it (marshal), so the compiler runs in a
# process where nobody does.
_COMPILER = """
import marshal, sys
for path, source in marshal.load(sys.stdin.buffer):
    print(marshal.dumps(compile(source, path, "exec", dont_inherit=True, optimize=0)).hex())
"""


def modules(packages: Path = PACKAGES) -> Mapping[str, bytes]:
    """The sources of the program's modules by their paths in the archive: whatever it imports, at once or later.

    :raises ImportError: a module imports something beyond them and the standard library
    """
    found: dict[str, bytes] = {}
    wanted = [ROOT]
    while wanted:
        name = wanted.pop()
        place = packages.joinpath(*name.split("."))
        file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        path = file.relative_to(packages).as_posix()
        if path not in found:
            found[path] = file.read_bytes()
            wanted += _imports(name, found[path], packages)
            wanted += [name.rpartition(".")[0]] if "." in name else []
    return dict(sorted(found.items()))


def _imports(importer: str, source: bytes, packages: Path) -> Iterator[str]:
    """The modules of this package that a module imports."""
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        for number, name in enumerate(names):
            if name.partition(".")[0] != ROOT.partition(".")[0]:
                if name.partition(".")[0] not in sys.stdlib_module_names:
                    raise ImportError(f"{importer} imports {name}, which is not in the standard library")
            elif number == 0 or isinstance(node, ast.Import) or _is_module(packages, name):
                yield name


def _is_module(packages: Path, name: str) -> bool:
    place = packages.joinpath(*name.split("."))
    return place.is_dir() or place.with_suffix(".py").is_file()


def contents(packages: Path = PACKAGES) -> bytes:
    """The whole file."""
    file = io.BytesIO()
    file.write(_PRELUDE.encode())
    with ZipFile(file, "w") as archive:
        sources = modules(packages)
        for (path, source), compiled in zip(sources.items(), _compiled(sources), strict=True):
            for name, data in ((path, source), (f"{path}c", compiled)):
                info = ZipInfo(name, _LONE_FILE)
                info.external_attr = _MODE
                archive.writestr(info, data)
    return file.getvalue()


def _compiled(sources: Mapping[str, bytes]) -> Iterator[bytes]:
    """What zipimport takes for each source."""
    compiler = [sys.executable, "-I", "-S", "-B", "-c", _COMPILER]
    given = marshal.dumps([(path, source) for path, source in sources.items()])
    made = subprocess.run(compiler, input=given, stdout=subprocess.PIPE, check=True).stdout.decode().split()
    head = importlib.util.MAGIC_NUMBER + _UNCHECKED_HASH.to_bytes(4, "little")
    for source, code in zip(sources.values(), made, strict=True):
        yield head + importlib.util.source_hash(source) + bytes.fromhex(code)


def write(path: Path, packages: Path = PACKAGES) -> None:
    """Makes the file, executable."""
    path.write_bytes(contents(packages))
    path.chmod(0o755)


def is_outdated(path: Path) -> bool:
    """Whether a file is not the program of this release: modules in it are not those that run here.

    :raises OSError: it cannot be read
    :raises BadZipFile: it is something else
    """
    with ZipFile(path) as archive:
        theirs = {name: archive.read(name) for name in archive.namelist() if name.endswith(".py")}
    return theirs != modules()
