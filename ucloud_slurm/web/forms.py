"""The form of an application: what it asks and shows besides what the application declares.

UCloud asks for it before it shows the form, so that nothing here waits long: modules are those that the worker has found.
"""

import time
from collections.abc import Sequence
from typing import Any

from ucloud_slurm.bridge.forms import form_parameters
from ucloud_slurm.bridge.script.software import Software
from ucloud_slurm.errors import Problem
from ucloud_slurm.provider import slurm_accounts
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.modules import known_modules
from ucloud_slurm.ucloud.jobs import FormOpened
from ucloud_slurm.ucloud.responses import DynamicParameters
from ucloud_slurm.web.routes import CallRegistry


def declare(provider: Provider, calls: CallRegistry) -> None:
    """Declares the call."""
    settings = provider.config.applications

    @calls.call("POST", "jobs/requestDynamicParameters", takes=FormOpened, gives=DynamicParameters)
    def request_dynamic_parameters(form: FormOpened) -> DynamicParameters:
        """List further parameters of a form: the Slurm account, where the user has several, a readme, and modules."""
        found = _accounts(provider, form)
        if form.application is not None:
            modules = known_modules(provider)
            found += form_parameters(form.application, Software.of(settings, modules), settings.readme, modules)
        return DynamicParameters(parameters=found)


def _accounts(provider: Provider, form: FormOpened) -> list[dict[str, Any]]:
    within = provider.deadline() - time.monotonic()
    try:
        identity = provider.mapping.identity(form.owner.created_by, form.owner.project, within)
    except Problem:  # create reports it
        return []
    accounts = slurm_accounts.offered(provider, identity)
    return [_choice(accounts)] if accounts else []


def _choice(accounts: Sequence[str]) -> dict[str, Any]:
    """The parameter (contract: ApplicationParameter of the kind enumeration)."""
    return {
        "type": "enumeration",
        "name": slurm_accounts.NAME,
        "optional": True,
        "defaultValue": None,
        "title": "Slurm account",
        "description": "The account of the cluster that the job is counted under; left out: your default one.",
        "options": [{"name": account, "value": account} for account in accounts],
    }
