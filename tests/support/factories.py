"""Messages of UCloud for tests, written as UCloud writes them: every key there, null where nothing is known."""

import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from tests.sandbox.core import applications
from tests.sandbox.core.applications import var, word
from tests.sandbox.core.today.application import ELEMENT
from ucloud_slurm.store.job_rows import NewJob
from ucloud_slurm.store.jobs import Jobs
from ucloud_slurm.ucloud.jobs import Job
from ucloud_slurm.ucloud.wire import from_data

__all__ = ["application", "jinja", "job", "job_data", "parameter", "text", "var", "word"]
PRODUCT = {"id": "example-compute-1", "category": "example-compute", "provider": "example"}


def jinja(template: str) -> dict[str, Any]:
    """An invocation element of today's UCloud, which writes the keys of all kinds."""
    return ELEMENT | applications.jinja(template) | {"variableNames": None}


def parameter(name: str, kind: str = "text", **more: Any) -> dict[str, Any]:
    """A declared parameter."""
    return applications.parameter(name, kind, **more)


def application(
    *invocation: dict[str, Any],
    parameters: Sequence[dict[str, Any]] | None = None,
    backend: str = "NATIVE",
    image: str | None = None,
    modules: Sequence[str] = (),
    load: Sequence[tuple[str, str]] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """An application with its tool, named by its contents: providers keep applications by name and version."""
    contents = json.dumps([invocation, parameters, backend, image, modules, load, more], sort_keys=True)
    name = f"app-{sha256(contents.encode()).hexdigest()[:12]}"
    made = applications.application(name, "1.0", invocation, parameters or (), backend=backend, **more)
    instructions = [{"name": module, "version": version} for module, version in load or ()]
    made["invocation"]["tool"]["tool"]["description"] |= {
        "requiredModules": list(modules),
        "image": image,
        "loadInstructions": None if load is None else {"type": "Native", "applications": instructions},
    }
    return made


def job_data(
    job_id: str = "54112", *, app: dict[str, Any] | None = None, parameters: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    """A Job. ``more`` replaces parts of the specification."""
    resolved = app or application(word("true"))
    specification = {
        "application": {"name": resolved["metadata"]["name"], "version": "1.0"},
        "product": dict(PRODUCT),
        "name": None,
        "replicas": 1,
        "allowDuplicateJob": False,
        "parameters": parameters or {},
        "resources": None,
        "timeAllocation": {"hours": 1, "minutes": 0, "seconds": 0},
    } | more
    return {
        "id": job_id,
        "owner": {"createdBy": "user", "project": None},
        "updates": [],
        "specification": specification,
        "status": {"state": "IN_QUEUE", "jobParametersJson": None, "resolvedApplication": resolved, "resolvedProduct": None},
        "createdAt": 1633329776235,
        "output": None,
        "permissions": None,
        "acl": None,
        "billing": {},
    }


def job(job_id: str = "54112", **more: Any) -> Job:
    """A decoded Job."""
    return from_data(Job, job_data(job_id, **more))


def new_job(job_id: str = "7", **more: Any) -> NewJob:
    """A job that is to be written into the store; its fields are arbitrary unless given."""
    values: dict[str, Any] = {
        "name": f"ucloud-{job_id}",
        "local_user": "u",
        "owner": "o",
        "project": None,
        "category": PRODUCT["category"],
        "product": PRODUCT["id"],
        "fingerprint": "f",
        "body": "{}",
        "accepted_at": 0.0,
    }
    return NewJob(id=job_id, **values | more)


def accept_live(jobs: Jobs, job: NewJob, slurm_id: int = 1, submitted_at: int | None = None) -> None:
    """Writes a job that Slurm has, and whose create was answered."""
    jobs.accept([job], claimed=[job.id], attempted_at=job.accepted_at, claimed_until=job.accepted_at + 1)
    jobs.submitted(job.id, slurm_id, submitted_at, attempt=1, acknowledged_at=job.accepted_at)


def text(value: str) -> dict[str, Any]:
    """A text value."""
    return {"type": "text", "value": value}
