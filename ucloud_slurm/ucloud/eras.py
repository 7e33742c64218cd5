"""The eras of UCloud: the versions of its protocol, as values.

No code asks for an era by name; it reads the field of the era that it depends on.
"""

import base64
import binascii
from typing import NamedTuple


class Era(NamedTuple):
    """What differs between versions.

    :ivar encoded_usernames: whether the acting user's name is base64 in its header; it is plain text otherwise
    :ivar has_suspended: whether UCloud knows the state SUSPENDED; otherwise a suspended job is IN_QUEUE
    :ivar has_new_time_allocation: whether an update may carry a new time limit; its sentence says it otherwise
    :ivar restarts_clock: whether UCloud counts the time limit anew from each change to RUNNING; from the first otherwise
    :ivar exit_code_is_failure: whether a program that ended with an error is FAILURE; in 2021 SUCCESS means that
        the program ended by itself, whatever its exit code
    :ivar has_clear_connection: whether UCloud has a call for users who are not connected any more
    :ivar ends_of_approval: whether UCloud's process ends when a user is connected twice; it keeps the first otherwise
    :ivar bearer_in_handshake: whether UCloud sends its token, and the acting user, in the handshake of a WebSocket; in
        the frames otherwise. With it UCloud takes every frame for a piece of a log
    :ivar reports_usage: whether use is reported as an absolute number per job; as charges for periods otherwise
    :ivar has_check_existence: whether UCloud has a call that says which jobs it has. Such a UCloud forgets a job whose
        create took too long, and loses messages about a job that arrive too early
    :ivar asks_to_verify: whether UCloud asks for a comparison of the jobs of both sides; the provider asks otherwise
    :ivar has_channel: whether UCloud reports changes of wallets on a channel; only then wallets are enforced
    :ivar has_products_v2: whether UCloud has products v2
    :ivar asks_utilization: whether UCloud asks how full the machines are
    :ivar has_own_words: whether a boolean parameter of an application names its words for true and false
    :ivar has_queue_status: whether a product may say how full its queue is
    :ivar has_drives: whether a provider may have drives, whose files UCloud asks it for
    :ivar reads_lines: whether the page of a job reads lines of status texts (:mod:`ucloud_slurm.bridge.job_page`); it
        prints them otherwise
    :ivar has_branding: whether UCloud asks how the provider is presented
    :ivar not_ours: statuses with which a bulk is refused for one of its items, such as the id of a job that UCloud does
        not have from this provider
    """

    name: str
    encoded_usernames: bool
    has_suspended: bool
    has_new_time_allocation: bool
    restarts_clock: bool
    exit_code_is_failure: bool
    has_clear_connection: bool
    ends_of_approval: bool
    bearer_in_handshake: bool
    reports_usage: bool
    has_check_existence: bool
    asks_to_verify: bool
    has_channel: bool
    has_products_v2: bool
    asks_utilization: bool
    has_own_words: bool
    has_queue_status: bool
    has_drives: bool
    reads_lines: bool
    has_branding: bool
    not_ours: frozenset[int]

    def hinted(self, hint: str | None) -> str | None:
        """The acting user, from the value of ``usernameHint`` in the address of a WebSocket."""
        try:
            return base64.urlsafe_b64decode((hint or "") + "=" * (-len(hint or "") % 4)).decode() or None
        except (UnicodeError, binascii.Error):
            return None

    def username(self, header: str | None) -> str | None:
        """The acting user, from the value of a ``UCloud-Username`` header (contract: acting-user header).

        A name that should be base64 and is not is returned as it is.
        """
        if not header:
            return None
        try:
            # WSGI decodes headers as Latin-1.
            plain = header.encode("latin-1").decode()
            return base64.b64decode(plain, validate=True).decode() if self.encoded_usernames else plain
        except (UnicodeError, binascii.Error):
            return header


ERA_2021 = Era(
    name="2021", encoded_usernames=False, has_suspended=False, has_new_time_allocation=False, restarts_clock=False,
    exit_code_is_failure=False, has_clear_connection=False, ends_of_approval=False, bearer_in_handshake=False,
    reports_usage=False, has_check_existence=False, asks_to_verify=True, has_channel=False, has_products_v2=False,
    asks_utilization=True, has_own_words=False, has_queue_status=False, has_drives=False,
    reads_lines=False, has_branding=False, not_ours=frozenset({400, 404}),
)  # fmt: skip
ERA_2022 = ERA_2021._replace(
    name="2022", encoded_usernames=True, has_suspended=True, has_new_time_allocation=True, has_clear_connection=True
)
ERA_TODAY = ERA_2022._replace(
    name="today", restarts_clock=True, exit_code_is_failure=True, ends_of_approval=True, bearer_in_handshake=True,
    reports_usage=True, has_check_existence=True, asks_to_verify=False, has_channel=True,
    has_products_v2=True, asks_utilization=False, has_own_words=True, has_queue_status=True, has_drives=True,
    reads_lines=True, has_branding=True, not_ours=frozenset({400, 403, 404}),
)  # fmt: skip

ERAS = {era.name: era for era in (ERA_2021, ERA_2022, ERA_TODAY)}
