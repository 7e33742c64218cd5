"""A site whose user has a drive at UCloud: registered by the provider, as soon as UCloud has named the user."""

from tests.sandbox.core import SimulatedCore
from tests.sandbox.core.web_files import WebFiles
from tests.sandbox.errors import SandboxError
from tests.sandbox.processes import wait_until
from tests.sandbox.site import Site

PATIENCE = 100.0
PLENTY = 10**12


def give_drive(site: Site, core: SimulatedCore, user: str, *, every: float = 0.5) -> str:
    """Waits until the first user of a site that answers has a drive; listener and worker run afterwards.

    :param every: seconds from pass to pass
    :returns: UCloud's id of the drive
    :raises SandboxError: UCloud does not take the products
    :raises TimeoutError: there is none
    """
    synced = site.cli("products", "sync", "--yes", check=False)
    if synced.returncode:
        raise SandboxError(f"the products are not synced: {synced.stdout}{synced.stderr}")
    core.retrieve_drive_products()
    core.directory.add_user(user)
    core.accounts.set_quota(PLENTY, user)
    site.listen()
    core.wait_until(lambda: core.notifications.connected > 0, PATIENCE, "the listener")

    # A worker looks for missing drives when it begins, and then once a minute.
    wait_until(f"UCloud has named {user}", lambda: _is_named(site, user), seconds=PATIENCE)
    site.loop(every)
    wait_until(f"{user} has a drive", lambda: core.browse_drives(user) != [], seconds=PATIENCE)
    return str(core.browse_drives(user)[0]["id"])


def _is_named(site: Site, user: str) -> bool:
    found = site.rows(
        "select 1 from ucloud_users where username = ?1 "
        "union select 1 from connections where username = ?1 and named_at is not null",
        user,
    )
    return found != []


def web_files(core: SimulatedCore, site: Site, files: str, user: str) -> WebFiles:
    """UCloud's web client of a user, where no proxy stands before a site and its file unit.

    :param files: the address of the file unit
    """
    return WebFiles(core.files, user, core.url, reach=lambda address: address.replace(site.url, files, 1))
