"""The eras of UCloud: how the same address was spoken to over the years, as values.

Nothing asks for an era by name: messages, accounting and states are handed the value that they need.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Era:
    """What differs.

    :ivar has_suspended: whether UCloud knows the state SUSPENDED; otherwise a suspended job is IN_QUEUE
    :ivar exit_code_is_failure: whether a program that ended with an error is FAILURE; in 2021 SUCCESS means that
        the program ended by itself, whatever its exit code
    :ivar not_ours: statuses with which a bulk is refused for an id that UCloud does not know as ours
    """

    name: str
    has_suspended: bool
    exit_code_is_failure: bool
    not_ours: frozenset[int]


ERA_2021 = Era(
    name="2021",
    has_suspended=False,
    exit_code_is_failure=False,
    not_ours=frozenset({400, 404}),
)

ERAS = {era.name: era for era in (ERA_2021,)}
