"""The API's description (OpenAPI 3.1), made of the routes and models themselves (``./taskw openapi`` writes it).

``jobs`` serves the file that this writes, so that no cold start pays for making it; a test makes it again and compares.
"""

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from functions import cancel, done, event, jobs, presign, store_heartbeat, web
from functions import front as _every_function  # noqa: F401 -- loaded, each has its routes in web's table
from functions.spec import Spec
from functions.tables import Job, JobEvent, RejectedEvent
from functions.views import EVENT_HIDDEN, JOB_HIDDEN

FILE = Path(__file__).with_name("openapi.json")
_NULL = {"type": "null"}
#: a route's body, its query, its answer's schema and status; a route that is missing takes events
_Model = type[msgspec.Struct] | None
_ROUTES: Mapping[str, tuple[_Model, _Model, str, int]] = {
    "POST /v1/jobs": (Spec, None, "Job", 201),
    "GET /v1/jobs": (None, jobs.JobsQuery, "Jobs", 200),
    "GET /v1/jobs/{job_id}": (None, None, "Job", 200),
    "GET /v1/jobs/{job_id}/events": (None, jobs.EventsQuery, "JobEvents", 200),
    "GET /v1/jobs/{job_id}/artifacts": (None, None, "Artifacts", 200),
    "GET /v1/rejected-events": (None, jobs.RejectedQuery, "RejectedEvents", 200),
    "POST /v1/jobs/{job_id}/cancel": (cancel.Cancel, None, "Job", 200),
    "POST /v1/jobs/{job_id}/event": (event.Event, None, "Claimed", 200),
    "POST /v1/jobs/{job_id}/heartbeat": (store_heartbeat.Beat, None, "Heard", 200),
    "POST /v1/jobs/{job_id}/done": (done.Report, None, "State", 200),
    "POST /v1/jobs/{job_id}/presign": (presign.Wanted, None, "Link", 200),
    "GET /v1/openapi.json": (None, None, "Description", 200),
}
_OF_TRAINERS = ("event", "heartbeat", "done", "presign")
_REFUSALS = {
    401: "token missing, malformed, expired, or meant for something else",
    403: "the token lacks a scope",
    404: "no such job or path",
    409: "not in this state",
    413: "the body is too large",
    415: "the body is not JSON by its own word",
    422: "the request cannot be used",
    503: "busy or away: try again",
}


def description() -> dict[str, Any]:
    """Return the description."""
    models = [model for body, query, *_ in _ROUTES.values() for model in (body, query) if model is not None]
    schemas, components = msgspec.json.schema_components(models, ref_template="#/components/schemas/{name}")
    of_model = dict(zip(models, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route, summary in sorted(_routes().items()):
        method, path = route.split()
        body, query, answer, status = _ROUTES.get(route, (None, None, "", 202))
        operation: dict[str, Any] = {"operationId": route, "summary": summary, "parameters": _parameters(path)}
        if query is not None:
            operation["parameters"] += _query(components[query.__name__])
        if body is not None:
            operation["requestBody"] = {
                "content": {"application/json": {"schema": of_model[body]}},
                "required": body is not cancel.Cancel,
            }
        security = "callback" if path.rpartition("/")[2] in _OF_TRAINERS else "api"
        operation |= {"security": [{security: []}], "responses": _responses(route, answer, status)}
        paths.setdefault(path, {})[method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "Stoker", "version": "1", "description": "Serverless training of computer-vision models."},
        "paths": paths,
        "components": {
            "schemas": _portable(components) | _answers(),
            "securitySchemes": {
                name: {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"} for name in ("api", "callback")
            },
        },
    }


def _routes() -> dict[str, str]:
    """Return what each function says of itself, by route; a bare ``POST /`` is an event's delivery, and left out."""
    found = {route: inspect.getdoc(one) or "" for one, routes in web.routes().items() for route in routes}
    return {route: said for route, said in found.items() if not route.endswith(" /")}


def _parameters(path: str) -> list[dict[str, Any]]:
    schema = {"type": "string", "pattern": f"^{web.JOB_ID}$"}
    return [{"name": "job_id", "in": "path", "required": True, "schema": schema}] if "{job_id}" in path else []


def _query(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    # A parameter that is absent is not null.
    return [
        {"name": name, "in": "query", "schema": _portable(_not_null(one))} for name, one in schema["properties"].items()
    ]


def _not_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    kinds = [one for one in schema.get("anyOf", ()) if one != _NULL]
    kept = {name: value for name, value in schema.items() if name not in {"anyOf", "default"}}
    return kept | (dict(kinds[0]) if kinds else {})


def _responses(route: str, answer: str, status: int) -> dict[str, Any]:
    good: dict[str, Any] = {"description": "taken" if not answer else "done, or done already"}
    if answer:
        good["content"] = {"application/json": {"schema": {"$ref": f"#/components/schemas/{answer}"}}}
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    refusals = {str(code): {"description": words, "content": problem} for code, words in _REFUSALS.items()}
    # create-job answers 202 to an event's delivery, and 200 where the job was there already
    also = {"POST /v1/jobs": ("200", "202"), "POST /v1/sweep": ("204",)}.get(route, ())
    return {str(status): good} | {code: good if code == "200" else {"description": "taken"} for code in also} | refusals


def _answers() -> dict[str, Any]:
    text, number, any_object = {"type": "string"}, {"type": "integer"}, {"type": "object"}
    archive = _object(key=text, url=text)
    job, row, rejected = _row(Job, JOB_HIDDEN), _row(JobEvent, EVENT_HIDDEN), _row(RejectedEvent, EVENT_HIDDEN)
    return {
        "Job": job,
        "Jobs": _object(jobs=_list("Job"), next_cursor=_or_null(text)),
        "JobEvent": row,
        "JobEvents": _object({"archive": archive}, events=_list("JobEvent"), next_after=_or_null(number)),
        "RejectedEvent": rejected,
        "RejectedEvents": _object(events=_list("RejectedEvent"), next_after=_or_null(number)),
        "Artifacts": _object(artifacts={"type": "array"}),
        "Claimed": _object(state=text, attempt=number),
        "Heard": _object({"token": text}, state=text),
        "State": _object(state=text),
        "Link": _object(url=text, expires_at=text | {"format": "date-time"}),
        "Description": any_object,
        "Problem": _object(title=text, status=number, detail=text, trace_id=text),
    }


def _object(sometimes: Mapping[str, Any] | None = None, /, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {**properties, **(sometimes or {})}, "required": list(properties)}


def _list(name: str) -> dict[str, Any]:
    return {"type": "array", "items": {"$ref": f"#/components/schemas/{name}"}}


def _or_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, _NULL]}


def _row(table: type[Job] | type[JobEvent] | type[RejectedEvent], hidden: set[str]) -> dict[str, Any]:
    made = table.model_json_schema(mode="serialization")
    properties = {
        name: {k: v for k, v in one.items() if k not in {"title", "default"}}
        for name, one in made["properties"].items()
    }
    return _object(**{name: one for name, one in properties.items() if name not in hidden})


def _portable(schema: Any) -> Any:
    r"""Return a schema with ECMA's patterns: their ``$`` is Python's ``\Z``."""
    if isinstance(schema, dict):
        return {name: _portable(value) for name, value in schema.items()}
    if isinstance(schema, list):
        return [_portable(one) for one in schema]
    return schema.removesuffix(r"\Z") + "$" if isinstance(schema, str) and schema.endswith(r"\Z") else schema


def text() -> str:
    """Return the file's content."""
    return json.dumps(description(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
