"""The Kubernetes API, through the official client. Objects are JSON, and every call has the same timeout.

Only ``ApiClient`` and its configuration are used. Importing the client's typed classes (``BatchV1Api``, ``V1Job``)
takes longer than the rest of a function's cold start: see ADR 14. Calls raise the client's own errors: ``ApiException``
for an error response, and urllib3's ``HTTPError`` if there is no response. ``status_of`` returns the ``Status`` object
of an error response.
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

#: of connecting, and of each read of a response
TIMEOUT_SECONDS = 10.0
NOT_FOUND, CONFLICT = 404, 409
_CHUNK = 500
_JSON = "application/json"
_MERGE_PATCH = "application/merge-patch+json"

Object = dict[str, Any]


class Resource(NamedTuple):
    """A kind of namespaced objects, by its API path."""

    api: str
    plural: str


JOBS = Resource("apis/batch/v1", "jobs")
PODS = Resource("api/v1", "pods")
SECRETS = Resource("api/v1", "secrets")
EVENTS = Resource("api/v1", "events")
#: Kueue's resources
QUEUES = Resource("apis/kueue.x-k8s.io/v1beta2", "localqueues")
WORKLOADS = Resource("apis/kueue.x-k8s.io/v1beta2", "workloads")


class Api:
    """The objects of one namespace."""

    def __init__(self, namespace: str) -> None:
        self._client, self._namespace = ApiClient(_configuration()), namespace

    def create(self, resource: Resource, body: Object) -> Object:
        """Create an object, and return it with the fields that the API server added."""
        # Strict: a misspelt field of TRAINERS is refused instead of dropped.
        return self._call("POST", self._path(resource), query={"fieldValidation": "Strict"}, body=body)

    def get(self, resource: Resource, name: str) -> Object | None:
        """Return an object, or None if it does not exist."""
        try:
            return self._call("GET", self._path(resource, name))
        except ApiException as error:
            if error.status != NOT_FOUND:
                raise
            return None

    def list(self, resource: Resource, *, labels: str = "", fields: str = "") -> Iterator[Object]:
        """Yield the objects that match both selectors, page by page."""
        query = {"limit": str(_CHUNK), "labelSelector": labels, "fieldSelector": fields, "continue": ""}
        while True:
            page = self._call("GET", self._path(resource), query=query)
            yield from page["items"] or ()
            query["continue"] = page["metadata"].get("continue", "")
            if not query["continue"]:
                return

    def patch(self, resource: Resource, name: str, changes: Object, *, part: str = "") -> Object:
        """Merge changes into an object or its subresource ``part``, such as ``status`` (RFC 7396), and return it."""
        return self._call("PATCH", self._path(resource, name, part), body=changes, content_type=_MERGE_PATCH)

    def delete(self, resource: Resource, name: str) -> None:
        """Delete an object and its dependents; it is no error if the object does not exist."""
        try:
            # A DELETE of a Job without a propagation policy leaves its pods running, and the GPU in use.
            self._call("DELETE", self._path(resource, name), query={"propagationPolicy": "Background"})
        except ApiException as error:
            if error.status != NOT_FOUND:
                raise

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _path(self, resource: Resource, *segments: str) -> str:
        path = f"/{resource.api}/namespaces/{self._namespace}/{resource.plural}"
        return "/".join([path, *filter(None, segments)])

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
        result: ApiResponse[Any] = self._client.response_deserialize(response, {"2XX": "object"})
        return dict(result.data)


def status_of(error: ApiException) -> Object:
    """Return the ``Status`` object of an error response; empty if the response has none, as from a proxy."""
    try:
        status = json.loads(error.body or "")
    except ValueError:
        return {}
    return status if isinstance(status, dict) and status.get("kind") == "Status" else {}


def message_of(error: ApiException) -> str:
    """Return the message of an error response."""
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
    # No retries here: the next sweep repeats what failed.
    configuration.retries = False
    return configuration
