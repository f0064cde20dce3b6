"""The commands for servers: login, contexts, env, open, completion."""

import os
import sys
from enum import StrEnum
from typing import Annotated
from urllib.parse import urlsplit

import typer

from client import browser, contexts, home, references
from client.api import Api, call, connect, http
from client.contexts import LOCAL, Context
from client.errors import CallError, invalid
from client.options import AsJson
from client.output import Column, note, print_json, print_table


class Shell(StrEnum):
    """The shells that `stoker env` and `stoker completion` write for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"
    POWERSHELL = "powershell"


def login(
    url: Annotated[str, typer.Argument(metavar="URL", help="The server's address.", show_default=False)],
    *,
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="The context's name; by default the server's host.")
    ] = "",
    token: Annotated[
        str,
        typer.Option("--token", metavar="TOKEN", help="An API token; - reads it from the input.", show_default=False),
    ] = "",
    issuer: Annotated[
        str, typer.Option(metavar="URL", help="Sign in with a browser at this OpenID Connect issuer.")
    ] = "",
    client_id: Annotated[str, typer.Option(metavar="ID", help="The client id at the issuer.")] = "stoker",
    scope: Annotated[
        str, typer.Option(metavar="TEXT", help="The scopes to ask the issuer for.")
    ] = "openid offline_access",
) -> None:
    """Sign in to a server, with a token or a browser.

    stoker login https://stoker.example.com --issuer https://login.example.com
    """
    parts = urlsplit(url if "//" in url else f"https://{url}")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise invalid(f"{url}: write the server's address, such as https://stoker.example.com")
    address = f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/")
    if issuer:
        from client import sign_in  # noqa: PLC0415 -- only a sign-in needs it

        context = sign_in.with_browser(address, issuer, client_id, scope)
    else:
        context = Context(address, _token(token))
    call(Api(address, context.token), "GET", "/v1/jobs", query={"limit": 1})
    configuration = contexts.read()
    name = name or parts.hostname
    configuration.contexts[name] = context
    configuration.current = name
    contexts.write(configuration)
    print(f"signed in to {address}; it is the context {name}, which all commands use from now on")


def _token(option: str) -> str:
    if option and option != "-":
        return option
    if option == "-" or not sys.stdin.isatty():
        text = sys.stdin.readline().strip()
    else:
        text = str(typer.prompt("API token", hide_input=True)).strip()
    if not text:
        raise invalid("there is no token; create one where the server runs (./taskw token), or use --issuer")
    return text


contexts_app = typer.Typer(help="List, choose and forget servers.", invoke_without_command=True)


@contexts_app.callback()
def list_contexts(ctx: typer.Context, *, as_json: AsJson = False) -> None:
    """List the servers; * marks the one in use."""
    if ctx.invoked_subcommand:
        return
    configuration = contexts.read()
    current = os.environ.get("STOKER_CONTEXT") or configuration.current or LOCAL
    rows = {name: context.url for name, context in configuration.contexts.items()}
    stack = home.find(configuration.last_stack)
    if stack:
        rows.setdefault(LOCAL, f"{home.read_environment(stack).get('STOKER_URL', '')} ({stack})")
    if as_json:
        print_json({"current": current, "contexts": rows})
        return
    if os.environ.get("STOKER_URL"):
        note(f"STOKER_URL is set: every command uses {os.environ['STOKER_URL']}")
    if not rows:
        print("no servers yet; start the local stack (./taskw up in Stoker's checkout), or: stoker login URL")
        return
    columns = (Column("USED"), Column("NAME"), Column("ADDRESS", is_flexible=True))
    print_table(columns, [["*" if name == current else "", name, url] for name, url in rows.items()])


@contexts_app.command("use")
def use_context(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A context, or local.", show_default=False)],
) -> None:
    """Use a server from now on; `local` is the laptop's own stack."""
    configuration = contexts.read()
    if name != LOCAL and name not in configuration.contexts:
        raise invalid(f"there is no context {name}; use one of {', '.join([*configuration.contexts, LOCAL])}")
    configuration.current = name
    contexts.write(configuration)
    print(f"all commands use {name} from now on")


@contexts_app.command("rm")
def remove_context(name: Annotated[str, typer.Argument(metavar="NAME", help="A context.", show_default=False)]) -> None:
    """Forget a server and its token."""
    configuration = contexts.read()
    if configuration.contexts.pop(name, None) is None:
        raise invalid(f"there is no context {name}; stoker contexts lists them")
    configuration.current = "" if configuration.current == name else configuration.current
    contexts.write(configuration)
    print(f"context {name} is forgotten")


def env(
    *,
    shell: Annotated[Shell, typer.Option(help="The shell to write for.")] = Shell.BASH,
    as_json: AsJson = False,
) -> None:
    """Print variables for curl and S3 clients.

    eval "$(stoker env)"
    """
    server = contexts.select()
    values = {"STOKER_URL": server.url, "STOKER_TOKEN": server.token}
    if server.stack:
        local = home.read_environment(server.stack)
        values |= {
            "STOKER_BUCKET": local["STORAGE_BUCKET"],
            "AWS_ENDPOINT_URL": local["MINIO_ENDPOINT"],
            "AWS_ACCESS_KEY_ID": local["MINIO_ACCESS_KEY"],
            "AWS_SECRET_ACCESS_KEY": local["MINIO_SECRET_KEY"],
            "AWS_DEFAULT_REGION": "us-east-1",
        }
    if as_json:
        print_json(values)
        return
    for name, value in values.items():
        print(_export(shell, name, value))


def _export(shell: Shell, name: str, value: str) -> str:
    if shell is Shell.POWERSHELL:
        return f"$Env:{name} = '{value.replace(chr(39), chr(39) * 2)}'"
    from shlex import quote  # noqa: PLC0415

    return f"set -gx {name} {quote(value)}" if shell is Shell.FISH else f"export {name}={quote(value)}"


def open_console(
    job: Annotated[str, typer.Argument(metavar="JOB", help="A job to show.", show_default=False)] = "",
    *,
    print_only: Annotated[bool, typer.Option("--print", help="Print the address only.")] = False,
) -> None:
    """Open the web console; that of the local stack is opened signed in."""
    api = connect()
    page = f"jobs/{references.job_id(api, job)}" if job else ""
    response = http().get(f"{api.url}/", headers={"Accept": "text/html"})
    if not response.is_success or "text/html" not in response.headers.get("Content-Type", ""):
        raise CallError(f"{api.url} has no web console; stoker jobs and stoker watch show the same in the terminal")
    address = f"{api.url}/{page}"
    is_local = api.server is not None and api.server.stack is not None
    # Browsers never send the fragment; the console moves the token out of it.
    signed_in = f"{address}#token={api.token}" if is_local else address
    if print_only or browser.show(signed_in):
        print(address)
    else:
        print(signed_in)
        note("there is no browser here: open this address in one" + (", which is then signed in" if is_local else ""))


def completion(
    shell: Annotated[Shell, typer.Argument(help="The shell.")] = Shell.BASH,
) -> None:
    """Print the script that completes commands in a shell.

    stoker completion bash > ~/.local/share/bash-completion/completions/stoker
    """
    from client.cli import app  # noqa: PLC0415 -- it imports this module

    os.environ["_STOKER_COMPLETE"] = f"source_{shell}"  # typer then prints the script in place of running a command
    app([], prog_name="stoker")
