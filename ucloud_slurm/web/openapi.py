"""The OpenAPI description of the HTTP calls, made from their declarations, at ``/openapi.json``."""

import re
from functools import cache
from typing import Any

from flask import Blueprint, Response, jsonify
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from ucloud_slurm import __version__
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.ucloud.responses import Failure
from ucloud_slurm.web.routes import CallDeclaration, CallRegistry

REF = "#/components/schemas/{model}"
USER = "user"
ABOUT = """The HTTP side of what UCloud calls. Logs and shells are WebSockets: see the manual.

A key with the value null counts as absent, and unknown keys are ignored. Integers are written without a decimal point.
The content type of a request does not matter, nor does a slash at the end of a path.

Every response other than 200 is a `Failure`. 503 and 449 are never used: UCloud reacts to them with init."""


class Description(GenerateJsonSchema):
    """JSON schemas of messages: what may be absent may be null, and a response has all of its keys."""

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """A field that may be absent."""
        described = super().default_schema(schema)
        if self.mode == "serialization":
            return described
        default = {"default": described.pop("default")} if "default" in described else {}
        return _or_null(described) | default

    def int_schema(self, schema: core_schema.IntSchema) -> JsonSchemaValue:
        """An integer of UCloud."""
        return super().int_schema(schema) | {"format": "int64"}

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        """A map from names to values."""
        described = super().dict_schema(schema)
        values = described.get("additionalProperties")
        if self.mode == "validation" and isinstance(values, dict):
            described["additionalProperties"] = _or_null(values)
        return described

    def field_is_required(
        self, field: core_schema.ModelField | core_schema.DataclassField | core_schema.TypedDictField, total: bool
    ) -> bool:
        """Whether a key is always present."""
        return self.mode == "serialization" or super().field_is_required(field, total)

    def field_title_should_be_set(self, schema: Any) -> bool:
        """No titles: they would repeat the names."""
        return False

    def normalize_name(self, name: str) -> str:
        """The name of a component: ``Bulk[Job]`` is BulkOfJob."""
        plain = re.sub(r"\bUnion\[([^]]*)\]", r"\1", name)
        plain = re.sub(r"\s*[,|]\s*", "Or", plain).replace("[", "Of").replace("]", "")
        return super().normalize_name(plain)


def blueprint(provider: Provider, calls: CallRegistry) -> Blueprint:
    """The route of the description, which is made when it is first asked for: that takes longer than the rest of a start."""
    openapi = Blueprint("openapi", __name__)

    @cache
    def description() -> dict[str, Any]:
        return describe(f"/ucloud/{provider.config.provider.id}", calls)

    @openapi.get("/openapi.json")
    def show() -> Response:
        return jsonify(description())

    return openapi


def describe(prefix: str, calls: CallRegistry) -> dict[str, Any]:
    """The description, as OpenAPI 3.1."""
    models = [(each.takes, "validation") for each in calls.declared if each.takes is not None]
    models += [(each.gives, "serialization") for each in calls.declared if each.gives is not None]
    models.append((Failure, "serialization"))
    names, definitions = models_json_schema(
        list(dict.fromkeys(models)),  # type: ignore[arg-type]
        by_alias=True,
        ref_template=REF,
        schema_generator=Description,
    )
    paths: dict[str, dict[str, Any]] = {}
    for each in calls.declared:
        paths.setdefault(f"{prefix}/{each.path}", {})[each.verb.lower()] = _operation(each, names)
    return {
        "openapi": "3.1.0",
        "info": {"title": "UCloud provider for a Slurm cluster", "version": __version__, "description": ABOUT},
        "paths": paths,
        "components": {
            "schemas": definitions.get("$defs", {}),
            "parameters": {
                USER: {
                    "name": "UCloud-Username",
                    "in": "header",
                    "description": "The user for whom UCloud calls: plain text in 2021, base64 later.",
                    "schema": {"type": "string"},
                }
            },
            "securitySchemes": {"ucloud": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _operation(each: CallDeclaration, names: Any) -> dict[str, Any]:
    responses = {"default": {"description": "The reason of a failure.", "content": _json(names[Failure, "serialization"])}}
    if each.gives is not None:
        responses["200"] = {"description": "Done.", "content": _json(names[each.gives, "serialization"])}
    operation: dict[str, Any] = {
        "operationId": f"{each.verb} {each.path}".replace("/", "-").replace(" ", "-"),
        "summary": each.summary,
        "security": [] if each.public else [{"ucloud": []}],
        "responses": responses,
        "parameters": [] if each.public else [{"$ref": f"#/components/parameters/{USER}"}],
    }
    operation["parameters"] += [{"name": name, "in": "query", "schema": {"type": "string"}} for name in each.query]
    if each.takes is not None:
        operation["requestBody"] = {"required": True, "content": _json(names[each.takes, "validation"])}
    return operation


def _or_null(schema: JsonSchemaValue) -> JsonSchemaValue:
    """The same schema, or null."""
    kinds = schema.get("anyOf", [schema])
    if not schema or {"type": "null"} in kinds:
        return schema
    return {"anyOf": [*kinds, {"type": "null"}]}


def _json(schema: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
