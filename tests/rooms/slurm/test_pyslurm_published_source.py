"""Every name, type and unit of pyslurm that is used is in the source that its authors published."""

import hashlib
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable

import pytest

from ucloud_slurm.slurm.pyslurm import translation
from ucloud_slurm.slurm.pyslurm.translation import ACTIONS, DESCRIPTION, JOB, Name

RELEASE = "25.11.2"
Source = Callable[[str], str]
SHA256 = "6e0e4bc639ea3177591b102b77c1dd8df55a9e411ac42ef339a4adb3908cca34"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """Reads files of the source that is published; nothing of it is built."""
    folder = tmp_path_factory.mktemp("pyslurm")
    wanted = ("--no-deps", "--no-build-isolation", "--no-binary", "pyslurm", f"pyslurm=={RELEASE}")
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", *wanted, "-d", str(folder)], check=True)
    archive = folder / f"pyslurm-{RELEASE}.tar.gz"
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == SHA256

    def read(name: str) -> str:
        with tarfile.open(archive) as packed:
            file = packed.extractfile(f"pyslurm-{RELEASE}/pyslurm/{name}")
            assert file is not None
            return file.read().decode()

    return read


def body(text: str, name: str) -> str:
    """What belongs to a class."""
    found = re.search(rf"^(?:cdef )?class {name}\b.*?:\n(.*?)(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"there is no class {name}"
    return found[1]


def documented(text: str, name: str) -> dict[str, tuple[str, str]]:
    """Type and description of the attributes of a class, as its documentation lists them."""
    _, _, listed = body(text, name).partition("    Attributes:\n")
    listed = listed.partition('"""')[0]
    found = re.findall(r"^ {8}(\w+) \((.+)\):\n((?: {9,}.*\n|\n)*)", listed, re.MULTILINE)
    return {attribute: (kind, " ".join(words.split())) for attribute, kind, words in found}


def methods(text: str, name: str) -> set[str]:
    return set(re.findall(r"^    def (\w+)\(", body(text, name), re.MULTILINE))


def agree(names: tuple[Name, ...], found: dict[str, tuple[str, str]]) -> None:
    for one in names:
        assert one.name in found, f"{one.name} is not documented"
        kind, words = found[one.name]
        assert one.type == kind, f"{one.name} is {kind}"
        assert one.unit in words, f"{one.name}: {words}"


def test_what_is_submitted_is_named_as_published(source: Source) -> None:
    text = source("core/job/submission.pxd")
    agree(DESCRIPTION, documented(text, "JobSubmitDescription"))
    public = re.split(r"^    cdef public:\n", body(text, "JobSubmitDescription"), flags=re.MULTILINE)[1]
    assert {one.name for one in DESCRIPTION} <= set(re.findall(r"^ {8}(\w+)\s*$", public, re.MULTILINE))
    assert "submit" in methods(source("core/job/submission.pyx"), "JobSubmitDescription")


def test_what_is_read_of_a_job_is_named_as_published(source: Source) -> None:
    agree(JOB, documented(source("core/job/job.pxd"), "Job"))
    assert {one.name for one in JOB} <= methods(source("core/job/job.pyx"), "Job")


def test_what_is_done_to_a_job_is_named_as_published(source: Source) -> None:
    text = source("core/job/job.pyx")
    assert {*ACTIONS, "load"} <= methods(text, "Job")
    for action in ACTIONS:
        found = re.search(rf"    def {action}\(self(.*?)\):", body(text, "Job"))
        assert found is not None
        needed = [part for part in found[1].split(",") if part.strip() and "=" not in part]
        assert len(needed) == (1 if action == "modify" else 0), f"{action} needs {needed}"


def test_errors_have_the_published_numbers_and_texts(source: Source) -> None:
    errors = body(source("core/error.pyx"), "RPCError")
    assert "self.errno = errno" in errors
    assert "super().__init__(self.msg)" in errors
    numbers = source("slurm/slurm_errno.h.pxi").split()
    # Slurm's own errors begin with this one (slurm_errno.h), and are numbered one after the other.
    first = numbers.index("ESLURM_INVALID_PARTITION_NAME") - translation.FIRST_OF_SLURM
    assert numbers.index("ESLURM_INVALID_JOB_ID") - first == translation.UNKNOWN_JOB
    exported = source("__init__.py")
    for name in ("Job", "JobSubmitDescription", "RPCError", "__version__"):
        assert re.search(rf"\b{name}\b", exported)
