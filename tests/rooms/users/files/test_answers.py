"""What is asked of a user's program has one form, and what it answers is not believed."""

import fcntl
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rooms.users.files.test_files_contract import each_verb
from ucloud_slurm.errors import InvalidRequestError, Problem
from ucloud_slurm.system import placing
from ucloud_slurm.users import file_failures, file_problems, file_verbs
from ucloud_slurm.users.asked_files import Answer, AskedFiles, FilesNotAnsweringError
from ucloud_slurm.users.files import ConflictPolicy, FileKind, Listing, Place, SortBy, Work

PLACE = Place("/drive", ("a",))
ROW = ["a", "file", 1, 2, 3, 0o644, 0, 0, None]


class MadeUp(AskedFiles):
    """A program that answers what it likes, with descriptors that it likes."""

    def __init__(self, answer: Mapping[str, Any], *descriptors: int) -> None:
        self._made_up = answer
        self._descriptors = descriptors

    def ask(self, verb: str, within: float, theirs: socket.socket | None, arguments: Mapping[str, Any]) -> Answer:
        if theirs is not None:
            with theirs:
                if self._descriptors:
                    socket.send_fds(theirs, [b"."], list(self._descriptors))
        return self._made_up

    def uid(self) -> int:
        return os.geteuid()


def listed(files: AskedFiles, most: int = 10, after: str | None = None) -> Listing:
    return files.list(PLACE, after=after, most=most, by=SortBy.PATH, descending=False, hidden=True)


def test_an_answer_in_its_form_is_taken() -> None:
    (entry,) = listed(MadeUp({"rows": [ROW], "after": "na", "unreadable": 3})).entries
    assert (entry.name, entry.kind, entry.mode) == ("a", FileKind.FILE, 0o644)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/", "a\0", "a" * 256, "\ud800", 5, None, ["a"]])
def test_a_name_that_no_file_can_have_is_not_taken(name: object) -> None:
    with pytest.raises(FilesNotAnsweringError):
        listed(MadeUp({"rows": [[name, *ROW[1:]]], "after": None, "unreadable": 0}))
    for request in each_verb(MadeUp({"name": name}), PLACE)[5:6] + each_verb(MadeUp({"name": name}), PLACE)[7:11]:
        with pytest.raises(FilesNotAnsweringError):
            request()


@pytest.mark.parametrize("place", range(2, 8))
@pytest.mark.parametrize("value", [-(2**63) - 1, 2**63, True, 1.5, "1", None, [1]])
def test_numbers_are_numbers_of_a_file(place: int, value: object) -> None:
    row: list[object] = [*ROW]
    row[place] = value
    with pytest.raises(FilesNotAnsweringError):
        MadeUp({"row": row}).stat(PLACE)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"rows": {}, "after": None, "unreadable": 0},
        {"rows": [ROW] * 11, "after": None, "unreadable": 0},
        {"rows": [ROW[:-1]], "after": None, "unreadable": 0},
        {"rows": ["abcdefghi"], "after": None, "unreadable": 0},
        {"rows": [["a", "door", *ROW[2:]]], "after": None, "unreadable": 0},
        {"rows": [["a", {}, *ROW[2:]]], "after": None, "unreadable": 0},
        {"rows": [[*ROW[:-1], "door"]], "after": None, "unreadable": 0},
        {"rows": [ROW], "after": 5, "unreadable": 0},
        {"rows": [ROW], "after": "", "unreadable": 0},
        {"rows": [ROW], "after": "n" * 500, "unreadable": 0},
        {"rows": [ROW], "after": "nb", "unreadable": 0},
        {"rows": [ROW], "after": None, "unreadable": -1},
    ],
)
def test_a_page_that_is_none_is_not_taken(answer: Mapping[str, Any]) -> None:
    with pytest.raises(FilesNotAnsweringError):
        listed(MadeUp(answer), after="nb")


@pytest.mark.parametrize("kind", ["<script>", "x" * 10_000, 5, None, ["missing"], {}])
def test_a_failure_that_nobody_knows_is_one_of_the_storage(kind: object) -> None:
    with pytest.raises(Problem) as caught:
        MadeUp({"failed": kind, "target": "yes"}).stat(PLACE)
    assert (caught.value.status, caught.value.why) == (
        500,
        'The cluster\'s file system reported an error for "/a"; try again later.',
    )


def test_each_failure_has_a_sentence() -> None:
    assert set(file_problems._CLASSES) == file_failures.KINDS
    for kind in file_failures.KINDS:
        assert file_problems.problem(kind, ["{x}", "\n"]).why.isprintable()


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=10) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=20,
)
answers = st.dictionaries(
    st.sampled_from(["rows", "row", "after", "unreadable", "name", "part", "failed", "target", "unknown", "trouble"]), anything
)


@settings(max_examples=200, deadline=None)
@given(answer=answers)
def test_whatever_is_answered_is_an_answer_or_an_error_of_ours(answer: Mapping[str, Any]) -> None:
    for request in each_verb(MadeUp(answer), PLACE):
        try:
            result = request()
        except (FilesNotAnsweringError, Problem):
            continue
        if isinstance(result, socket.socket):
            result.close()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def opener(flags: int) -> Callable[[Path], int]:
    def opened(path: Path) -> int:
        path.touch()
        return os.open(path, flags)

    return opened


def hard_link(path: Path) -> int:
    path.touch()
    os.link(path, path.with_name("second"))
    return os.open(path, os.O_WRONLY)


def foreign(path: Path) -> int:
    path.touch()
    os.chown(path, 54321, 54321)
    return os.open(path, os.O_WRONLY)


@pytest.mark.parametrize(
    "make",
    [
        opener(os.O_RDONLY),
        opener(os.O_WRONLY | os.O_APPEND),
        opener(os.O_PATH),
        lambda path: os.open(path.parent, os.O_RDONLY),
        lambda _: os.open("/dev/null", os.O_WRONLY),
        lambda _: os.memfd_create("x"),
        hard_link,
        foreign,
    ],
)
def test_only_a_file_of_the_user_s_own_is_written_to(tmp_path: Path, make: Callable[[Path], int]) -> None:
    descriptor = make(tmp_path / "x")
    part = "." + "0" * 16 + ".ucloud-part"
    before = descriptors()
    files = MadeUp({"part": part}, descriptor)
    requests: list[Callable[[], object]] = [
        lambda: files.begin(PLACE, ConflictPolicy.RENAME, parents=False),
        lambda: files.resume(PLACE, part),
    ]
    for request in requests:
        with pytest.raises(FilesNotAnsweringError):
            request()
    assert descriptors() == before
    os.close(descriptor)


def test_only_a_regular_file_is_read_and_only_one() -> None:
    reading, writing = os.pipe()
    before = descriptors()
    for given_ in ([], [reading], [writing], [0, 0]):
        with pytest.raises(FilesNotAnsweringError):
            MadeUp({}, *given_).read(PLACE)
    assert descriptors() == before
    assert fcntl.fcntl(reading, fcntl.F_GETFD) >= 0
    os.close(reading)
    os.close(writing)


def test_the_words_of_the_program_are_those_of_the_contract() -> None:
    assert {*placing.POLICIES} == {policy.value for policy in ConflictPolicy}
    assert {work.value for work in Work} == {"copy", "move", "erase"}


REQUESTS: dict[str, dict[str, Any]] = {
    "list": {"after": None, "most": 5, "by": "PATH", "descending": False, "hidden": True},
    "stat": {},
    "read": {},
    "begin": {"policy": "RENAME", "parents": True},
    "resume": {"part": "." + "0" * 16 + ".ucloud-part"},
    "finish": {"part": "." + "0" * 16 + ".ucloud-part", "policy": "RENAME", "size": 0, "modified": None},
    "drop": {"part": "." + "0" * 16 + ".ucloud-part"},
    "make-folder": {"policy": "RENAME", "parents": True},
    "move": {"to_root": "/drive", "to_parts": ["b"], "policy": "REPLACE"},
    "trash": {},
    "shell": {"cols": 80, "rows": 24},
    "work": {"work": "copy", "to_root": "/drive", "to_parts": ["b"], "policy": "REPLACE", "key": "0" * 16},
}
WRONG: dict[str, list[Any]] = {
    "root": ["", "/", "a", "/a/", "/a/../b", "//a", "/a\0", 5, None, "/" + "a" * 256, "/a" * 3000],
    "parts": [None, "a", [""], ["."], [".."], ["a/b"], ["a\0"], ["a" * 256], [5], [["a"]], ["a" * 255] * 17, {"a": 1}],
    "after": ["", 5, "x" * 401, []],
    "most": [0, -1, 501, True, 1.0, "5", None],
    "cols": [0, -1, 1001, True, 1.0, "80", None],
    "rows": [0, -1, 1001, True, 1.0, "24", None],
    "by": ["NAME", "", None, 5],
    "descending": [0, 1, None, "x"],
    "policy": ["rename", "", None, 5, []],
    "part": ["x", "", None, "../x", ".0.ucloud-part", "." + "0" * 16 + ".ucloud-part\n", "./" + "0" * 15 + ".ucloud-part"],
    "size": [-1, 2**63, True, 1.5, None, "0"],
    "modified": [-1, 2**60, True, 1.5, "0"],
    "work": ["", "erase", "COPY", None],
    "key": ["", "../../../../../a", "0" * 17, "G" * 16, None, "0" * 15 + "\n"],
    "to_root": ["/", "a"],
    "to_parts": [[""], [".."], "b", None],
}


def asked(request: Mapping[str, Any], *descriptors: int) -> Mapping[str, Any]:
    def launch(_descriptor: int, _begin: object) -> None:
        raise AssertionError("it began")

    return file_verbs.answer(dict(request), descriptors, lambda: False, launch)


@pytest.mark.parametrize("verb", [*REQUESTS])
def test_a_request_that_is_not_in_its_form_is_refused_and_nothing_is_done(verb: str, tmp_path: Path) -> None:
    right = {"form": 3, "user": "ada", "deadline": 1.0, "verb": verb, "root": str(tmp_path), "parts": ["a"], **REQUESTS[verb]}
    given_ = [0] if verb in file_verbs.WITH_SOCKET else []
    wrong: list[Mapping[str, Any]] = [right | {key: value} for key in right for value in WRONG.get(key, [])]
    wrong = [each for each in wrong if not (verb == "work" and each["to_parts"] is None and each["to_root"] is not None)] + [
        {key: value for key, value in right.items() if key != missing}
        for missing in right.keys() - {"form", "user", "deadline"}
    ]
    for request in (*wrong, right | {"more": 1}, right | {"verb": "open"}, right | {"verb": ["list"]}, {}):
        with pytest.raises(InvalidRequestError):
            asked(request, *given_)
    with pytest.raises(InvalidRequestError):
        asked(right, *([] if given_ else [0]))
    assert list(tmp_path.iterdir()) == []
