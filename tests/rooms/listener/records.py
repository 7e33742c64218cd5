"""The records of the channel as UCloud writes them."""

import json
import struct
from collections.abc import Sequence
from typing import Any

from tests.conftest import START
from ucloud_slurm.ucloud.channel import Reader, Record

NOW_MS = int(START * 1000)


def read(message: bytes) -> list[Record]:
    """The records of the first message of a connection."""
    return list(Reader().records(message))


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack(">I", len(data)) + data


def user(number: int, name: str) -> bytes:
    return struct.pack(">BI", 4, number) + text(name)


def project(number: int, id_: str, members: Sequence[str] = (), at: int = NOW_MS, **specification: Any) -> bytes:
    data = {
        "id": id_,
        "createdAt": 0,
        "modifiedAt": at,
        "specification": {"parent": None, "title": f"The project {id_}", "canConsumeResources": True} | specification,
        "status": {
            "archived": False,
            "members": [{"username": name, "role": "USER", "email": None} for name in members],
            "groups": None,
            "personalProviderProjectFor": None,
        },
    }
    return struct.pack(">BIq", 2, number, at) + text(json.dumps(data))


def category(number: int, name: str = "example-compute", provider: str = "example") -> bytes:
    data = {"name": name, "provider": provider, "productType": "COMPUTE", "freeToUse": False}
    return struct.pack(">BI", 3, number) + text(json.dumps(data))


def wallet(
    owner: int,
    category_: int = 0,
    *,
    locked: bool = True,
    of_project: bool = False,
    quota: int = 1000,
    usage: int = 1000,
    at: int = NOW_MS,
) -> bytes:
    flags = int(locked) | 2 * of_project
    return struct.pack(">BIIqqIq", 1, owner, category_, quota, usage, flags, at)


def of_user(name: str, *, locked: bool, at: int = NOW_MS) -> bytes:
    """A whole message about a user's wallet."""
    return user(0, name) + category(0) + wallet(0, locked=locked, at=at)


def of_project(id_: str, *, locked: bool, at: int = NOW_MS) -> bytes:
    """A whole message about a project's wallet."""
    return project(0, id_) + category(0) + wallet(0, locked=locked, of_project=True, at=at)
