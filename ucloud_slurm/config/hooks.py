"""The tables of the configuration file about hooks: programs of the site that get events as JSON."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from ucloud_slurm.config.types import After, Duration, PlainPath, Section, SlurmWord, key

HOOK_SOCKET = Path("/run/ucloud-slurm-hooks/hooks.sock")
JOB_ACCEPTED = "job-accepted"  # the only event whose answer counts
EVENTS = ("person-connected", "person-left", "project-changed", "wallet-changed", JOB_ACCEPTED, "job-started", "job-ended")
DECISION_SECONDS = 1.0
LONGEST_DECISION_SECONDS = 2.0  # UCloud waits 5 seconds for the answer to a create, in all
EVENT_SECONDS = 30.0
LONGEST_EVENT_SECONDS = 120.0  # shorter than a pass of `hooks deliver`


def _event(value: str) -> str:
    if value not in EVENTS:
        raise ValueError(f"should be one of {', '.join(EVENTS)}")
    return value


Event = Annotated[str, After(_event)]


@dataclass(frozen=True, kw_only=True)
class Hook(Section):
    """A program of the site that gets one JSON object on its standard input for each event. See the guide about hooks."""

    events: tuple[Event, ...] = key(
        min_length=1,
        example=["person-connected", "person-left", "project-changed", "wallet-changed"],
        description="What it gets: person-connected, person-left, project-changed, wallet-changed, job-started, job-ended; "
        "or job-accepted alone, whose answer decides about new jobs. An event goes to one program.",
    )
    program: PlainPath = key(
        example="/etc/ucloud-slurm/hooks/slurm_accounts.py",
        description="The program. Only root, or the account that runs it, may be able to change it or its folders.",
    )
    timeout: Duration | None = key(
        default=None,
        example="30s",
        description="Its time limit: at the limit it is killed with its process group. At most 2s for job-accepted, and "
        "2m for other events. Left out: 1s for job-accepted, and 30s for other events.",
    )
    on_failure: Literal["accept", "refuse"] = key(
        default="accept",
        description="What happens to a new job when the program of job-accepted fails, is late or cannot be asked: accept "
        "takes it unchanged, and Slurm's own limits still apply; refuse answers that it should be sent again later. Events "
        "other than job-accepted are retried instead.",
    )
    socket: Path = key(
        default=HOOK_SOCKET, description="The socket of `ucloud-slurm hooks serve`, which runs the program under its account."
    )

    @property
    def seconds(self) -> float:
        """The time limit, in seconds."""
        return self.timeout or (DECISION_SECONDS if JOB_ACCEPTED in self.events else EVENT_SECONDS)

    def __post_init__(self) -> None:
        decides = JOB_ACCEPTED in self.events
        if decides and len(self.events) > 1:
            raise ValueError(f"events: {JOB_ACCEPTED} needs a table of its own, because its time limit is short")
        most = LONGEST_DECISION_SECONDS if decides else LONGEST_EVENT_SECONDS
        if self.timeout is not None and not 0 < self.timeout <= most:
            raise ValueError(f"timeout: should be longer than 0s and at most {most:.0f}s for {', '.join(self.events)}")


@dataclass(frozen=True, kw_only=True)
class JobChanges(Section):
    """What the answer of a hook may change of a new job; None: nothing. The values are checked as those of a product."""

    account: SlurmWord | None = None
    qos: SlurmWord | None = None
    partition: SlurmWord | None = None


def check_hooks(hooks: Iterable[Hook]) -> None:
    """Each event must have one program.

    :raises ValueError: an event has two
    """
    seen: set[str] = set()
    for hook in hooks:
        if seen & {*hook.events} or len({*hook.events}) < len(hook.events):
            repeated = next(event for event in hook.events if event in seen or hook.events.count(event) > 1)
            raise ValueError(f"hooks: {repeated} is in the events twice; an event goes to one program")
        seen |= {*hook.events}
