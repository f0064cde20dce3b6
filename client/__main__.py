"""The command `stoker` (also ``python -m client``)."""

import sys

_INTERRUPTED = 130


def main() -> None:
    """Run the command line of this process, and exit; Ctrl-C ends it silently, even while modules are loading."""
    try:
        from client import running  # noqa: PLC0415 -- a tenth of a second, in which users press Ctrl-C, too

        code = running.main(sys.argv[1:])
    except KeyboardInterrupt:
        code = _INTERRUPTED
    sys.exit(code)


if __name__ == "__main__":
    main()
