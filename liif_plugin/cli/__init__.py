"""The command ``liif``: one module per subcommand, imported when it is called: --help needs no torch."""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import os
import re
import signal
import sys
import threading
import types
from collections.abc import Iterator

from .. import __version__
from ..errors import DEBUG, NO_BASICSR, NotRegisteredError, UserError, nearest, printable, unexpected_message

COMMANDS = {
    "demo": "train and measure a small LIIF on pictures of scikit-image, in minutes",
    "upscale": "enlarge pictures, folders or parts of pictures to any size",
    "view": "look at a picture in the browser: drag, zoom, compare with bicubic",
    "train": "train a network with BasicSR's trainer",
    "test": "measure one network on several sets and scales",
    "models": "list the networks that come with the package or can be downloaded",
    "compare": "measure several networks on several sets and scales: a table and a figure",
    "convert": "convert weights of the authors or of MMagic to BasicSR's format; download them",
    "export": "write a network as ONNX or .pt2 files, which run without this package",
    "fit": "fit SIREN, a network with sine functions, to one picture",
    "prepare": "pack a folder of images into an LMDB; `prepare lr`: make LR images",
}
PARTS = {"prepare": ("lr", "celebahq")}  # `liif prepare lr` is the module prepare_lr
IMPORTERS = ("train", "test", "compare", "upscale", "view", "export")  # they build what may be the user's own
EPILOG = f"`liif --debug COMMAND ...` or the variable {DEBUG}=1 shows tracebacks of unexpected errors."


def _number_expected(found: re.Match) -> str:
    name, kind, value = found.groups()
    return f"{name} {value}: expected a {'whole number' if kind == 'int' else 'number'}"


class Parser(argparse.ArgumentParser):
    """An argument parser that names the nearest option for an unknown one."""

    def error(self, message: str):
        if message.startswith("unrecognized arguments: "):
            wrong = message.split(": ", 1)[1].split()[0]
            message += nearest(wrong, self._option_string_actions)
        message = re.sub(r"argument (\S+): invalid (int|float) value: '(.*)'", _number_expected, message)
        message = re.sub(r"^argument (\S+: expected)", r"\1", message)
        # As newer Pythons write it
        message = re.sub(r"\(choose from .*\)", lambda found: found[0].replace("'", ""), message)
        self.exit(2, f"liif: {printable(message)}. See `{self.prog} --help`.\n")

    def with_flag(self, message: str) -> str:
        """Return a message of the library with the argument that it begins with written as an option.

        'window: expected ...' becomes '--window: expected ...' where the subcommand has that option.
        """
        argument = re.match(r"(\w+)[: ]", message)
        is_option = argument and f"--{argument[1]}" in self._option_string_actions
        return f"--{message}" if is_option else message


def parser_of(command: str) -> tuple[types.ModuleType, Parser]:
    """Return the module of ``command``, such as 'train' or 'prepare lr', and the parser of its arguments."""
    module = importlib.import_module(f".{command.replace(' ', '_')}", __name__)
    parser = Parser(
        prog=f"liif {command}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    parser.set_defaults(parser=parser)
    if command in IMPORTERS:
        parser.add_argument(
            "--import",
            dest="own",
            action="append",
            default=[],
            metavar="MODULE",
            help="your own Python module that registers networks, datasets or metrics; may be repeated",
        )
    return module, parser


def import_own(modules: list[str]) -> None:
    """Import the user's modules, which register their classes; search the current folder first.

    An error inside such a module keeps its traceback.

    Raises:
        UserError: there is no such module.
    """
    if modules and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    for name in modules:
        missing = UserError(
            f"--import {name}: there is no such module; expected PACKAGE.MODULE,"
            f" or NAME for a NAME.py in {os.getcwd()}."
        )
        if name[:1] in ("", "."):
            raise missing
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise  # the module exists; one that it imports is missing
            raise missing from None


class Terminated(KeyboardInterrupt):
    """Raised at SIGTERM; what cleans up after Ctrl-C cleans up after this too."""


@contextlib.contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C, so that no half-written file stays; a second one ends the process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number, frame):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise Terminated

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _split_command(argv: list[str]) -> tuple[str, list[str]]:
    """Return the subcommand of ``argv``, such as 'train' or 'prepare lr', and its arguments."""
    parser = Parser(
        prog="liif",
        description="Arbitrary-scale image super-resolution with LIIF on BasicSR.",
        epilog=EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"liif_plugin {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an unexpected error")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for name, line in COMMANDS.items():
        commands.add_parser(name, help=line, add_help=False)
    if argv[:1] == ["--debug"]:
        os.environ[DEBUG] = "1"  # the processes that this one starts see it too
        argv = argv[1:]
    if not argv or argv[0] not in COMMANDS:
        if argv and not argv[0].startswith("-"):
            parser.error(
                f"there is no subcommand '{argv[0]}'{nearest(argv[0], COMMANDS)};"
                f" there are {', '.join(COMMANDS)}"
            )
        parser.parse_args(argv or ["--help"])
        return "", []
    command, rest = argv[0], argv[1:]
    if rest and rest[0] in PARTS.get(command, ()):
        command, rest = f"{command} {rest[0]}", rest[1:]
    return command, rest


def _discard_output() -> None:
    """Discard the rest of standard output; else Python would flush it at exit and fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def main(argv: list[str] | None = None) -> None:
    """Run ``liif COMMAND ...`` and exit.

    The exit code is 0 for success, 1 with one line for an error, 2 for wrong arguments, 130 for Ctrl-C, 143
    for SIGTERM. An error that is no UserError keeps its traceback under ``liif --debug`` and LIIF_DEBUG=1.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a file name that is not text ends nothing
    command, rest = _split_command(sys.argv[1:] if argv is None else argv)
    if not command:
        return
    module, parser = parser_of(command)
    args = parser.parse_args(rest)
    own_modules = getattr(args, "own", [])
    importing = False
    try:
        # training saves a state at SIGTERM first
        with contextlib.nullcontext() if command == "train" else _sigterm_as_interrupt():
            # before any subcommand imports basicsr, which needs the stand-ins
            importlib.import_module("liif_plugin.register")
            importlib.import_module("liif_plugin.inference.memory").keep_freed_memory()
            importing = True
            import_own(own_modules)
            importing = False
            code = module.run(args)
            sys.stdout.flush()  # while an error of the disk can still be reported
    except UserError as error:
        from ..distributed import exit_message

        own = isinstance(error, NotRegisteredError) and command in IMPORTERS
        hint = " If it is a class of your own, add `--import MODULE`." if own else ""
        sys.exit(f"liif {command}: {parser.with_flag(exit_message(error) or '')}{hint}")
    except BrokenPipeError:
        if command == "train":  # that of a data worker would look the same
            raise
        _discard_output()  # `liif models | head`: nobody reads on
        sys.exit(141)
    except KeyboardInterrupt as stop:
        after = getattr(module, "AFTER_INTERRUPT", "")
        print(f"\nliif {command}: stopped. {after}".rstrip(), file=sys.stderr)
        sys.exit(143 if isinstance(stop, Terminated) else 130)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "basicsr":
            sys.exit(f"liif {command}: {NO_BASICSR}")
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            # atomic_write raises UserError for files: this is standard output on a full disk
            _discard_output()
            full = error.filename or "standard output"
            sys.exit(f"liif {command}: {full} cannot be written ({error.strerror}); make room.")
        if importing:  # an error inside the user's own module
            raise
        from ..distributed import exit_message

        message = exit_message(error) or unexpected_message(error)
        if message is None:
            raise
        sys.exit(f"liif {command}: {message}")
    sys.exit(code or 0)
