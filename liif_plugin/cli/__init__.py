"""The command ``liif``: one file a verb, imported only when that verb is called, so that --help needs no torch."""

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
from ..errors import NO_BASICSR, UserError, nearest

VERBS = {
    "demo": "see everything work: train a small LIIF on real pictures in minutes and draw what it does",
    "upscale": "enlarge pictures, folders of them or parts of them, to any size",
    "view": "look at a picture as a continuous image, in the browser: drag, zoom without end, compare",
    "train": "train a network with BasicSR's trainer",
    "test": "measure a trained network on any sets and scales",
    "models": "list the networks that come with the package and those that can be downloaded",
    "compare": "measure any models on any sets and scales under one protocol: one table, one figure",
    "convert": "turn a checkpoint of the authors or of MMagic into one of BasicSR; list and fetch published ones",
    "export": "write a network as two files that run without this package: ONNX or torch.export",
    "fit": "fit one sine network to one picture (SIREN) and render it at any size",
    "prepare": "pack a folder of images into an LMDB; `prepare lr` makes LR folders, `prepare celebahq` the CelebA-HQ task",
}
PARTS = {"prepare": ("lr", "celebahq")}  # `liif prepare lr` is the module prepare_lr
IMPORTERS = (
    "train",
    "test",
    "compare",
    "upscale",
    "view",
    "export",
)  # these build what may be the user's own


def _number_expected(found: re.Match) -> str:
    name, kind, value = found.groups()
    return f"{name} {value}: expected a {'whole number' if kind == 'int' else 'number'}"


class Parser(argparse.ArgumentParser):
    """argparse that names the nearest option for an unknown one, and says what a number is."""

    def error(self, message: str):
        if message.startswith("unrecognized arguments: "):
            wrong = message.split(": ", 1)[1].split()[0]
            message += nearest(wrong, self._option_string_actions)
        message = re.sub(r"argument (\S+): invalid (int|float) value: '(.*)'", _number_expected, message)
        message = re.sub(
            r"\(choose from .*\)", lambda found: found[0].replace("'", ""), message
        )  # as newer Pythons write it
        self.exit(2, f"liif: {message}. See `{self.prog} --help`.\n")


def parser_of(verb: str) -> tuple[types.ModuleType, Parser]:
    """The module of ``verb``, such as 'train' or 'prepare lr', and the parser of its arguments."""
    module = importlib.import_module(f".{verb.replace(' ', '_')}", __name__)
    parser = Parser(
        prog=f"liif {verb}", description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    module.add_arguments(parser)
    if verb in IMPORTERS:
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
    """Import the user's modules, which register what they hold; first looked for in the current folder, as `python -m` does.

    What fails inside them is theirs and keeps its traceback.

    Raises:
        UserError: where there is no such module.
    """
    if modules and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    for name in modules:
        missing = UserError(
            f"--import {name}: there is no such module; expected PACKAGE.MODULE, or NAME for a NAME.py in {os.getcwd()}."
        )
        if name[:1] in ("", "."):
            raise missing
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise  # the module is there and asks for another one, which is not
            raise missing from None


class Terminated(KeyboardInterrupt):
    """SIGTERM came: whatever cleans up after Ctrl-C cleans up after this too."""


@contextlib.contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """A batch system's SIGTERM unwinds like Ctrl-C, so that no half file stays; a second one ends the process at once."""
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


def main(argv: list[str] | None = None) -> None:
    """Run ``liif VERB ...``; exit code 1 with one line for a user's mistake, 2 for a wrong call, 130 for Ctrl-C, 143 for SIGTERM."""
    argv = sys.argv[1:] if argv is None else argv
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a file name that cannot be said ends nothing
    parser = Parser(prog="liif", description="Arbitrary-scale image super-resolution with LIIF on BasicSR.")
    parser.add_argument("--version", action="version", version=f"liif_plugin {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", parser_class=Parser)
    for name, line in VERBS.items():
        verbs.add_parser(name, help=line, add_help=False)
    if not argv or argv[0] not in VERBS:
        if argv and not argv[0].startswith("-"):
            parser.error(
                f"there is no verb '{argv[0]}'{nearest(argv[0], VERBS)}; there are {', '.join(VERBS)}"
            )
        parser.parse_args(argv or ["--help"])
        return
    verb, rest = argv[0], argv[1:]
    if rest and rest[0] in PARTS.get(verb, ()):
        verb, rest = f"{verb} {rest[0]}", rest[1:]
    module, verb_parser = parser_of(verb)
    args = verb_parser.parse_args(rest)
    try:
        with (
            contextlib.nullcontext() if verb == "train" else _sigterm_as_interrupt()
        ):  # training saves a state first
            importlib.import_module(
                "liif_plugin.register"
            )  # before any verb imports basicsr, which needs its stand-ins
            importlib.import_module("liif_plugin.inference.heap").keep_freed_memory()
            import_own(getattr(args, "own", []))
            code = module.run(args)
            sys.stdout.flush()  # here, so that a full disk behind standard output is noticed below
    except UserError as error:
        from ..distributed import exit_message

        sys.exit(f"liif {verb}: {exit_message(error)}")
    except ModuleNotFoundError as error:
        if error.name != "basicsr":
            raise
        sys.exit(f"liif {verb}: {NO_BASICSR}")
    except BrokenPipeError:
        if verb == "train":  # that of a data worker would look the same
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # `liif models | head`: nobody reads on
        sys.exit(141)
    except OSError as error:
        # Files are written by atomic_write, which raises UserError: this is standard output on a full disk.
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or error.filename is not None:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is still waiting cannot be printed at exit either
        sys.exit(f"liif {verb}: standard output cannot be written ({error.strerror}); make room.")
    except KeyboardInterrupt as stop:
        print(f"\nliif {verb}: stopped. {getattr(module, 'AFTER_INTERRUPT', '')}".rstrip(), file=sys.stderr)
        sys.exit(143 if isinstance(stop, Terminated) else 130)
    sys.exit(code or 0)
