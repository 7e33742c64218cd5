"""Wallets and charges of the simulated Core (contract: jobs.control.chargeCredits,
jobs.control.checkCredits).

Source: the UCloud developer guide, accounting of jobs, and what its Core of 2021 did in truth; the two
differ.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tests.sandbox.core.catalogue import Catalogue
from tests.sandbox.core.errors import CoreError
from tests.sandbox.core.jobs import BookedCharge
from tests.sandbox.core.user_requests import UserRequest

Behaviour = Literal["as-documented", "as-coded"]
PLENTY = 10**15
"""Credits of an owner whose wallet was never set."""


@dataclass(frozen=True, slots=True)
class Charge:
    """A charge that the provider asks for.

    :ivar charge_id: the provider's key, with which a repetition is known
    :ivar payer: the project, or the person without one
    :ivar units: by the product's unitOfPrice, such as minutes
    :ivar multiplier: such as the number of nodes
    :ivar cost: units times multiplier times price; 0 for a free product
    """

    job_id: str
    charge_id: str
    payer: str
    units: int
    multiplier: int
    cost: int
    performed_by: str
    description: str


@dataclass(frozen=True, slots=True)
class ChargeResult:
    """Ids of jobs, in the order of the items; a job is named once for each of its items."""

    insufficient: tuple[str, ...] = ()
    duplicates: tuple[str, ...] = ()

    def body(self) -> dict[str, object]:
        """The answer's JSON."""
        return {
            "insufficientFunds": [{"id": id_} for id_ in self.insufficient],
            "duplicateCharges": [{"id": id_} for id_ in self.duplicates],
        }


class Wallets:
    """One wallet for each project or person. Safe for several threads."""

    def __init__(self, changed: threading.Condition) -> None:
        self._changed = changed
        self._balances: dict[str, int] = {}
        self._booked: dict[str, dict[str, Charge]] = {}  # by chargeId, then by job
        self._conflicts: list[str] = []

    def set(self, owner: str = "user", credits: int = 10**12) -> None:  # noqa: A002
        """Put so much into a wallet, whatever was there.

        :param owner: a project, or a username for the person's own workspace
        """
        with self._changed:
            self._balances[owner] = credits
            self._changed.notify_all()

    def balance(self, owner: str = "user") -> int:
        """What is in a wallet."""
        with self._changed:
            return self._balances.get(owner, PLENTY)

    def can_pay(self, owner: str, credits: int) -> bool:  # noqa: A002
        """Whether that much is there."""
        return self.balance(owner) >= credits

    def charge(
        self, charges: Sequence[Charge], behaviour: Behaviour, *, warns_early: bool, now_ms: int
    ) -> tuple[ChargeResult, list[tuple[str, BookedCharge]]]:
        """Take the cost of each from its wallet.

        as-documented: if any item cannot be paid nothing is booked and the bulk is a 402; a chargeId counts
        for its job only and a repetition is in ``duplicateCharges``.

        as-coded: an item that cannot be paid in full takes what is left and is in ``insufficientFunds``,
        where repetitions are too; a chargeId counts for all jobs. An empty wallet books nothing and leaves
        the chargeId free.

        :param warns_early: see :class:`CoreEra`
        :return: the answer, and what was booked, with the ids of the jobs
        :raises CoreError: 402, as documented
        """
        with self._changed:
            if behaviour == "as-documented":
                return self._all_or_nothing(charges, now_ms)
            return self._each(charges, now_ms, warns_early=warns_early)

    def take_conflicts(self) -> list[str]:
        """Sentences about a chargeId that came back with other contents; Core itself does not see that."""
        with self._changed:
            found, self._conflicts = self._conflicts, []
            return found

    def check(self, charges: Sequence[Charge]) -> ChargeResult:
        """Which could not be paid, each by itself. Nothing is taken."""
        return ChargeResult(insufficient=tuple(c.job_id for c in charges if not self.can_pay(c.payer, c.cost)))

    def _all_or_nothing(self, charges: Sequence[Charge], now_ms: int) -> tuple[ChargeResult, list[tuple[str, BookedCharge]]]:
        new: dict[tuple[str, str], Charge] = {}
        duplicates: list[str] = []
        left: dict[str, int] = {}
        for charge in charges:
            key = (charge.charge_id, charge.job_id)
            first = self._booked.get(charge.charge_id, {}).get(charge.job_id) or new.get(key)
            if first is not None:
                self._compare(first, charge)
                duplicates.append(charge.job_id)
                continue
            new[key] = charge
            left[charge.payer] = left.get(charge.payer, self.balance(charge.payer)) - charge.cost
        if any(left[charge.payer] < 0 and charge.cost > 0 for charge in new.values()):
            raise CoreError(402, "Insufficient funds")
        booked = [(charge.job_id, self._take(charge, charge.cost, now_ms)) for charge in new.values()]
        return ChargeResult(duplicates=tuple(duplicates)), booked

    def _each(
        self, charges: Sequence[Charge], now_ms: int, *, warns_early: bool
    ) -> tuple[ChargeResult, list[tuple[str, BookedCharge]]]:
        insufficient: list[str] = []
        booked: list[tuple[str, BookedCharge]] = []
        for charge in charges:
            first = next(iter(self._booked.get(charge.charge_id, {}).values()), None)
            if first is not None:
                self._compare(first, charge)
                insufficient.append(charge.job_id)
                continue
            balance = self.balance(charge.payer)
            taken = min(charge.cost, balance)
            if charge.cost and balance < charge.cost * (2 if warns_early else 1):
                insufficient.append(charge.job_id)
            if taken or not charge.cost:
                booked.append((charge.job_id, self._take(charge, taken, now_ms)))
        return ChargeResult(insufficient=tuple(insufficient)), booked

    def _take(self, charge: Charge, taken: int, now_ms: int) -> BookedCharge:
        self._booked.setdefault(charge.charge_id, {})[charge.job_id] = charge
        self._balances[charge.payer] = self.balance(charge.payer) - taken
        self._changed.notify_all()
        return BookedCharge(
            charge_id=charge.charge_id,
            units=charge.units,
            multiplier=charge.multiplier,
            cost=charge.cost,
            taken=taken,
            performed_by=charge.performed_by,
            description=charge.description,
            at=now_ms,
        )

    def _compare(self, first: Charge, again: Charge) -> None:
        before, now = ((first.job_id, first.units, first.multiplier), (again.job_id, again.units, again.multiplier))
        if before != now:
            self._conflicts.append(
                f"chargeId {again.charge_id} came for job {first.job_id} "
                f"with {first.units} x {first.multiplier} "
                f"and again for job {again.job_id} with {again.units} x {again.multiplier}"
            )


def check_credits(request: UserRequest, catalogue: Catalogue, wallets: Wallets) -> None:
    """Refuse a job whose payer cannot pay for one unit of its product.

    :raises CoreError: 402
    """
    product = catalogue.named(request.product)
    if not product["freeToUse"] and not wallets.can_pay(request.project or request.owner, product["pricePerUnit"]):
        raise CoreError(402, "Insufficient funds")
