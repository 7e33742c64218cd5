"""Delivery: the messages of the outbox are sent to UCloud, and jobs whose owner cannot pay are stopped."""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from ucloud_slurm.bridge.time_limit import clock_before
from ucloud_slurm.errors import CorePausedError, CoreRefusedError, CoreUnavailableError
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.store.breaker import UCLOUD
from ucloud_slurm.store.generation import Generation
from ucloud_slurm.store.job_state import Stop
from ucloud_slurm.store.outbox import MessageOutcome, OutboxMessage, ucloud_was_away
from ucloud_slurm.ucloud.channel import Payer
from ucloud_slurm.ucloud.reports import Charge, JobState

log = logging.getLogger(__name__)

Send = Callable[[Provider, Sequence[OutboxMessage]], None]
Refuse = Callable[[Provider, Sequence[OutboxMessage], CoreRefusedError], None]

UNANSWERED_SECONDS = 10.0  # after which a create that was never acknowledged counts as answered
BUDGET_SECONDS = 60.0  # of a pass; jobs that must be cancelled wait behind it
PAYMENT_REQUIRED = 402
NO_CHARGES = "a charge for a UCloud of another era: this one gets usage reports instead; book it by hand"
FORBIDDEN = 403
NOT_FOUND = 404
TOO_LARGE = 413


def deliver(provider: Provider) -> bool:
    """Sends the messages that wait, oldest first for each job, in bulks of at most 1000.

    :returns: False when UCloud could not be reached; the rest waits for the next pass
    """
    deadline = time.monotonic() + BUDGET_SECONDS
    try:
        confirmed, counted = provider.era.has_check_existence, False
        while messages := provider.outbox.heads(provider.now(), UNANSWERED_SECONDS, confirmed=confirmed):
            if time.monotonic() > deadline:
                log.warning("the outbox is long; the rest waits for the next pass")
                return False
            provider.core.ready()  # before the messages count as sent
            if not counted:
                Generation(provider.store).count_up(provider.now())
                counted = True
            for kind, send in _SENDERS.items():
                some = [message for message in messages if message.kind == kind]
                if some:
                    provider.outbox.sending(some)
                    _bisect(provider, some, send, _park)
            _answered(provider)
        _repeat_usage(provider, deadline)
    except CoreUnavailableError as error:
        log.log(error.severity, "the outbox waits: %s", error)
        provider.breaker.record_failure(UCLOUD, str(error), provider.now())
        return False
    return True


def record_outcome(provider: Provider, *, delivered: bool) -> bool:
    """Records whether UCloud has answered in this pass. While it fails and nothing had to be asked, it is asked for a token.

    :param delivered: whether the outbox could be delivered
    :returns: False when a call was not answered
    """
    failing = provider.breaker.of(UCLOUD).failing_since is not None
    if not failing and not provider.lazy_core.opened:
        return True
    outcome = provider.core.outcome()
    if failing and not outcome.asked:
        with suppress(CoreUnavailableError):
            provider.core.check()
        outcome = provider.core.outcome()
        if outcome.failure is not None:
            log.log(outcome.failure.severity, "UCloud cannot be asked yet: %s", outcome.failure)
    if outcome.answered and failing and delivered:
        _answered(provider)
    elif outcome.failure is not None and not outcome.answered:
        provider.breaker.record_failure(UCLOUD, str(outcome.failure), provider.now())
    if isinstance(outcome.failure, CorePausedError):
        log.error("UCloud is not asked: %s", outcome.failure)
    return outcome.failure is None


def _answered(provider: Provider) -> None:
    """UCloud has answered. If it was away before, it may have forgotten the last reports."""
    now, away_at = provider.now(), provider.breaker.of(UCLOUD).failing_since
    if away_at is not None:
        ucloud_was_away(provider.store, away_at, now)
    provider.breaker.record_success(UCLOUD, now)


def _repeat_usage(provider: Provider, deadline: float) -> None:
    """Sends reports of usage once more that UCloud may have forgotten. They are absolute, and the last ones of their jobs.

    Charges are never repeated: not every UCloud says whether it has booked one before.
    """
    while provider.reports_usage and (messages := provider.outbox.repetitions(provider.now())):
        if time.monotonic() > deadline:
            return
        log.info("%d reports of usage are sent once more", len(messages))
        _bisect(provider, messages, _send_again, lambda _, refused, __: provider.outbox.repeated(refused, None))


def _send_again(provider: Provider, messages: Sequence[OutboxMessage]) -> None:
    _report(provider, messages, lambda: provider.outbox.repeated(messages, provider.now()))


def _bisect(provider: Provider, messages: Sequence[OutboxMessage], send: Send, refused: Refuse) -> None:
    """Sends a bulk. One that is refused as a whole is sent in halves, down to the messages that are refused.

    :param refused: gets a message that UCloud refuses for good
    """
    try:
        send(provider, messages)
    except CoreRefusedError as error:
        if error.status == FORBIDDEN and error.status in provider.era.not_ours and not provider.core.admits_us():
            raise CoreUnavailableError(str(error)) from None
        # UCloud may leave the body of an error out; but a bare 404 is the answer of a proxy that cannot find UCloud.
        bare_404 = error.status == NOT_FOUND and not error.explained
        about_an_item = error.status in provider.era.not_ours | {PAYMENT_REQUIRED} and not bare_404
        if not about_an_item and (error.status != TOO_LARGE or len(messages) == 1):
            # This is not about the messages: a proxy, a wrong address, a lost right. They wait.
            raise CoreUnavailableError(str(error)) from None
        if len(messages) > 1:
            middle = len(messages) // 2
            _bisect(provider, messages[:middle], send, refused)
            _bisect(provider, messages[middle:], send, refused)
        else:
            refused(provider, messages, error)


def _park(provider: Provider, messages: Sequence[OutboxMessage], error: CoreRefusedError) -> None:
    if error.status == PAYMENT_REQUIRED and messages[0].kind == "charge":
        _unpaid(provider, messages[0], error.why)
    else:
        log.error("job %s: UCloud refused a message about it for good: %s", messages[0].job_id, error)
        provider.outbox.mark_done(messages, MessageOutcome.PARKED, str(error), provider.now())


def _send_updates(provider: Provider, messages: Sequence[OutboxMessage]) -> None:
    provider.core.update([_timely(provider, message) for message in messages])
    provider.outbox.mark_done(messages, MessageOutcome.DELIVERED, "", provider.now())


def _timely(provider: Provider, message: OutboxMessage) -> dict[str, Any]:
    """An update as it is right when it is sent: UCloud counts the time that a job has left from then, not from its writing."""
    content, late = message.content, int(provider.now() - message.created_at) // 60
    update = content["update"]
    if not provider.era.restarts_clock or update.get("state") != JobState.RUNNING or late < 1:
        return content
    row = provider.jobs.get(message.job_id)
    if row is None or row.state is not JobState.RUNNING or row.time_limit is None:
        return content  # it is in another state now, of which UCloud hears next
    reported = update.get("newTimeAllocation")
    before = clock_before(row.time_limit, 60 * (late + (row.time_limit - reported // 60_000 if reported else 0)), provider.era)
    provider.observations.record_clock(row.id, before)
    return content | {"update": update | {"newTimeAllocation": (row.time_limit - before) * 60_000}}


def _send_charges(provider: Provider, messages: Sequence[OutboxMessage]) -> None:
    if provider.reports_usage:
        log.error("%d charges from before ucloud.era was changed are parked: this UCloud gets usage", len(messages))
        provider.outbox.mark_done(messages, MessageOutcome.PARKED, NO_CHARGES, provider.now())
        return
    answer = provider.core.charge([_charge(message) for message in messages])
    paid = [message for message in messages if message.job_id not in answer.insufficient]
    before = [message for message in paid if message.job_id in answer.duplicates]
    provider.outbox.mark_done(before, MessageOutcome.DELIVERED, "booked before", provider.now())
    provider.outbox.mark_done([one for one in paid if one not in before], MessageOutcome.DELIVERED, "", provider.now())
    for message in messages:
        if message.job_id in answer.insufficient:
            if message.sends == 0:
                _unpaid(provider, message, "Insufficient funds")
            else:
                _doubtful(provider, message)


def _send_usage(provider: Provider, messages: Sequence[OutboxMessage]) -> None:
    def done() -> None:
        provider.outbox.mark_done(messages, MessageOutcome.DELIVERED, "", provider.now())
        provider.outbox.plan_repetition(messages, provider.now())

    _report(provider, messages, done)


def _report(provider: Provider, messages: Sequence[OutboxMessage], done: Callable[[], None]) -> None:
    """Reports usage. The answers say which wallets have something left, and lock or unlock them.

    Without a channel UCloud would not say that a wallet is unlocked: then only the reported job is stopped.

    :param done: called in the transaction that writes the answers
    """
    before = {payer: provider.wallets.changed_at(payer) for payer in map(_payer, messages)}
    answers = provider.core.report_usage([message.content for message in messages])
    unfunded = [message.job_id for message, left in zip(messages, answers, strict=True) if not left]
    stopped = [] if provider.era.has_channel else unfunded
    with provider.store.writing():
        done()
        for job_id in stopped:
            provider.jobs.stop(job_id, Stop.NO_FUNDS, provider.now())
        if provider.era.has_channel:
            # One wallet is in several answers; the last counts.
            for payer, left in {_payer(message): left for message, left in zip(messages, answers, strict=True)}.items():
                # What the channel has said meanwhile is newer, and is not repeated.
                if provider.wallets.changed_at(payer) == before[payer]:
                    provider.wallets.found(payer, locked=not left)
    for job_id in stopped:
        log.info("job %s: its owner has no funds left; it is stopped", job_id)


def _payer(message: OutboxMessage) -> Payer:
    content = message.content
    owner, category = content["owner"], content["categoryIdV2"]["name"]
    return Payer.of(owner.get("username", ""), owner.get("projectId"), category)


_SENDERS: dict[str, Callable[[Provider, Sequence[OutboxMessage]], None]] = {
    "charge": _send_charges,
    "usage": _send_usage,
    "update": _send_updates,
}


def _doubtful(provider: Provider, message: OutboxMessage) -> None:
    """A repeated charge is among those without funds: some Cores report there also what they have booked before.

    If UCloud has the call ``checkCredits``, a new charge is checked; otherwise the job goes on, and the charge of its
    next period decides.
    """
    charge = _charge(message)
    probe = Charge(f"{charge.charge_id}-probe", charge.job_id, 1, charge.multiplier, "Are there funds?")
    try:
        answer = provider.core.check_credits([probe])
    except CoreRefusedError as error:
        if error.status == PAYMENT_REQUIRED:
            _unpaid(provider, message, error.why)
            return
        answer = None
    if answer is None:
        provider.outbox.mark_done([message], MessageOutcome.DOUBTFUL, "booked before, or no funds", provider.now())
    elif message.job_id in answer.insufficient:
        _unpaid(provider, message, "Insufficient funds")
    else:
        provider.outbox.mark_done([message], MessageOutcome.DELIVERED, "booked before", provider.now())


def _unpaid(provider: Provider, message: OutboxMessage, why: str) -> None:
    now = provider.now()
    log.info("job %s: its owner has no funds left; it is stopped", message.job_id)
    with provider.store.writing():
        provider.outbox.mark_done([message], MessageOutcome.NO_FUNDS, why, now)
        provider.jobs.stop(message.job_id, Stop.NO_FUNDS, now)


def _charge(message: OutboxMessage) -> Charge:
    body = message.content
    return Charge(body["chargeId"], message.job_id, body["units"], body["numberOfProducts"], body["description"])
