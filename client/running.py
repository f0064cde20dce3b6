"""Run a command line, and turn every error into one line and an exit code."""

import errno
import io
import os
import sys
from collections.abc import Sequence

import typer

from client import fields
from client.cli import app
from client.errors import FAILED, INTERRUPTED, USAGE, CallError, Json
from client.output import print_error


def main(arguments: Sequence[str]) -> int:
    """Run the command line of this process, and return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a code page of Windows may lack a character
    if sys.platform == "win32":
        import colorama  # noqa: PLC0415 -- only there

        colorama.just_fix_windows_console()
    return run(arguments)


def run(arguments: Sequence[str]) -> int:
    """Run a command, print an error as one line, or as JSON under ``--json``, and return the exit code."""
    as_json = "--json" in arguments
    try:
        code = app(list(arguments), prog_name="stoker", standalone_mode=False)
        sys.stdout.flush()
    except CallError as error:
        print_error(str(error), error.problem, as_json=as_json)
        return error.exit_code
    except typer.TyperException as error:
        return _usage(error, as_json=as_json)
    except (KeyboardInterrupt, typer.Abort):
        if sys.stderr.isatty():
            print(file=sys.stderr)  # below the terminal's ^C
        print_error("interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # as in `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # such as a file that cannot be written
        return _failed(error, as_json=as_json)
    return code if isinstance(code, int) else 0


def _failed(error: OSError, *, as_json: bool) -> int:
    """Print an error of the system; to stderr also under ``--json`` where the output itself cannot be written."""
    is_full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)
    line = f"{what}; make room, and run the command again" if is_full else what
    print_error(line, as_json=as_json and not is_full)
    return FAILED if is_full else USAGE


def _usage(error: typer.TyperException, *, as_json: bool) -> int:
    """Print a usage error as one line, without the box and the usage that click prints."""
    context = getattr(error, "ctx", None)
    option = getattr(error, "option_name", None)
    message = _unknown_option(option, context) if option and context else error.format_message().strip().rstrip(".")
    if not message:  # no command at all: click has printed the help
        return USAGE
    command = context.command_path if context else "stoker"
    line = f"{message[0].lower()}{message[1:]}{' See' if message.endswith('?') else '; see'} {command} --help"
    problem: Json = {"title": "wrong usage", "detail": line}
    print_error(line, problem, as_json=as_json)
    return USAGE


def _unknown_option(option: str, context: typer.Context) -> str:
    """Return the message for an option that a command does not have, with the most similar one."""
    names = {word.lstrip("-").replace("-", "_"): word for each in context.command.params for word in each.opts}
    near = fields.nearest(option.lstrip("-"), names)
    if option in [word for each in context.find_root().command.params for word in each.opts]:
        return f"{option} belongs before the command: stoker {option} … {context.info_name}"
    message = f"there is no option {option}"
    if near:
        return f"{message}; did you mean {names[near]}?"
    is_of_trainer = "set" in names and option.startswith("--")
    return f"{message}; options of the trainer are written --set NAME=VALUE" if is_of_trainer else message
