"""The servers that the command knows: contexts in its configuration file, and the laptop's own stack."""

import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import platformdirs

from client import home
from client.errors import CallError, invalid, writing

LOCAL = "local"
#: a token is renewed this long before it expires
SPARE_SECONDS = 30.0


@dataclass
class Context:
    """One server, and how to sign in to it."""

    url: str
    token: str = ""
    #: when the token expires, in seconds since 1970; 0: unknown
    expires_at: float = 0
    #: set by a sign-in through OpenID Connect, to renew the token
    issuer: str = ""
    client_id: str = ""
    refresh_token: str = ""


@dataclass
class Configuration:
    """The content of the configuration file."""

    contexts: dict[str, Context] = field(default_factory=dict)
    #: the context in use; empty: the laptop's own stack
    current: str = ""
    #: the folder of the local stack that was started last
    last_stack: str = ""


def folder() -> Path:
    """Return the folder of the configuration file: ``STOKER_CONFIG``, else the platform's own."""
    return Path(os.environ.get("STOKER_CONFIG") or platformdirs.user_config_path("stoker", appauthor=False))


def read() -> Configuration:
    """Return the configuration; an empty one if there is no file.

    Raises:
        CallError: the file cannot be read.
    """
    path = folder() / "config.json"
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        known = {name: Context(**values) for name, values in content.get("contexts", {}).items()}
        return Configuration(known, str(content.get("current", "")), str(content.get("last_stack", "")))
    except FileNotFoundError:
        return Configuration()
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise invalid(f"{path} cannot be read ({error}); repair or remove it") from error


def write(configuration: Configuration) -> None:
    """Replace the file atomically; only its owner may read it."""
    folder().mkdir(parents=True, exist_ok=True, mode=0o700)
    part = folder() / "config.part"
    part.unlink(missing_ok=True)
    with (
        writing(folder() / "config.json"),
        os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file,
    ):
        json.dump(asdict(configuration), file, indent=2, sort_keys=True)
    part.replace(folder() / "config.json")


@dataclass
class Server:
    """The server that a command talks to."""

    name: str
    url: str
    token: str
    #: the folder of the local stack, if it is one
    stack: Path | None = None


def select(name: str | None = None) -> Server:
    """Return the server to talk to.

    It is ``STOKER_URL``, else the context of this name or of ``STOKER_CONTEXT``, else the current context, else the
    laptop's own stack.

    Raises:
        CallError: there is no such server, or no token for it.
    """
    if os.environ.get("STOKER_URL"):
        return _of_environment(os.environ["STOKER_URL"].rstrip("/"))
    configuration = read()
    name = name or os.environ.get("STOKER_CONTEXT") or configuration.current or LOCAL
    if name == LOCAL and LOCAL not in configuration.contexts:
        return _local(configuration)
    if name not in configuration.contexts:
        known = ", ".join([*configuration.contexts, LOCAL])
        raise invalid(f"there is no context {name}; use one of {known}, or add a server: stoker login URL")
    return _signed_in(name, configuration)


def _signed_in(name: str, configuration: Configuration) -> Server:
    """Return a context's server; an expired token is renewed if its issuer allows it."""
    context = configuration.contexts[name]
    if context.expires_at and context.expires_at < time.time() + SPARE_SECONDS:
        if not context.refresh_token:
            raise CallError(
                f"the token for {context.url} has expired: stoker login {context.url}",
                {"title": "token expired", "status": 401},
                exit_code=77,
            )
        from client import sign_in  # noqa: PLC0415 -- only an expired token needs it

        sign_in.renew(context)
        write(configuration)
    return Server(name, context.url, context.token)


def _local(configuration: Configuration) -> Server:
    stack = home.find(configuration.last_stack)
    variables = home.read_environment(stack) if stack else {}
    if not stack or not variables.get("STOKER_URL"):
        raise CallError(
            "there is no server yet; start the local stack (./taskw up in Stoker's checkout), or sign in to one: "
            "stoker login URL",
            {"title": "no server"},
        )
    if not variables.get("STOKER_TOKEN"):
        raise invalid(f"the local stack in {stack} is of an older version: run ./taskw down and ./taskw up once")
    token = os.environ.get("STOKER_TOKEN") or variables["STOKER_TOKEN"]
    return Server(LOCAL, variables["STOKER_URL"].rstrip("/"), token, stack)


def _of_environment(url: str) -> Server:
    if not url.startswith(("http://", "https://")):
        raise invalid(f"STOKER_URL is {url}: write it with http:// or https://, such as https://stoker.example.com")
    if os.environ.get("STOKER_TOKEN"):
        return Server("STOKER_URL", url, os.environ["STOKER_TOKEN"])
    configuration = read()
    for name, context in configuration.contexts.items():
        if context.url == url:
            return _signed_in(name, configuration)
    stack = home.find(configuration.last_stack)
    variables = home.read_environment(stack) if stack else {}
    if variables.get("STOKER_URL") == url and variables.get("STOKER_TOKEN"):
        return Server(LOCAL, url, variables["STOKER_TOKEN"], stack)
    raise invalid(f"STOKER_URL is set, STOKER_TOKEN is not: create a token where {url} runs (./taskw token)")
