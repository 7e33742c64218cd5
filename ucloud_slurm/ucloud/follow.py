"""The requests of jobs.provider.follow (contract: follow)."""

from typing import Annotated, Literal

from pydantic import Field

from ucloud_slurm.ucloud.jobs import Job
from ucloud_slurm.ucloud.wire import Message


class Init(Message):
    """Begin to follow the log of a job."""

    type: Literal["init"]
    job: Job


class Cancel(Message):
    """Stop a stream, by the id that its first message gave."""

    type: Literal["cancel"]
    stream_id: str


class FollowRequest(Message):
    """Either of them."""

    request: Annotated[Init | Cancel, Field(discriminator="type")]
