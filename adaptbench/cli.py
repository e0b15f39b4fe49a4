"""Parses the command line and runs a command. `python -m adaptbench --help` imports nothing heavy."""

import argparse
import contextlib
import importlib
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from adaptbench.commands import COMMANDS, Command
from adaptbench.errors import AdaptbenchError, user_message


def main(arguments: Sequence[str] | None = None, commands: Mapping[str, Command] = COMMANDS) -> int:
    """Run one command and return its exit status; an error that the user can fix is one line on standard error."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = vars(_parser(commands, arguments).parse_args(arguments))
    log, function = options.pop("log"), options.pop("function")
    try:
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
            sys.stderr = _Tee(sys.stderr, log.open("w"))
        if text := import_function(function)(**options):
            print(text)
    except AdaptbenchError as error:
        from adaptbench.errors import Interrupted

        return _fail(str(error), 130 if isinstance(error, Interrupted) else 1)
    except KeyboardInterrupt:
        return _fail("interrupted; run again to go on", 130)
    except Exception as error:
        message = user_message(error, options.get("out", "the output"))
        if not message:
            raise
        return _fail(message, 1)
    return 0


def _fail(message: str, status: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return status


def _parser(commands: Mapping[str, Command], named: Collection[str]) -> argparse.ArgumentParser:
    """Return the parser. Only commands in `named` get their arguments, because some import much to define them."""
    parser = argparse.ArgumentParser(prog="adaptbench", description="Jobs of the adaptbench graph.")
    parser.add_argument("--log", type=Path, help="also write standard error to this file")
    parsers = parser.add_subparsers(required=True, metavar="command")
    for name, command in commands.items():
        sub = parsers.add_parser(name, help=command.help, description=command.help)
        sub.set_defaults(function=command.function)
        if name in named:
            for argument, options in command.arguments.items():
                sub.add_argument(argument, **options)
            if command.more:
                import_function(command.more)(sub)
    return parser


def import_function(function: str) -> Callable[..., Any]:
    """Import and return the function that "module:name" names."""
    module, _, name = function.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


class _Tee:
    """Standard error that is also written to a file. Without a terminal, progress bars are left out of both."""

    def __init__(self, terminal: TextIO, file: TextIO) -> None:
        self.terminal, self.file = terminal, file
        self.in_bar = False

    def write(self, text: str) -> int:
        if not self.terminal.isatty():
            # A progress bar redraws its line from the start and ends with a line break.
            ends_bar = self.in_bar and not text.strip()
            self.in_bar = text.startswith("\r")
            if self.in_bar or ends_bar:
                return len(text)
        written = self.terminal.write(text)
        with contextlib.suppress(OSError):  # if the disk is full, the terminal still shows the text
            self.file.write(text)
            self.file.flush()
        return written

    def flush(self) -> None:
        self.terminal.flush()

    def __getattr__(self, name: str):
        return getattr(self.terminal, name)
