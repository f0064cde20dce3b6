"""A stand-in for Loki: takes OTLP over HTTP as the documented settings make it take it, and answers the documented queries.

Loki itself is not used, because of its licence.
"""

import gzip
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import NamedTuple

import yaml
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from tests.conftest import ROOT

DOCUMENT = (ROOT / "docs/OPERATIONS.md").read_text()
#: attributes of a log collector that Loki turns into labels by default
DEFAULT_LABELS = {
    "container.name", "k8s.container.name", "k8s.job.name", "k8s.namespace.name", "k8s.pod.name", "service.name",
}  # fmt: skip
_QUERY = re.compile(
    r'\{(?P<selector>[^}]*)\}(?: \|= "(?P<text>[^"]*)")?(?: \| json \| (?P<field>\w+)="(?P<value>[^"]*)")?'
)


class Line(NamedTuple):
    """A line, with the labels of its stream."""

    labels: Mapping[str, str]
    metadata: Mapping[str, str]
    at_ns: int
    text: str


def documented_labels() -> set[str]:
    """Return the attributes that the documented settings of Loki make labels of."""
    (text,) = re.findall(r"```yaml\n(limits_config:\n.*?)```", DOCUMENT, re.DOTALL)
    attributes = yaml.safe_load(text)["limits_config"]["otlp_config"]["resource_attributes"]["attributes_config"]
    return {name for one in attributes if one["action"] == "index_label" for name in one["attributes"]}


def documented_queries(**values: str) -> list[str]:
    """Return the queries of docs/OPERATIONS.md with a job's id and trace id."""
    (text,) = re.findall(r"```logql\n(.*?)```", DOCUMENT, re.DOTALL)
    queries = []
    for query in text.splitlines():
        for name, value in values.items():
            query = query.replace(f"<{name}>", value)  # noqa: PLW2901 -- one after the other
        queries.append(query)
    return queries


class Loki:
    """What has been received."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.headers: list[Mapping[str, str]] = []
        self.refuses = False
        self.refusals = 0
        self._labels = documented_labels() | DEFAULT_LABELS
        self._lock = Lock()

    def take(self, body: bytes, headers: Mapping[str, str]) -> None:
        """Keep the lines of a request."""
        request = ExportLogsServiceRequest.FromString(body)
        with self._lock:
            self.headers.append(headers)
            for resource in request.resource_logs:
                attributes = _texts(resource.resource.attributes)
                labels = {name.replace(".", "_"): attributes[name] for name in attributes.keys() & self._labels}
                rest = {name: value for name, value in attributes.items() if name not in self._labels}
                for scope in resource.scope_logs:
                    self.lines += [
                        Line(labels, rest | _texts(one.attributes), one.time_unix_nano, one.body.string_value)
                        for one in scope.log_records
                    ]

    def query(self, logql: str) -> list[str]:
        """Return the lines that a query finds, oldest first."""
        parts = _QUERY.fullmatch(logql)
        assert parts, logql
        selector = dict(re.findall(r'(\w+)="([^"]*)"', parts["selector"]))
        assert selector, logql
        with self._lock:
            selected = [line for line in self.lines if selector.items() <= line.labels.items()]
        found = [line for line in selected if (parts["text"] or "") in line.text]
        if parts["field"]:
            found = [line for line in found if _json(line.text).get(parts["field"]) == parts["value"]]
        return [line.text for line in sorted(found, key=lambda line: line.at_ns)]


def _texts(attributes: Iterator[KeyValue]) -> dict[str, str]:
    return {one.key: one.value.string_value for one in attributes}


def _json(text: str) -> dict[str, object]:
    """Return the fields of a line; none if it is not an object, which Loki's parser marks as an error."""
    try:
        fields = json.loads(text)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


@contextmanager
def listening(host: str = "127.0.0.1", port: int = 0) -> Iterator[tuple[Loki, str]]:
    """Serve a Loki; yields it and the address of its OTLP endpoint."""
    loki = Loki()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            is_taken = self.path == "/otlp/v1/logs" and not loki.refuses
            if is_taken:
                is_packed = self.headers.get("Content-Encoding") == "gzip"
                loki.take(gzip.decompress(body) if is_packed else body, dict(self.headers))
            loki.refusals += not is_taken
            self.send_response(204 if is_taken else 503)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Write nothing."""

    server = ThreadingHTTPServer((host, port), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield loki, f"http://{host}:{server.server_address[1]}/otlp"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
