"""Messages of UCloud for tests, written as UCloud writes them: every key there, null where nothing is known."""

import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from ucloud_slurm.store.job_rows import NewJob
from ucloud_slurm.store.jobs import Jobs
from ucloud_slurm.ucloud.jobs import Job
from ucloud_slurm.ucloud.wire import from_data

PRODUCT = {"id": "example-compute-1", "category": "example-compute", "provider": "example"}


def word(text: str) -> dict[str, Any]:
    """An invocation element."""
    return {"type": "word", "word": text}


def var(*names: str, **affixes: Any) -> dict[str, Any]:
    """An invocation element with every affix empty unless given."""
    return {
        "type": "var",
        "variableNames": list(names),
        "prefixGlobal": "",
        "suffixGlobal": "",
        "prefixVariable": "",
        "suffixVariable": "",
        "isPrefixVariablePartOfArg": False,
        "isSuffixVariablePartOfArg": False,
    } | affixes


def jinja(template: str) -> dict[str, Any]:
    """An invocation element of today's UCloud, which writes the keys of all kinds."""
    return var(word="", variableName="", flag="", variable="", variableNames=None) | {
        "type": "jinja",
        "template": template,
    }


def parameter(name: str, kind: str = "text", **more: Any) -> dict[str, Any]:
    """A declared parameter."""
    return {"type": kind, "name": name, "optional": False, "defaultValue": None, "title": "", "description": ""} | more


def application(
    *invocation: dict[str, Any],
    parameters: list[dict[str, Any]] | None = None,
    backend: str = "NATIVE",
    image: str | None = None,
    modules: Sequence[str] = (),
    load: Sequence[tuple[str, str]] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """An application with its tool, named by its contents: providers keep applications by name and version."""
    contents = json.dumps([invocation, parameters, backend, image, modules, load, more], sort_keys=True)
    name = f"app-{sha256(contents.encode()).hexdigest()[:12]}"
    tool = {
        "owner": "_ucloud",
        "createdAt": 0,
        "modifiedAt": 0,
        "description": {
            "info": {"name": "tool", "version": "1"},
            "container": None,
            "defaultNumberOfNodes": 1,
            "defaultTimeAllocation": {"hours": 1, "minutes": 0, "seconds": 0},
            "requiredModules": list(modules),
            "backend": backend,
            "image": image,
            "loadInstructions": None
            if load is None
            else {"type": "Native", "applications": [{"name": name, "version": version} for name, version in load]},
        },
    }
    return {
        "metadata": {"name": name, "version": "1.0", "title": "App", "authors": ["UCloud"], "public": True},
        "invocation": {
            "tool": {"name": "tool", "version": "1", "tool": tool},
            "invocation": list(invocation),
            "parameters": parameters or [],
            "outputFileGlobs": ["*"],
            "applicationType": "BATCH",
            "environment": None,
            "allowMultiNode": True,
        }
        | more,
    }


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
        "status": {
            "state": "IN_QUEUE",
            "jobParametersJson": None,
            "resolvedApplication": resolved,
            "resolvedProduct": None,
        },
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
