"""The HTTP server of a function: functions-framework's application under uvicorn, in one process.

functions-framework's own command starts gunicorn, whose worker is a second process, and has no options for limits.
"""

import gc
import logging
import math
import os
import signal
import sys
from pathlib import Path

import functions_framework.aio
import uvicorn
from anyio import to_thread
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from functions.api.limits import REQUEST_SECONDS, Limits
from functions.domain.errors import ConfigurationError
from functions.runtime import logs
from functions.runtime.configuration import check
from functions.runtime.settings import allowed_origins, settings

_FUNCTIONS = Path(__file__).parents[1]
#: the time that requests in progress have after SIGTERM
GRACE_SECONDS = 25


def main() -> None:
    """Serve the function FUNCTION_TARGET at HOST and PORT, with THREADS threads, until SIGTERM."""
    # uvicorn raises the signal again after its shutdown.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        served = app()
    except ConfigurationError as error:
        print(f"misconfigured: {error}", file=sys.stderr)  # noqa: T201 -- LOG_FORMAT itself may be wrong
        sys.exit(os.EX_CONFIG)
    config = uvicorn.Config(
        served,
        host=os.environ.get("HOST", "0.0.0.0"),  # noqa: S104 -- a container's only address
        port=int(os.environ.get("PORT", "8080")),
        http="httptools",
        loop="functions.api.limits:Loop",
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        log_level=logging.ERROR,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=1024,
        timeout_keep_alive=math.ceil(REQUEST_SECONDS),
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    try:
        uvicorn.Server(config).run()
    except SystemExit as end:
        os._exit(int(end.code or 0))  # a normal exit would wait for threads that are still running


def app() -> ASGIApp:
    """Check the settings, and return the application of the function FUNCTION_TARGET.

    Raises:
        ConfigurationError: a setting or a secret cannot be used.
    """
    check()
    logs.start(settings().log_format, settings().log_level)
    logging.getLogger("uvicorn").handlers = logging.getLogger("stoker").handlers
    # Imported objects are never garbage; collecting them takes a tenth of a cold start.
    gc.disable()
    result = application(os.environ["FUNCTION_TARGET"])
    gc.freeze()
    gc.enable()
    return result


def application(target: str) -> ASGIApp:
    """Return a function's application with the limits for clients."""
    source = _FUNCTIONS / f"{target}.py"
    framework = functions_framework.aio.create_asgi_app(target, source, "http")  # type: ignore[no-untyped-call]
    for route in framework.routes:
        route.methods = None  # all of them, such as TRACE: the function refuses each that its paths do not take
    return _Lifespan(Limits(_with_cors(framework)))


def _with_cors(framework: ASGIApp) -> ASGIApp:
    """Return an application that pages of CORS_ORIGINS may call; callers send a token, never a cookie."""
    origins = allowed_origins()
    if not origins:
        return framework
    from starlette.middleware.cors import CORSMiddleware  # noqa: PLC0415 -- only where it is used

    return CORSMiddleware(
        framework,
        allow_origins=origins,
        allow_methods=["GET", "POST", "PATCH", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "If-None-Match"],
        expose_headers=["ETag", "Location", "Retry-After", "Log-Next-Offset", "Log-Attempt", "Log-Complete"],
        max_age=3600,
    )


class _Lifespan:
    """ASGI middleware that sets the size of the event loop's thread pool at startup."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def starting(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                threads = int(os.environ.get("THREADS", 4 * (os.cpu_count() or 1)))
                to_thread.current_default_thread_limiter().total_tokens = threads
            await send(message)

        await self._app(scope, receive, starting if scope["type"] == "lifespan" else send)


if __name__ == "__main__":
    main()
