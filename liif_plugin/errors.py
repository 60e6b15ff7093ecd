"""A user's mistake: one sentence that says what was expected, what was found and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

NO_BASICSR = (
    "liif_plugin extends BasicSR, which is not installed here. Python up to 3.12: `pip install basicsr`. "
    "Python 3.13: its source does not build there; see 'Install' in the README of liif_plugin."
)

FEW = 8  # so many names are all listed, even if one of them is close
LONGEST = 3000  # characters of a message; what a data worker adds to one stands before its sentence


class UserError(ValueError):
    """Something the user can mend. The command prints it as one line, no traceback, and exits with code 1.

    The message is one printable line of limited length, whatever a library, a file name or an option puts
    into it.
    """

    def __init__(self, sentence: object):
        line = " ".join(part.strip() for part in str(sentence).splitlines() if part.strip())
        line = line if len(line) <= LONGEST else f"{line[: LONGEST // 4]} ... {line[-LONGEST // 2 :]}"
        super().__init__(printable(line))


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
    """Return the message of ``error``, without the traceback that a data worker puts before it."""
    return str(error).rsplit("UserError: ", 1)[-1].strip()


def nearest(name: object, valid: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` with the valid name closest to ``name``; '' if none is close."""
    match = difflib.get_close_matches(str(name), list(valid), n=1, cutoff=0.6)
    return f" (did you mean '{match[0]}'?)" if match else ""


def choices(name: object, valid: Iterable[str], words: str = "there are") -> str:
    """Say what is valid in place of ``name``: the nearest name, or all if none is close or they are few."""
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
