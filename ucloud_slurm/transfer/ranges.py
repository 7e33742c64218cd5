"""Parts of a file that a download asks for (RFC 9110, section 14). Pure."""

import re
from typing import NamedTuple

from ucloud_slurm.errors import Problem

_ONE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


class Span(NamedTuple):
    """Bytes of a file.

    :ivar whole: whether nothing less than the whole file was asked for
    """

    offset: int
    length: int
    whole: bool

    def content_range(self, size: int) -> str:
        """The value of Content-Range."""
        return f"bytes {self.offset}-{self.offset + self.length - 1}/{size}"


def entity_tag(size: int, modified_ns: int) -> str:
    """The name of a state of a file (ETag)."""
    return f'"{size:x}-{modified_ns:x}"'


def wanted(header: str | None, if_range: str | None, size: int, tag: str) -> Span:
    """What a request asks for. Several ranges, and what is no range, count as none.

    :param header: value of Range
    :param if_range: value of If-Range
    :raises Problem: 416, the range begins beyond the end
    """
    whole = Span(0, size, True)
    found = _ONE.fullmatch(header.strip()) if header is not None else None
    if found is None or (if_range is not None and if_range.strip() != tag):
        return whole
    first, last = found[1], found[2]
    if not first and not last:
        return whole
    if first and last and int(last) < int(first):
        return whole
    offset = int(first) if first else max(size - int(last), 0)
    end = min(int(last) + 1, size) if first and last else size
    if offset >= size:
        raise Problem("The file ends before the part that was asked for.", status=416)
    return Span(offset, end - offset, False)
