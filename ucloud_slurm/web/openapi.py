"""The OpenAPI description of the HTTP calls, made from their declarations, at ``/openapi.json``."""

from typing import Any

from flask import Blueprint, Response, jsonify
from pydantic.json_schema import models_json_schema

from ucloud_slurm import __version__
from ucloud_slurm.provider import Provider
from ucloud_slurm.ucloud.answers import Failure
from ucloud_slurm.web.routes import Calls, Declaration

REF = "#/components/schemas/{model}"


def blueprint(provider: Provider, calls: Calls) -> Blueprint:
    """The route of the description."""
    description = describe(f"/ucloud/{provider.config.provider.id}", calls)
    openapi = Blueprint("openapi", __name__)

    @openapi.get("/openapi.json")
    def show() -> Response:
        return jsonify(description)

    return openapi


def describe(prefix: str, calls: Calls) -> dict[str, Any]:
    """The description, as OpenAPI 3.1."""
    models = [(each.takes, "validation") for each in calls.declared if each.takes is not None]
    models += [(each.gives, "serialization") for each in calls.declared]
    models.append((Failure, "serialization"))
    names, definitions = models_json_schema(list(dict.fromkeys(models)), by_alias=True, ref_template=REF)  # type: ignore[arg-type]
    paths: dict[str, dict[str, Any]] = {}
    for each in calls.declared:
        paths.setdefault(f"{prefix}/{each.path}", {})[each.verb.lower()] = _operation(each, names)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "UCloud provider for a Slurm cluster",
            "version": __version__,
            "description": "The HTTP side of what UCloud calls. Logs and shells are WebSockets: see the manual.",
        },
        "paths": paths,
        "components": {
            "schemas": definitions.get("$defs", {}),
            "securitySchemes": {"ucloud": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _operation(each: Declaration, names: Any) -> dict[str, Any]:
    failure = {"description": "Why not.", "content": _json(names[Failure, "serialization"])}
    operation: dict[str, Any] = {
        "operationId": f"{each.verb} {each.path}".replace("/", "-").replace(" ", "-"),
        "summary": each.summary,
        "security": [] if each.public else [{"ucloud": []}],
        "responses": {
            "200": {"description": "Done.", "content": _json(names[each.gives, "serialization"])},
            "default": failure,
        },
        "parameters": [
            {"name": name, "in": "query", "required": False, "schema": {"type": "string"}} for name in each.query
        ],
    }
    if each.takes is not None:
        operation["requestBody"] = {"required": True, "content": _json(names[each.takes, "validation"])}
    return operation


def _json(schema: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
