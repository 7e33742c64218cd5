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
PUBLIC = frozenset({"auth.providers.refresh", "products.browse"})
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


def outgoing(provider: str) -> dict[str, tuple[str, str]]:
    """Core's calls of that provider: full name -> verb and path."""
    calls = {f"jobs.provider.{provider}.{name}": route for name, route in JOB_CALLS.items()}
    calls |= {f"{provider}.im.{name}": route for name, route in INTEGRATION_CALLS.items()}
    return {name: (verb, f"/ucloud/{provider}/{path}") for name, (verb, path) in calls.items()}
