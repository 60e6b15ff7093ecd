"""How errors end a program: a user's mistake, and anything else, as one sentence."""

from __future__ import annotations

import difflib
import os
import traceback
from collections.abc import Iterable

NO_BASICSR = (
    "liif_plugin extends BasicSR, which is not installed here. Python up to 3.12: `pip install basicsr`. "
    "Python 3.13: its source does not build there; see docs/install.md of liif_plugin."
)

FEW = 8  # a list of valid names up to this length is printed in full
LONGEST = 3000  # characters of a message; a data worker puts its traceback before its sentence
DEBUG = "LIIF_DEBUG"  # environment variable: if set, an unexpected error shows its traceback


class UserError(ValueError):
    """A mistake that the user can correct.

    The command line prints it as one line without a traceback and exits with code 1. The message is one
    printable line of about ``LONGEST`` characters at most, whatever a library, a file name or an option puts
    into it.
    """

    def __init__(self, sentence: object):
        line = " ".join(part.strip() for part in str(sentence).splitlines() if part.strip())
        line = line if len(line) <= LONGEST else f"{line[: LONGEST // 4]} ... {line[-LONGEST // 2 :]}"
        super().__init__(printable(line))


class NotRegisteredError(UserError):
    """A name that no imported module has put into a registry of BasicSR."""


def printable(text: object) -> str:
    r"""Return ``text`` with every control character and every undecodable byte written out.

    A file name may hold control sequences that would change the title or the colours of a terminal. Every
    name that is printed goes through this function.

    Example:
        >>> printable("a\x1b[31m.png")
        'a\\x1b[31m.png'
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))


def one_line(error: UserError) -> str:
    """Return the sentence of ``error``; if a data worker raised it, without the worker's traceback."""
    return str(error).rsplit("UserError: ", 1)[-1].strip()


def unexpected_message(error: Exception) -> str | None:
    """Return one sentence for an error that is no UserError, or None if LIIF_DEBUG=1 asks for its traceback.

    The sentence has the type, the first line and the place of the error.
    """
    if os.environ.get(DEBUG, "0") != "0":
        return None
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({os.path.basename(frames[-1].filename)}, line {frames[-1].lineno})" if frames else ""
    first_line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    what = f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__
    advice = f"This is not expected; set {DEBUG}=1, or write `liif --debug ...`, to see the traceback."
    return str(UserError(f"{what[:500]}{place}. {advice}"))


def nearest(name: object, valid: Iterable[str]) -> str:
    """Return " (did you mean 'x'?)" for the valid name closest to ``name``, or "" if none is close."""
    match = difflib.get_close_matches(str(name), list(valid), n=1, cutoff=0.6)
    return f" (did you mean '{match[0]}'?)" if match else ""


def choices(name: object, valid: Iterable[str], words: str = "there are") -> str:
    """Return the nearest valid name as ``nearest`` does; all valid names if none is close or they are few."""
    valid = sorted(valid)
    near = nearest(name, valid)
    return near if near and len(valid) > FEW else f"{near}; {words} {', '.join(valid)}"


def check_keys(where: str, given: Iterable[str], valid: Iterable[str]) -> None:
    """Raise UserError for the first of ``given`` that is not in ``valid``, with the nearest valid name."""
    valid = list(valid)
    for key in given:
        if key not in valid:
            raise UserError(f"{where}: unknown option '{key}'{choices(key, valid, 'valid are')}.")


def check_choice(where: str, value: object, valid: Iterable[object]) -> None:
    """Raise UserError unless ``value`` is one of ``valid``."""
    valid = list(valid)
    if value not in valid:
        names = [str(v) for v in valid]
        raise UserError(f"{where}: expected one of {', '.join(names)}, got '{value}'{nearest(value, names)}.")
