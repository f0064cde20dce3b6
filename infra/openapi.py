"""The API's description (OpenAPI 3.1), made of the routes' declarations (``./taskw openapi`` writes it).

``jobs`` serves the file that this writes, so that no cold start generates it; a test generates it again and compares.
"""

import inspect
import json
import re
from collections.abc import Mapping
from enum import EnumMeta
from pathlib import Path
from typing import Any

import msgspec

from functions.api import specs
from functions.api.requests import CloudEvent
from functions.api.routes import EVENT, JOB_ID, Route
from functions.domain import spec
from functions.domain.states import Reason, State
from functions.front import API
from functions.store import views
from functions.store.tables import Job, JobEvent, RejectedEvent
from infra import job_schema

FILE = Path(__file__).parents[1] / "functions/api/openapi.json"
Schema = dict[str, Any]
_NULL: Schema = {"type": "null"}
_TEXT: Schema = {"type": "string"}
#: tables whose rows are returned without their hidden columns, by the schema's name
_VIEWS: Mapping[type, tuple[str, type[Job | JobEvent | RejectedEvent], set[str]]] = {
    views.JobView: ("Job", Job, views.JOB_HIDDEN),
    views.JobEventView: ("JobEvent", JobEvent, views.EVENT_HIDDEN),
    views.RejectedEventView: ("RejectedEvent", RejectedEvent, views.EVENT_HIDDEN),
}
#: columns of a job whose values are an enumeration's
_ENUMERATIONS: Mapping[str, EnumMeta] = {"state": State, "reason": Reason}
_REFUSALS = {
    401: "The token is missing, malformed, expired, or meant for something else.",
    403: "The token lacks a scope.",
    404: "There is no such job, dataset or upload.",
    405: "The path does not take this method.",
    409: "The job's state or launch does not allow this, or open jobs use the dataset; `jobs` names them.",
    413: "The body is too large.",
    415: "The body's content type is not JSON.",
    422: "A field, parameter or header cannot be used; `errors` names it.",
    429: "The caller has created too many jobs: try again later.",
    500: "A defect of Stoker; its log has the details under the trace id.",
    503: "The database, the storage or the cluster is busy or unavailable: try again.",
}
_HEADERS = {401: "WWW-Authenticate", 405: "Allow", 429: "Retry-After", 503: "Retry-After"}
_SUCCESSES = {
    200: "Done.",
    201: "Created.",
    202: "Received; the response is empty.",
    204: "Done; the response is empty.",
}


def description() -> dict[str, Any]:
    """Return the description."""
    models = [model for route in API for model in (route.accepts, route.query, route.response) if model is not None]
    schemas, components = msgspec.json.schema_components(
        [*models, *_ENUMERATIONS.values()], schema_hook=_view, ref_template="#/components/schemas/{name}"
    )
    schema_of = {id(model): schema for model, schema in zip(models, schemas, strict=False)}
    paths: dict[str, dict[str, Any]] = {}
    for route in API:
        if route.declared_path != "/":  # deliveries of events, at the address of one function
            operation = _operation(route, schema_of, components)
            paths.setdefault(route.declared_path, {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "Stoker", "version": "1", "description": "Serverless training of computer-vision models."},
        "paths": paths,
        "components": {
            "schemas": _named(components),
            "securitySchemes": {
                name: {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"} for name in ("api", "callback")
            },
        },
    }


def _view(model: type) -> Schema:
    name, *_ = _VIEWS[model]
    return _reference(name)


def _operation(route: Route, schema_of: Mapping[int, Schema], components: Mapping[str, Schema]) -> dict[str, Any]:
    summary, _, text = (inspect.getdoc(route.handler) or "").partition("\n\n")
    operation: dict[str, Any] = {
        "operationId": route.handler.__name__,
        "tags": [route.function],
        "summary": summary.replace("\n", " "),
        "description": text,
        "security": [{route.access.scheme: [*route.access.scopes]}],
        "parameters": _parameters(route, components),
        "responses": _responses(route, schema_of),
    }
    if route.accepts is not None:
        media_type = "application/cloudevents+json" if route.accepts is CloudEvent else "application/json"
        operation["requestBody"] = {
            "content": {media_type: {"schema": schema_of[id(route.accepts)]}},
            # Without required fields the body itself may be absent.
            "required": bool(components.get(route.accepts.__name__, {}).get("required")),
        }
    return {name: value for name, value in operation.items() if value}


def _parameters(route: Route, components: Mapping[str, Schema]) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = []
    for name in re.findall(r"\{(\w+)\}", route.declared_path):
        schema = {"type": "string", "pattern": f"^{JOB_ID}$"} if name == "job_id" else _TEXT | {"minLength": 1}
        parameters.append({"name": name, "in": "path", "required": True, "schema": schema})
    if route.query is not None:
        for name, schema in components[route.query.__name__]["properties"].items():
            parameters.append({"name": name, "in": "query", "schema": _portable(_without_null(schema))})
    header = {"in": "header", "schema": _TEXT if route.headers is EVENT else _TEXT | {"minLength": 1, "maxLength": 256}}
    conditional = ["If-None-Match"] if _is_conditional(route) else []
    return parameters + [{"name": name, **header} for name in (*route.headers, *conditional)]


def _without_null(schema: Mapping[str, Any]) -> Schema:
    """Return a parameter's schema without null: an absent parameter is not null."""
    kinds = [one for one in schema.get("anyOf", ()) if one != _NULL]
    rest = {name: value for name, value in schema.items() if name != "anyOf" and (name, value) != ("default", None)}
    return rest | (dict(kinds[0]) if kinds else {})


def _responses(route: Route, schema_of: Mapping[int, Schema]) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status in route.statuses:
        response: dict[str, Any] = {"description": _SUCCESSES[status]}
        if status in {200, 201}:
            schema = _TEXT if route.response is None else schema_of[id(route.response)]
            response["content"] = {route.media_type: {"schema": schema}}
        if status == 201:  # noqa: PLR2004 -- HTTP's Created
            response["headers"] = {"Location": {"schema": _TEXT}}
        responses[str(status)] = response
    if _is_conditional(route):
        responses["304"] = {"description": "Not changed since the response whose ETag is in If-None-Match."}
    return responses | {str(status): _refusal(status) for status in _refusals(route)}


def _is_conditional(route: Route) -> bool:
    return route.method == "GET" and route.media_type == "application/json"


def _refusals(route: Route) -> list[int]:
    """Return the statuses of refusals that a route can have."""
    has_body, is_of_job = route.method in {"POST", "PATCH"}, "{job_id}" in route.declared_path
    is_of_links = route.declared_path.endswith("/links")
    has_name, has_upload = "{name}" in route.declared_path, "{upload_id}" in route.declared_path
    is_parsed = route.accepts not in {None, Any, CloudEvent}
    never = {
        403: route.access.scheme == "callback",
        404: not (is_of_job or has_upload or (has_name and not has_body)),
        409: is_of_links or not (route.method == "DELETE" or (route.method == "POST" and is_of_job)),
        413: not has_body,
        415: not is_parsed,
        429: route.function != "create_job" or route.response is None,
        422: not is_parsed and route.query is None and not has_name,
    }
    return [status for status in _REFUSALS if not never.get(status, False)]


def _refusal(status: int) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": _REFUSALS[status],
        "content": {"application/problem+json": {"schema": _reference("Problem")}},
    }
    return response | ({"headers": {_HEADERS[status]: {"schema": _TEXT}}} if status in _HEADERS else {})


def _named(components: Mapping[str, Schema]) -> dict[str, Schema]:
    rows = {name: _row(table, hidden) for name, table, hidden in _VIEWS.values()}
    named = rows | {"Problem": _problem()}
    if twice := named.keys() & components.keys():
        raise ValueError(f"schemas of the same name: {', '.join(sorted(twice))}")
    models = {name: _portable(schema) for name, schema in components.items()}
    # Fields with defaults are optional.
    body = models[spec.Spec.__name__]
    body["required"] = [name for name in body["required"] if name not in specs.DEFAULTED]
    queries = {route.query.__name__ for route in API if route.query is not None}
    return {name: schema for name, schema in models.items() if name not in queries} | named


def _problem() -> Schema:
    error = {"type": "object", "properties": {"field": _TEXT, "detail": _TEXT}, "required": ["field", "detail"]}
    known: dict[str, Schema] = {"title": _TEXT, "status": {"type": "integer"}, "detail": _TEXT, "trace_id": _TEXT}
    more: dict[str, Schema] = {"state": _reference("State"), "errors": {"type": "array", "items": error}}
    more["jobs"] = {"type": "array", "items": _TEXT}
    return {"type": "object", "properties": known | more, "required": [*known]}


def _row(table: type[Job | JobEvent | RejectedEvent], hidden: set[str]) -> Schema:
    columns = table.model_json_schema(mode="serialization")["properties"]
    enumerations = _ENUMERATIONS if table is Job else {}
    properties = {
        name: _column(schema, enumerations.get(name)) for name, schema in columns.items() if name not in hidden
    }
    more: dict[str, Schema] = {}
    if table is Job:
        properties["system_metrics"] = properties["metrics"]
        more = {name: {"type": "integer", "minimum": 1} for name in views.JOB_PLACE}
    return {"type": "object", "properties": properties | more, "required": [*properties]}


def _column(schema: Mapping[str, Any], enumeration: EnumMeta | None) -> Schema:
    if enumeration is not None:
        values = _reference(enumeration.__name__)
        return {"anyOf": [values, _NULL]} if "anyOf" in schema else values
    return {key: value for key, value in schema.items() if key not in {"title", "default"}}


def _reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _portable(schema: Any) -> Any:
    r"""Return a schema with ECMA's patterns: their ``$`` is Python's ``\Z``, wherever it is."""
    if isinstance(schema, dict):
        return {name: _portable(value) for name, value in schema.items()}
    if isinstance(schema, list):
        return [_portable(one) for one in schema]
    return schema.replace(r"\Z", "$") if isinstance(schema, str) else schema


def text() -> str:
    """Return the file's content."""
    return json.dumps(description(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
    job_schema.write()
