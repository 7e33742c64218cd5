"""Names and addresses of the calls in both directions (contract: route table)."""

from collections.abc import Mapping

_CONNECTIONS = "/api/providers/integration/control"
INCOMING: Mapping[tuple[str, str], str] = {
    ("POST", "/auth/providers/refresh"): "auth.providers.refresh",
    ("GET", "/api/jobs/control/retrieve"): "jobs.control.retrieve",
    ("GET", "/api/jobs/control/browse"): "jobs.control.browse",
    ("POST", "/api/jobs/control/update"): "jobs.control.update",
    ("POST", "/api/jobs/control/chargeCredits"): "jobs.control.chargeCredits",
    ("POST", "/api/jobs/control/checkCredits"): "jobs.control.checkCredits",
    ("POST", "/api/jobs/control/register"): "jobs.control.register",
    ("GET", "/api/products/retrieve"): "products.retrieve",
    ("GET", "/api/products/browse"): "products.browse",
    ("POST", f"{_CONNECTIONS}/approveConnection"): "providers.im.control.approveConnection",
    ("POST", f"{_CONNECTIONS}/clearConnection"): "providers.im.control.clearConnection",
}
INCOMING_TODAY: Mapping[tuple[str, str], str] = {
    route: name for route, name in INCOMING.items() if not name.startswith("products.")
} | {
    ("POST", "/api/jobs/control/updateLabels"): "jobs.control.updateLabels",
    ("POST", "/api/jobs/control/browseSshKeys"): "jobs.control.browseSshKeys",
    ("POST", "/api/providers/resources/checkExistence"): "providers.resources.checkExistence",
    ("POST", "/api/files/collections/control/register"): "files.collections.control.register",
    ("GET", "/api/files/collections/control/browse"): "files.collections.control.browse",
    ("GET", "/api/files/collections/control/retrieve"): "files.collections.control.retrieve",
    ("POST", "/api/files/collections/control/updateLabels"): "files.collections.control.updateLabels",
    ("POST", "/api/tasks"): "tasks.create",
    ("POST", "/api/tasks/postStatus"): "tasks.postStatus",
    ("POST", "/api/tasks/markAsComplete"): "tasks.markAsComplete",
    ("POST", "/api/products/v2"): "products.v2.create",
    ("GET", "/api/products/v2/retrieve"): "products.v2.retrieve",
    ("GET", "/api/products/v2/browse"): "products.v2.browse",
    ("POST", "/api/accounting/v2/reportUsage"): "accounting.v2.reportUsage",
    ("POST", "/api/accounting/v2/checkProviderUsable"): "accounting.v2.checkProviderUsable",
}
"""The calls that are read by type."""
NOTIFICATIONS = "/api/accounting/notifications"
"""Where a provider of today opens its WebSocket."""
PUBLIC = frozenset({"auth.providers.refresh", "products.browse", "products.v2.browse"})
"""Calls that need no token."""

JOB_CALLS: Mapping[str, tuple[str, str]] = {
    "init": ("POST", "jobs/init"),
    "create": ("POST", "jobs"),
    "terminate": ("POST", "jobs/terminate"),
    "extend": ("POST", "jobs/extend"),
    "suspend": ("POST", "jobs/suspend"),
    "unsuspend": ("POST", "jobs/unsuspend"),
    "verify": ("POST", "jobs/verify"),
    "updateAcl": ("POST", "jobs/updateAcl"),
    "openInteractiveSession": ("POST", "jobs/interactiveSession"),
    "openTerminalInFolder": ("POST", "jobs/openTerminalInFolder"),
    "requestDynamicParameters": ("POST", "jobs/requestDynamicParameters"),
    "attachResource": ("POST", "jobs/attachResource"),
    "detachResource": ("POST", "jobs/detachResource"),
    "onUpdatedLabels": ("POST", "jobs/onUpdatedLabels"),
    "retrieveProducts": ("GET", "jobs/retrieveProducts"),
    "retrieveUtilization": ("GET", "jobs/retrieveUtilization"),
}
INTEGRATION_CALLS: Mapping[str, tuple[str, str]] = {
    "init": ("POST", "integration/init"),
    "connect": ("POST", "integration/connect"),
    "unlinked": ("POST", "integration/unlinked"),
    "welcome": ("POST", "integration/welcome"),
    "retrieveManifest": ("GET", "integration/retrieveManifest"),
}
OTHER_CALLS: Mapping[str, tuple[str, str]] = {
    "ingresses.provider.{}.retrieveProducts": ("GET", "ingresses/retrieveProducts"),
    "networkips.provider.{}.retrieveProducts": ("GET", "networkips/retrieveProducts"),
    "licenses.provider.{}.retrieveProducts": ("GET", "licenses/retrieveProducts"),
    "private-networks.provider.{}.retrieveProducts": ("GET", "private-networks/retrieveProducts"),
    "{}.branding.retrieveInfo": ("GET", "provider/branding/retrieveInfo"),
    "ssh.provider.{}.keyUploaded": ("POST", "ssh/keyUploaded"),
}
"""Names without the provider's id; the first four are the lists of products that are about neither jobs nor drives."""
DRIVE_CALLS: Mapping[str, tuple[str, str]] = {
    "files.collections.provider.{}.retrieveProducts": ("GET", "files/collections/retrieveProducts"),
    "files.collections.provider.{}.create": ("POST", "files/collections"),
    "files.collections.provider.{}.rename": ("POST", "files/collections/rename"),
    "files.collections.provider.{}.delete": ("DELETE", "files/collections"),
    "files.collections.provider.{}.onUpdatedLabels": ("POST", "files/collections/onUpdatedLabels"),
    "shares.provider.{}.create": ("POST", "shares"),
}
"""Names without the provider's id."""
FILE_CALLS: Mapping[str, tuple[str, str]] = {
    "files.provider.{}.browse": ("POST", "files/browse"),
    "files.provider.{}.retrieve": ("POST", "files/retrieve"),
    "files.provider.{}.createFolder": ("POST", "files/folder"),
    "files.provider.{}.createUpload": ("POST", "files/upload"),
    "files.provider.{}.createDownload": ("POST", "files/download"),
    "files.provider.{}.move": ("POST", "files/move"),
    "files.provider.{}.copy": ("POST", "files/copy"),
    "files.provider.{}.trash": ("POST", "files/trash"),
    "files.provider.{}.emptyTrash": ("POST", "files/emptyTrash"),
    "files.provider.{}.delete": ("DELETE", "files"),
    "tasks.provider.{}.pauseOrCancel": ("POST", "tasks/pauseOrCancel"),
}
"""Names without the provider's id."""


def outgoing(provider: str) -> dict[str, tuple[str, str]]:
    """Core's calls of that provider: full name -> verb and path."""
    calls = {f"jobs.provider.{provider}.{name}": route for name, route in JOB_CALLS.items()}
    calls |= {f"{provider}.im.{name}": route for name, route in INTEGRATION_CALLS.items()}
    calls |= {name.format(provider): route for name, route in {**OTHER_CALLS, **DRIVE_CALLS, **FILE_CALLS}.items()}
    return {name: (verb, f"/ucloud/{provider}/{path}") for name, (verb, path) in calls.items()}
