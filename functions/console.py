"""console: the web console's files, which `./taskw console:build` builds from `console/src`.

The names of all files but the page's contain a hash of their content, so browsers ask only for the page again.
"""

import gzip
import hashlib
import html
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from functions.api.requests import Request
from functions.api.responses import Response
from functions.api.routes import PUBLIC, function, route
from functions.domain.errors import NotFound
from functions.runtime.settings import settings, storage_access

BUILT = Path(__file__).parents[1] / "console" / "built"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_FOREVER = "public, max-age=31536000, immutable"


class _File(NamedTuple):
    """A file as it is sent, and its ETag."""

    plain: bytes
    gzipped: bytes
    media_type: str
    etag: str


@route("GET", "/", access=PUBLIC)
def get_page(request: Request, **_: str) -> Response:
    """Return the page; its script renders the content for the path."""
    issuer, client = settings().sign_in_issuer, settings().sign_in_client_id
    file = _page(_current()["index.html"].plain, issuer, client, settings().sign_in_client_scope if client else "")
    headers = {"cache-control": "no-cache", "content-security-policy": _policy(), **_SAFE}
    return _sent(request, file, headers)


@route("GET", "/assets/{name}", access=PUBLIC)
def get_asset(request: Request, name: str) -> Response:
    """Return a script, style sheet or icon of the page."""
    file = _current().get(f"assets/{name}")
    if file is None:
        raise NotFound("there is no such file; reload the page")  # 404
    return _sent(request, file, {"cache-control": _FOREVER, **_SAFE})


#: the paths of the console's pages, which only its script distinguishes
PAGES = (
    get_page,
    *(
        get_page.at(path)
        for path in ("/jobs/{job_id}", "/compare", "/datasets", "/datasets/{name}", "/new", "/sign-in")
    ),
)

_SAFE = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
}


def _sent(request: Request, file: _File, headers: dict[str, str]) -> Response:
    headers = {**headers, "etag": file.etag, "vary": "accept-encoding"}
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(304, headers=headers)
    headers["content-type"] = file.media_type
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(200, file.gzipped, {**headers, "content-encoding": "gzip"})
    return Response(200, file.plain, headers)


def _policy() -> str:
    """Return the Content-Security-Policy: our own files, images and data from the storage and the tab, the issuer."""
    issuer = _origin(settings().sign_in_issuer) if settings().sign_in_client_id else ""
    storage = _origin(settings().storage_public_endpoint or next(iter(storage_access().values())))
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            " ".join(filter(None, ("connect-src 'self'", storage, issuer))),
            f"img-src 'self' blob: {storage}".rstrip(),
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


def _origin(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}" if parts.scheme in {"http", "https"} and parts.netloc else ""


def _current() -> dict[str, _File]:
    """Return all files by their path, also after a new build; no other file can be requested."""
    return _files((BUILT / "index.html").stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _files(_: int) -> dict[str, _File]:
    return {path.relative_to(BUILT).as_posix(): _read(path) for path in BUILT.rglob("*") if path.is_file()}


def _read(path: Path) -> _File:
    return _file(path.read_bytes(), _TYPES[path.suffix])


def _file(content: bytes, media_type: str) -> _File:
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    return _File(content, gzip.compress(content, mtime=0), media_type, etag)


@lru_cache(maxsize=1)
def _page(content: bytes, issuer: str, client_id: str, client_scope: str) -> _File:
    """Return the page with the issuer at which its users can sign in, if there is one."""
    if client_id:
        values = {"data-issuer": issuer, "data-client-id": client_id, "data-client-scope": client_scope}
        attributes = "".join(f' {name}="{html.escape(value)}"' for name, value in values.items())
        content = content.replace(b"<html", f"<html{attributes}".encode(), 1)
    return _file(content, _TYPES[".html"])


console = function("console", *PAGES, get_asset)
