"""The requests on the WebSockets of a job: its log and its shell (contract: follow, shell)."""

from typing import Annotated, Literal

from pydantic import Field

from ucloud_slurm.ucloud.jobs import Job
from ucloud_slurm.ucloud.wire import Int, Message


class Init(Message):
    """Follow the log of a job."""

    type: Literal["init"]
    job: Job


class Cancel(Message):
    """End a stream, by the id of its first message."""

    type: Literal["cancel"]
    stream_id: str


class FollowRequest(Message):
    """A request on the WebSocket of logs."""

    request: Annotated[Init | Cancel, Field(discriminator="type")]


class Initialize(Message):
    """Open the shell of a session, in a terminal of that size."""

    type: Literal["initialize"]
    session_identifier: str
    cols: Int = 80
    rows: Int = 24


class Input(Message):
    """The user typed something."""

    type: Literal["input"]
    data: str


class Resize(Message):
    """The terminal has another size."""

    type: Literal["resize"]
    cols: Int
    rows: Int


class ShellRequest(Message):
    """A request on the WebSocket of shells."""

    request: Annotated[Initialize | Input | Resize, Field(discriminator="type")]
