"""The Kubernetes API, through the official client: objects are JSON, every call has the same time-out.

Only ``ApiClient`` and its configuration are used. The client's typed classes (``BatchV1Api``, ``V1Job``) cost a cold
start more than all the rest of a function does: see ADR 14. Errors are the client's own, ``ApiException`` for an answer
and urllib3's ``HTTPError`` for none; ``status_of`` reads the typed ``Status`` object of the former.
"""

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from kubernetes.client import ApiClient, Configuration
from kubernetes.client.api_response import ApiResponse
from kubernetes.client.exceptions import ApiException
from kubernetes.config import ConfigException, load_incluster_config, load_kube_config

from functions.domain.errors import ConfigurationError

#: to connect, and between two pieces of an answer
TIMEOUT_SECONDS = 10.0
NOT_FOUND, CONFLICT = 404, 409
_CHUNK = 500
_JSON = "application/json"
_MERGE_PATCH = "application/merge-patch+json"

Object = dict[str, Any]


class Resource(NamedTuple):
    """A kind of namespaced objects, by its place in the API."""

    api: str
    plural: str


JOBS = Resource("apis/batch/v1", "jobs")
PODS = Resource("api/v1", "pods")
SECRETS = Resource("api/v1", "secrets")
EVENTS = Resource("api/v1", "events")
#: of Kueue
QUEUES = Resource("apis/kueue.x-k8s.io/v1beta2", "localqueues")
WORKLOADS = Resource("apis/kueue.x-k8s.io/v1beta2", "workloads")


class Api:
    """The objects of one namespace."""

    def __init__(self, namespace: str) -> None:
        self._client, self._namespace = ApiClient(_configuration()), namespace

    def create(self, resource: Resource, body: Object) -> Object:
        """Return the new object as the API server completed it."""
        return self._call("POST", self._path(resource), body=body)

    def get(self, resource: Resource, name: str) -> Object | None:
        """Return an object, or None if it does not exist."""
        try:
            return self._call("GET", self._path(resource, name))
        except ApiException as error:
            if error.status != NOT_FOUND:
                raise
            return None

    def list(self, resource: Resource, *, labels: str = "", fields: str = "") -> Iterator[Object]:
        """Yield the objects that both selectors match, page by page."""
        query = {"limit": str(_CHUNK), "labelSelector": labels, "fieldSelector": fields, "continue": ""}
        while True:
            page = self._call("GET", self._path(resource), query=query)
            yield from page["items"] or ()
            query["continue"] = page["metadata"].get("continue", "")
            if not query["continue"]:
                return

    def patch(self, resource: Resource, name: str, changes: Object, *, part: str = "") -> Object:
        """Merge changes into an object, or into a ``part`` of it such as ``status`` (RFC 7396); return the result."""
        return self._call("PATCH", self._path(resource, name, part), body=changes, content_type=_MERGE_PATCH)

    def delete(self, resource: Resource, name: str) -> None:
        """Delete an object and what it owns; an object that does not exist is no error."""
        try:
            # A bare DELETE of a Job leaves its pods, and so the GPU, running.
            self._call("DELETE", self._path(resource, name), query={"propagationPolicy": "Background"})
        except ApiException as error:
            if error.status != NOT_FOUND:
                raise

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _path(self, resource: Resource, *words: str) -> str:
        path = f"/{resource.api}/namespaces/{self._namespace}/{resource.plural}"
        return "/".join([path, *filter(None, words)])

    def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content_type: str = _JSON,
    ) -> Object:
        headers = {"Accept": _JSON, "Content-Type": content_type}
        parameters = [(name, value) for name, value in (query or {}).items() if value]
        request = self._client.param_serialize(
            method, path, query_params=parameters, header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        response = self._client.call_api(*request, _request_timeout=TIMEOUT_SECONDS)
        response.read()
        # Raises ApiException unless the status is 2xx.
        answer: ApiResponse[Any] = self._client.response_deserialize(response, {"2XX": "object"})
        return dict(answer.data)


def status_of(error: ApiException) -> Object:
    """Return the ``Status`` object of an answer that is an error; empty where something else answered."""
    try:
        status = json.loads(error.body or "")
    except ValueError:
        return {}
    return status if isinstance(status, dict) and status.get("kind") == "Status" else {}


def message_of(error: ApiException) -> str:
    """Return what an answer that is an error says, in one line."""
    return str(status_of(error).get("message") or f"{error.status} {error.reason}")


def _configuration() -> Configuration:
    configuration = Configuration()
    try:
        if os.environ.get("KUBERNETES_SERVICE_HOST"):
            load_incluster_config(client_configuration=configuration)
        else:
            load_kube_config(config_file=os.environ.get("KUBECONFIG"), client_configuration=configuration)
    except ConfigException as error:
        raise ConfigurationError(f"LAUNCHER: kubernetes needs a cluster: {error}") from error
    # Sweep is the retry.
    configuration.retries = False
    return configuration
