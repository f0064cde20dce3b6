"""The server of a function, in the image and on a laptop: functions-framework's application under uvicorn, one process.

functions-framework's own command would start gunicorn, whose worker is a second process, and has no option for limits.
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
from functions.runtime.settings import check, settings

_FUNCTIONS = Path(__file__).parents[1]
#: after SIGTERM, requests in progress may end within this time
GRACE_SECONDS = 25


def main() -> None:
    """Serve the function FUNCTION_TARGET at HOST and PORT, with THREADS threads, until SIGTERM."""
    # The server raises the signal that ended it again, once it has shut down.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        served = app()
    except ConfigurationError as error:
        print(f"misconfigured: {error}", file=sys.stderr)  # noqa: T201 -- the log's own setting may be wrong
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
        os._exit(int(end.code or 0))  # a thread that still runs had its time, and would be waited for without end


def app() -> ASGIApp:
    """Return the application of the function FUNCTION_TARGET, once what it needs is known to be usable.

    Raises:
        ConfigurationError: a setting or a secret cannot be used.
    """
    check()
    logs.start(settings().log_format)
    logging.getLogger("uvicorn").handlers = logging.getLogger("stoker").handlers
    # What is imported stays: looking through it for garbage, again and again, is a tenth of a cold start.
    gc.disable()
    made = application(os.environ["FUNCTION_TARGET"])
    gc.freeze()
    gc.enable()
    return made


def application(target: str) -> ASGIApp:
    """Return a function's application as it is served: functions-framework's, behind the limits."""
    source = _FUNCTIONS / f"{target}.py"
    framework = functions_framework.aio.create_asgi_app(target, source, "http")  # type: ignore[no-untyped-call]
    return _Lifespan(Limits(framework))


class _Lifespan:
    """ASGI middleware: at the start, the event loop's thread pool gets its size."""

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
