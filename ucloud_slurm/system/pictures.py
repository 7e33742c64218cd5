"""Pictures that browsers load from this provider: what they are is decided by their content."""

from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from ucloud_slurm.errors import Misconfigured

MOST_BYTES = 512 * 1024
# The first bytes, how far behind them further ones stand, and these (https://mimesniff.spec.whatwg.org/#image-type-pattern).
_TYPES = (
    (b"\x89PNG\r\n\x1a\n", 0, b"", "image/png"),
    (b"\xff\xd8\xff", 0, b"", "image/jpeg"),
    (b"GIF87a", 0, b"", "image/gif"),
    (b"GIF89a", 0, b"", "image/gif"),
    (b"RIFF", 4, b"WEBPVP", "image/webp"),
)


class Picture(NamedTuple):
    """A picture.

    :ivar type: the media type
    :ivar name: another one for other contents
    """

    content: bytes
    type: str
    name: str


def read_picture(key: str, path: Path) -> Picture:
    """The picture in a file.

    :param key: of the configuration, which names the file
    :raises Misconfigured: the file cannot be read, is too large, or is no PNG, JPEG, GIF or WebP
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise Misconfigured([f"{key}: {path} cannot be read ({error.strerror})."]) from None
    if len(content) > MOST_BYTES:
        raise Misconfigured([f"{key}: {path} has more than {MOST_BYTES // 1024} KiB; make a smaller picture of it."])
    type_ = _type(content)
    if type_ is None:
        raise Misconfigured([f"{key}: {path} is not a PNG, JPEG, GIF or WebP picture; convert it to one of these."])
    return Picture(content, type_, f"{sha256(content).hexdigest()[:16]}.{type_.removeprefix('image/')}")


def _type(content: bytes) -> str | None:
    for first, distance, then, type_ in _TYPES:
        at = len(first) + distance
        if content.startswith(first) and content[at : at + len(then)] == then:
            return type_
    return None
