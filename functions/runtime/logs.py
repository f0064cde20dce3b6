"""Structured logs: one JSON line each in production, readable on a terminal.

Fields are logged by name. Headers, bodies and URLs with a query string are never logged, so that no token is.
"""

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

#: Fields of the current request; every line includes them.
context: ContextVar[Mapping[str, str]] = ContextVar("context", default=MappingProxyType({}))

#: escapes for untrusted control characters, Unicode line breaks and changes of direction
_VISIBLE = {code: f"\\x{code:02x}" for code in (*range(10), *range(11, 32), *range(127, 160))}
_VISIBLE |= {code: f"\\u{code:04x}" for code in (*range(0x2028, 0x202F), *range(0x2066, 0x206A))}
_logger = logging.getLogger("stoker")


def actor() -> str | None:
    """Return who makes the changes of the current request: a token's subject, ``trainer`` or ``sweep``."""
    return context.get().get("actor") or None


def bind(**fields: str) -> None:
    """Add fields to all lines that the current request logs from now on."""
    context.set({**context.get(), **fields})


@contextmanager
def restored_context() -> Iterator[None]:
    """Drop the fields that are bound inside the block, at its end: for a request that handles several jobs in turn."""
    token = context.set(context.get())
    try:
        yield
    finally:
        context.reset(token)


def log(level: int, message: str, *, exc_info: bool = False, **fields: Any) -> None:
    """Log one line; ``fields`` must be safe to show to anyone who reads logs."""
    _logger.log(level, message, exc_info=exc_info, extra={"fields": fields})


class _Line(logging.Formatter):
    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self.as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        fields = {**context.get(), **getattr(record, "fields", {})}
        if record.exc_info:
            fields = fields | {"error": self.formatException(record.exc_info)}
        trace = f"[TRACE:{fields.get('trace_id', '-')}]"
        now = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if self.as_json:
            line = {"at": now, "severity": record.levelname, "message": f"{trace} {record.getMessage()}", **fields}
            return json.dumps(line, default=str)
        rest = " ".join(f"{name}={value}" for name, value in fields.items() if name != "trace_id")
        shown = f"{now} {record.levelname:<7} {trace} {record.getMessage()} {rest}".rstrip().translate(_VISIBLE)
        # A newline in a value must not look like the start of another record.
        return shown.replace("\n", "\n  | ")


def is_started() -> bool:
    """Return whether this process writes log lines anywhere."""
    return _logger.hasHandlers()


def start(log_format: str, level: str) -> None:
    """Send this process's lines to standard error, as ``json`` or ``text``; calling it again changes nothing."""
    if _logger.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Line(as_json=log_format == "json"))
    _logger.addHandler(handler)
    _logger.setLevel(level.upper())
    _logger.propagate = False
