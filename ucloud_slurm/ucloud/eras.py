"""The eras of UCloud: how the same address was spoken to over the years, as values.

Nothing asks for an era by name: messages, accounting and states are handed the value that they need.
"""

import base64
import binascii
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Era:
    """What differs.

    :ivar encoded_usernames: whether the acting user's name is base64 in its header; it is plain text otherwise
    :ivar has_suspended: whether UCloud knows the state SUSPENDED; otherwise a suspended job is IN_QUEUE
    :ivar has_new_time_allocation: whether an update may carry a new time limit; UCloud is told in words otherwise
    :ivar exit_code_is_failure: whether a program that ended with an error is FAILURE; in 2021 SUCCESS means that
        the program ended by itself, whatever its exit code
    :ivar has_clear_connection: whether UCloud can be told that somebody is not connected any more
    :ivar bearer_in_handshake: whether UCloud shows its token, and whom it asks for, when it opens a WebSocket; in the
        frames otherwise. Every frame that it gets then is a piece of a log, whatever it says of itself
    :ivar reports_usage: whether use is told as an absolute number for each job; as charges of periods otherwise
    :ivar has_check_existence: whether UCloud says which jobs it has. It forgets a job whose create took too long, and
        loses what belongs to one that it hears of too early
    :ivar asks_to_verify: whether UCloud asks from time to time to compare its jobs with ours; we ask it otherwise
    :ivar has_channel: whether UCloud says on a channel what becomes of wallets; locks count only then
    :ivar has_products_v2: whether products are asked for in their second form
    :ivar asks_utilization: whether UCloud asks how full the machines are
    :ivar has_own_words: whether a parameter of an application says with which words it is true and false
    :ivar has_queue_status: whether a product may say how full its queue is
    :ivar not_ours: statuses with which a bulk is refused for one of its items, such as an id that UCloud does not know
        as ours
    """

    name: str
    encoded_usernames: bool
    has_suspended: bool
    has_new_time_allocation: bool
    exit_code_is_failure: bool
    has_clear_connection: bool
    bearer_in_handshake: bool
    reports_usage: bool
    has_check_existence: bool
    asks_to_verify: bool
    has_channel: bool
    has_products_v2: bool
    asks_utilization: bool
    has_own_words: bool
    has_queue_status: bool
    not_ours: frozenset[int]

    def hinted(self, hint: str | None) -> str | None:
        """The acting user, from the value of ``usernameHint`` in the address of a WebSocket."""
        try:
            return base64.urlsafe_b64decode((hint or "") + "=" * (-len(hint or "") % 4)).decode() or None
        except (UnicodeError, binascii.Error):
            return None

    def username(self, header: str | None) -> str | None:
        """The acting user, from the value of a ``UCloud-Username`` header (contract: acting-user header).

        A name that should be base64 and is not is taken as it is.
        """
        if not header:
            return None
        try:
            # WSGI hands the bytes of a header over as Latin-1.
            plain = header.encode("latin-1").decode()
            return base64.b64decode(plain, validate=True).decode() if self.encoded_usernames else plain
        except (UnicodeError, binascii.Error):
            return header


ERA_2021 = Era(
    name="2021",
    encoded_usernames=False,
    has_suspended=False,
    has_new_time_allocation=False,
    exit_code_is_failure=False,
    has_clear_connection=False,
    bearer_in_handshake=False,
    reports_usage=False,
    has_check_existence=False,
    asks_to_verify=True,
    has_channel=False,
    has_products_v2=False,
    asks_utilization=True,
    has_own_words=False,
    has_queue_status=False,
    not_ours=frozenset({400, 404}),
)
ERA_2022 = Era(
    name="2022",
    encoded_usernames=True,
    has_suspended=True,
    has_new_time_allocation=True,
    exit_code_is_failure=False,
    has_clear_connection=True,
    bearer_in_handshake=False,
    reports_usage=False,
    has_check_existence=False,
    asks_to_verify=True,
    has_channel=False,
    has_products_v2=False,
    asks_utilization=True,
    has_own_words=False,
    has_queue_status=False,
    not_ours=frozenset({400, 404}),
)
ERA_TODAY = Era(
    name="today",
    encoded_usernames=True,
    has_suspended=True,
    has_new_time_allocation=True,
    exit_code_is_failure=True,
    has_clear_connection=True,
    bearer_in_handshake=True,
    reports_usage=True,
    has_check_existence=True,
    asks_to_verify=False,
    has_channel=True,
    has_products_v2=True,
    asks_utilization=False,
    has_own_words=True,
    has_queue_status=True,
    not_ours=frozenset({400, 403, 404}),
)

ERAS = {era.name: era for era in (ERA_2021, ERA_2022, ERA_TODAY)}
