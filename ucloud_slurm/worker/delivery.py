"""Telling UCloud: draining the outbox, and finding out who could not pay."""

import logging
import time
from collections.abc import Callable, Sequence

from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.lookup import OPEN_SECONDS
from ucloud_slurm.store.breaker import UCLOUD
from ucloud_slurm.store.job_state import Stop
from ucloud_slurm.store.outbox import Message, Outcome
from ucloud_slurm.ucloud.channel import Payer
from ucloud_slurm.ucloud.errors import CoreRefusedError, CoreUnavailableError
from ucloud_slurm.ucloud.reports import Charge

log = logging.getLogger(__name__)

UNANSWERED = 10.0  # seconds after which a create counts as answered that was never promised to be
BUDGET = 60.0  # seconds of a pass; jobs that are to be stopped wait behind it
PAYMENT_REQUIRED = 402
NO_CHARGES = "a charge for a UCloud of another era: this one is told of use instead; book it by hand"
FORBIDDEN = 403
NOT_FOUND = 404
TOO_LARGE = 413


def deliver(provider: Provider) -> bool:
    """Sends what waits, oldest first for each job, in bulks of at most 1000.

    :returns: False when UCloud could not be reached; the rest waits for the next pass
    """
    deadline = time.monotonic() + BUDGET
    try:
        confirmed = provider.era.has_check_existence
        while messages := provider.outbox.heads(provider.now(), UNANSWERED, confirmed=confirmed):
            if time.monotonic() > deadline:
                log.warning("the outbox is long; the rest waits for the next pass")
                return False
            for kind, send in _SENDERS.items():
                some = [message for message in messages if message.kind == kind]
                if some:
                    provider.outbox.sending(some)
                    _bisect(provider, some, send)
            provider.breaker.record_success(UCLOUD, provider.now())
    except CoreUnavailableError as error:
        log.warning("the outbox waits: %s", error)
        provider.breaker.record_failure(UCLOUD, str(error), provider.now(), OPEN_SECONDS)
        return False
    return True


def _bisect(
    provider: Provider, messages: Sequence[Message], send: Callable[[Provider, Sequence[Message]], None]
) -> None:
    """Sends a bulk. One that is refused as a whole is sent in halves, down to the messages that it was for."""
    try:
        send(provider, messages)
    except CoreRefusedError as error:
        if error.status == FORBIDDEN and error.status in provider.era.not_ours and not provider.core.admits_us():
            raise CoreUnavailableError(str(error)) from None
        # UCloud may leave the body of an error out; but a bare 404 is what a proxy says that cannot find UCloud.
        bare_404 = error.status == NOT_FOUND and not error.explained
        about_an_item = error.status in provider.era.not_ours | {PAYMENT_REQUIRED} and not bare_404
        if not about_an_item and (error.status != TOO_LARGE or len(messages) == 1):
            # Not a word about the messages: a proxy, a wrong address, a lost right. They wait.
            raise CoreUnavailableError(str(error)) from None
        if len(messages) > 1:
            middle = len(messages) // 2
            _bisect(provider, messages[:middle], send)
            _bisect(provider, messages[middle:], send)
        elif error.status == PAYMENT_REQUIRED and messages[0].kind == "charge":
            _unpaid(provider, messages[0], error.why)
        else:
            log.error("job %s: UCloud refused a message about it for good: %s", messages[0].job_id, error)
            provider.outbox.mark_done(messages, Outcome.PARKED, str(error), provider.now())


def _send_updates(provider: Provider, messages: Sequence[Message]) -> None:
    provider.core.update([message.body for message in messages])
    provider.outbox.mark_done(messages, Outcome.DELIVERED, "", provider.now())


def _send_charges(provider: Provider, messages: Sequence[Message]) -> None:
    if provider.reports_usage:
        log.error("%d charges from before ucloud.era was changed are parked: this UCloud wants use", len(messages))
        provider.outbox.mark_done(messages, Outcome.PARKED, NO_CHARGES, provider.now())
        return
    answer = provider.core.charge([_charge(message) for message in messages])
    paid = [message for message in messages if message.job_id not in answer.insufficient]
    before = [message for message in paid if message.job_id in answer.duplicates]
    provider.outbox.mark_done(before, Outcome.DELIVERED, "booked before", provider.now())
    provider.outbox.mark_done(
        [message for message in paid if message not in before], Outcome.DELIVERED, "", provider.now()
    )
    for message in messages:
        if message.job_id in answer.insufficient:
            if message.sends == 0:
                _unpaid(provider, message, "Insufficient funds")
            else:
                _doubtful(provider, message)


def _send_usage(provider: Provider, messages: Sequence[Message]) -> None:
    """Tells what was used. The answers say which wallets have something left after that: their locks are heeded.

    Where UCloud has no channel nobody would say that a wallet is unlocked. The job that was told of is ended then, and
    the next one is tried.
    """
    before = {payer: provider.wallets.changed_at(payer) for payer in map(_payer, messages)}
    answers = provider.core.report_usage([message.body for message in messages])
    with provider.store.writing():
        provider.outbox.mark_done(messages, Outcome.DELIVERED, "", provider.now())
        if not provider.era.has_channel:
            for message in (message for message, left in zip(messages, answers, strict=True) if not left):
                log.info("job %s: its owner has no funds left; it is stopped", message.job_id)
                provider.jobs.stop(message.job_id, Stop.NO_FUNDS, provider.now())
            return
        # One wallet is in several answers; the last counts.
        for payer, left in {_payer(message): left for message, left in zip(messages, answers, strict=True)}.items():
            # What the channel has said meanwhile is newer, and it would not say it again.
            if provider.wallets.changed_at(payer) == before[payer]:
                provider.wallets.found(payer, locked=not left)


def _payer(message: Message) -> Payer:
    owner, category = message.body["owner"], message.body["categoryIdV2"]["name"]
    return Payer.of(owner.get("username", ""), owner.get("projectId"), category)


_SENDERS: dict[str, Callable[[Provider, Sequence[Message]], None]] = {
    "charge": _send_charges,
    "usage": _send_usage,
    "update": _send_updates,
}


def _doubtful(provider: Provider, message: Message) -> None:
    """A repeated charge is among those without funds: some Cores report there what they had booked before.

    A question about a new charge tells, where UCloud knows that call. Where it does not, the job goes on, and the
    charge of its next period decides.
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
        provider.outbox.mark_done([message], Outcome.DOUBTFUL, "booked before, or no funds", provider.now())
    elif message.job_id in answer.insufficient:
        _unpaid(provider, message, "Insufficient funds")
    else:
        provider.outbox.mark_done([message], Outcome.DELIVERED, "booked before", provider.now())


def _unpaid(provider: Provider, message: Message, why: str) -> None:
    now = provider.now()
    log.info("job %s: its owner has no funds left; it is stopped", message.job_id)
    with provider.store.writing():
        provider.outbox.mark_done([message], Outcome.NO_FUNDS, why, now)
        provider.jobs.stop(message.job_id, Stop.NO_FUNDS, now)


def _charge(message: Message) -> Charge:
    body = message.body
    return Charge(body["chargeId"], message.job_id, body["units"], body["numberOfProducts"], body["description"])
