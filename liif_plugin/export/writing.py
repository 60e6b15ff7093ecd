"""Write a network as a folder: two files, a description for programs and one for people.

Nothing is kept if the result differs from the network.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import shutil
import tempfile
from collections.abc import Callable

import torch
from torch import nn

from ..basicsr_patches.swinir_windows import traceable
from ..errors import UserError
from .check import check
from .describe import description, readme
from .formats import FORMATS, Part, check_installed
from .parts import DecoderPart, EncoderPart, exportable


def names(format: str) -> list[str]:
    """Return the names of the files of an export, encoder and decoder first."""
    suffix = FORMATS[format].suffix
    return [f"encoder{suffix}", f"decoder{suffix}", "export.json", "README.md"]


def check_room(folder: str, format: str, overwrite: bool) -> None:
    """Raise UserError if ``folder`` cannot be the result.

    It is a file, or has one of the files and ``overwrite`` is False, or a package is missing.
    """
    check_installed(format)
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise UserError(f"{folder}: is a file; expected a folder, there or not.")
    there = [name for name in names(format) if os.path.exists(os.path.join(folder, name))]
    if there and not overwrite:
        raise UserError(f"{folder}: has {there[0]} already; choose another folder, or overwrite it.")


@contextlib.contextmanager
def _beside(folder: str):
    """Yield a temporary folder inside ``folder``, so that files can be renamed on a disk of its own.

    It is removed afterwards, and ``folder`` too if it is new and empty.
    """
    new = not os.path.isdir(folder)
    try:
        os.makedirs(folder, exist_ok=True)
        partial = tempfile.mkdtemp(prefix=".liif_export_", dir=folder)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}.") from error
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if new:
            with contextlib.suppress(OSError):
                os.rmdir(folder)


def export(
    net: nn.Module,
    network_g: dict,
    model: str,
    folder: str,
    format: str = "onnx",
    overwrite: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> dict:
    """Write ``net`` as encoder, decoder, export.json and README.md into ``folder``, each file whole.

    Args:
        net: a network for any scale, on the CPU.
        network_g: its options, for the description.
        model: its name, for the description and for messages.
        folder: where the files go; it is made if it is not there.
        format: a name of FORMATS.
        overwrite: replace these four files; others in the folder stay.
        say: is called with a line for each step.

    Returns:
        The contents of export.json.

    Raises:
        UserError: for another network, a missing package, files that are there, an encoder that PyTorch
            cannot export, or a result that differs from the network by more than TOLERANCE.
    """
    checked = exportable(net, f"model {model}")
    check_room(folder, format, overwrite)
    form, own = FORMATS[format], copy.deepcopy(checked).float().eval()
    parts: dict[str, Part] = {"encoder": EncoderPart(own), "decoder": DecoderPart(own)}
    with _beside(folder) as partial:
        paths = [os.path.join(partial, name) for name in names(format)]
        for (name, part), path in zip(parts.items(), paths):
            say(f"{os.path.basename(path)} ...")
            try:
                with traceable(own):
                    form.write(part, path)
            except Exception as error:  # exporters raise of many kinds
                kind = f"{type(net).__name__} with {network_g.get('encoder', {}).get('type', 'its encoder')}"
                first_line = next(iter(str(error).strip().splitlines()), "")
                raise UserError(
                    f"model {model}: PyTorch {torch.__version__} cannot export the {name} of {kind} "
                    f"({type(error).__name__}: {first_line[:200]})."
                ) from error
        say("compared with PyTorch ...")
        differences = check(own, form.run(*paths[:2]), f"model {model}")
        about = description(
            own, network_g, model, format, parts, [os.path.basename(path) for path in paths[:2]], differences
        )
        with open(paths[2], "w", encoding="utf-8") as file:
            json.dump(about, file, indent=1)
        with open(paths[3], "w", encoding="utf-8") as file:
            file.write(readme(about))
        for path in paths:
            os.replace(path, os.path.join(folder, os.path.basename(path)))
    return about
