"""The requests of jobs.compute.shell.open (contract: shell)."""

from typing import Annotated, Literal

from pydantic import Field

from ucloud_slurm.ucloud.wire import Int, Message


class Initialize(Message):
    """Open the shell of a session, in a window of that size."""

    type: Literal["initialize"]
    session_identifier: str
    cols: Int = 80
    rows: Int = 24


class Input(Message):
    """The user typed something."""

    type: Literal["input"]
    data: str


class Resize(Message):
    """The window has another size."""

    type: Literal["resize"]
    cols: Int
    rows: Int


class ShellRequest(Message):
    """One of them."""

    request: Annotated[Initialize | Input | Resize, Field(discriminator="type")]
