"""The command ``liif``: one file a verb, imported only when that verb is called, so that --help needs no torch."""

from __future__ import annotations

import argparse
import importlib
import sys

from .. import __version__
from ..errors import NO_BASICSR, UserError, nearest

VERBS = {
    "demo": "see everything work: train a small LIIF on real pictures in minutes and draw what it does",
    "upscale": "enlarge pictures, folders of them or parts of them, to any size",
    "view": "look at a picture as a continuous image, in the browser: drag, zoom without end, compare",
    "train": "train a network with BasicSR's trainer",
    "test": "measure a trained network on any sets and scales",
    "models": "list the networks that come with the package and those that can be downloaded",
    "bench": "measure how fast this machine decodes, renders, trains and feeds, against the plain form",
    "compare": "measure any models on any sets and scales under one protocol: one table, one figure",
    "convert": "turn a checkpoint of the authors or of MMagic into one of BasicSR; list and fetch published ones",
    "fit": "fit one sine network to one picture (SIREN) and render it at any size",
    "prepare": "pack a folder of images into an LMDB; `prepare lr` makes LR folders, `prepare celebahq` the CelebA-HQ task",
}
PARTS = {"prepare": ("lr", "celebahq")}  # `liif prepare lr` is the module prepare_lr


class Parser(argparse.ArgumentParser):
    """argparse that names the nearest option for an unknown one."""

    def error(self, message: str):
        if message.startswith("unrecognized arguments: "):
            wrong = message.split(": ", 1)[1].split()[0]
            message += nearest(wrong, self._option_string_actions)
        self.exit(2, f"liif: {message}. See `{self.prog} --help`.\n")


def main(argv: list[str] | None = None) -> None:
    """Run ``liif VERB ...``; exit code 1 with one line for a user's mistake, 2 for a wrong call, 130 for Ctrl-C."""
    argv = sys.argv[1:] if argv is None else argv
    parser = Parser(prog="liif", description="Arbitrary-scale image super-resolution with LIIF on BasicSR.")
    parser.add_argument("--version", action="version", version=f"liif_plugin {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", parser_class=Parser)
    for name, line in VERBS.items():
        verbs.add_parser(name, help=line, add_help=False)
    if not argv or argv[0] not in VERBS:
        if argv and not argv[0].startswith("-"):
            parser.error(f"there is no verb '{argv[0]}'{nearest(argv[0], VERBS)}; there are {', '.join(VERBS)}")
        parser.parse_args(argv or ["--help"])
        return
    verb, rest = argv[0], argv[1:]
    if rest and rest[0] in PARTS.get(verb, ()):
        verb, rest = f"{verb} {rest[0]}", rest[1:]
    module = importlib.import_module(f".{verb.replace(' ', '_')}", __name__)
    verb_parser = Parser(prog=f"liif {verb}", description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    module.add_arguments(verb_parser)
    args = verb_parser.parse_args(rest)
    try:
        importlib.import_module("liif_plugin.register")  # before any verb imports basicsr, which needs its stand-ins
        importlib.import_module("liif_plugin.compat.heap").keep_freed_memory()
        code = module.run(args)
    except UserError as error:
        from ..compat.options import one_line

        sys.exit(f"liif {verb}: {one_line(error)}")
    except ModuleNotFoundError as error:
        if error.name != "basicsr":
            raise
        sys.exit(f"liif {verb}: {NO_BASICSR}")
    except KeyboardInterrupt:
        print(f"\nliif {verb}: stopped. {getattr(module, 'AFTER_INTERRUPT', '')}".rstrip(), file=sys.stderr)
        sys.exit(130)
    sys.exit(code or 0)
