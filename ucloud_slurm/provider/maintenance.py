"""What researchers read while machines are under maintenance."""

from collections.abc import Sequence
from datetime import UTC, datetime

from ucloud_slurm.errors import UnderMaintenance
from ucloud_slurm.store.maintenance import MaintenanceWindow, covering

WAITING = "maintenance"  # the kind of reason for which an accepted job waits


def sentence(window: MaintenanceWindow) -> str:
    """What is under maintenance, until when if that is known, and the administrator's message."""
    until = "" if window.until is None else datetime.fromtimestamp(window.until, UTC).strftime(" until %Y-%m-%d %H:%M UTC")
    return f"{window.product or 'This provider'} is under maintenance{until}: {window.message}"


def check_in_service(windows: Sequence[MaintenanceWindow], category: str, product: str) -> None:
    """Refuses a new job of a product.

    :param windows: those of now
    :raises UnderMaintenance: the product is in one of them
    """
    window = covering(windows, category, product)
    if window is not None:
        raise UnderMaintenance(sentence(window))
