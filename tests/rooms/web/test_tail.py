"""A log that grows is read whole, once, whatever happens to its file, with flat memory."""

import os
import tracemalloc
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucloud_slurm.system.files import NotARegularFileError, open_file, read_small
from ucloud_slurm.web.live.tail import CHUNK_BYTES, Tail


def tail(path: Path, most: int = 10**9) -> Tail:
    return Tail(lambda: open_file(str(path)), most)


def rest(tail: Tail, *, look_again: bool = False, last: bool = False) -> str:
    """Everything that is there."""
    pieces = []
    while (piece := tail.read(look_again=look_again, last=last)) is not None:
        pieces.append(piece)
    return "".join(pieces)


@given(st.lists(st.text(min_size=1), min_size=1, max_size=5))
def test_text_arrives_as_it_was_written_however_it_is_cut(texts: list[str]) -> None:
    data = "".join(texts).encode("utf-8", "surrogatepass")
    whole = data.decode(errors="replace")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        path.touch()
        reader, got = tail(path), ""
        for position in range(len(data)):
            with path.open("ab") as file:
                file.write(data[position : position + 1])
            got += rest(reader)
        got += rest(reader, last=True)
        reader.close()
    assert got == whole


def test_bytes_that_are_no_text_are_marked_across_the_borders_of_chunks(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a" * (CHUNK_BYTES - 1) + "ä".encode() + b"\xff\xfe" + "€".encode() + b"\xe2\x82" + b"end")
    assert rest(tail(path)) == "a" * (CHUNK_BYTES - 1) + "ä\ufffd\ufffd€\ufffdend"


def test_a_letter_of_latin_1_leaves_a_mark_even_as_the_last_byte(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes("Grüße, voilà".encode("latin-1"))
    reader = tail(path)
    assert rest(reader) == "Gr\ufffd\ufffde, voil"  # what follows may make a character of the last byte
    assert rest(reader, last=True) == "\ufffd"
    assert rest(reader, last=True) == ""


def test_of_a_long_log_the_end_is_shown_from_the_beginning_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("".join(f"line {number}\n" for number in range(1000)))
    shown = rest(tail(path, most=100))
    assert shown.endswith("line 999\n")
    assert shown.startswith("line ")
    assert 80 < len(shown) <= 100


def test_one_line_without_an_end_is_shown_in_part(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("x" * 1000)
    assert rest(tail(path, most=100)) == "x" * 100


@pytest.mark.parametrize("most", range(100, 104))
def test_what_is_shown_of_a_line_begins_with_a_whole_character(tmp_path: Path, most: int) -> None:
    path = tmp_path / "log"
    path.write_text("🦆" * 100)
    assert rest(tail(path, most=most)) == "🦆" * 25


def test_a_log_that_appears_late_is_shown_whole(tmp_path: Path) -> None:
    path = tmp_path / "log"
    reader = tail(path, most=10)
    assert rest(reader) == ""
    path.write_text("0123456789" * 10)
    assert rest(reader) == "0123456789" * 10


def test_a_log_that_is_cut_off_is_read_again_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("a long first text\n")
    reader = tail(path)
    assert rest(reader) == "a long first text\n"
    path.write_text("short\n")
    assert rest(reader) == "short\n"


def test_half_a_character_before_a_cut_does_not_join_what_is_written_after(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"long enough \xe2\x82")
    reader = tail(path)
    assert rest(reader) == "long enough "
    path.write_bytes(b"\xac!")
    assert rest(reader) == "\ufffd!"


def test_a_log_that_is_rotated_is_read_to_its_end_and_then_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("one\n")
    reader = tail(path)
    assert rest(reader) == "one\n"
    with path.open("a") as file:
        file.write("two\n")
    path.rename(tmp_path / "log.1")
    path.write_text("three, and longer than what was read\n")
    assert rest(reader, look_again=True) == "two\nthree, and longer than what was read\n"


def test_a_log_of_a_gigabyte_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        file.truncate(2**30)
    reader = tail(path)
    tracemalloc.start()
    try:
        size = 0
        while size < 2**26 and (piece := reader.read()):
            size += len(piece)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size == 2**26
    assert peak < 10 * CHUNK_BYTES


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "device"])
def test_what_is_no_file_of_the_user_is_not_read(tmp_path: Path, kind: str) -> None:
    path, secret = tmp_path / "log", tmp_path / "secret"
    secret.write_text("secret")
    match kind:
        case "link":
            path.symlink_to(secret)
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case _:
            path = Path("/dev/zero")
    with pytest.raises(NotARegularFileError, match=r"log|zero"):
        tail(path).read()
    assert read_small(lambda: open_file(str(path)), 100) is None


def test_nothing_is_read_any_more_after_the_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("text")
    reader = tail(path)
    reader.close()
    assert reader.read() is None
