"""Counting the cases of a fuzz, and what a refusal must look like."""

FUZZED: dict[str, int] = {}  # what was damaged -> cases


def fuzzed(what: str, cases: int) -> None:
    """Count cases of a fuzz; pytest says the sum at the end."""
    FUZZED[what] = FUZZED.get(what, 0) + cases


def refused(work, *names: str):
    """What ``work()`` returns, or the message with which it was refused: one printable line that names one
    of ``names``.

    Any other exception than UserError goes through, and so fails the test.
    """
    from liif_plugin.errors import UserError

    try:
        return work()
    except UserError as error:
        message = str(error)
        assert message and message.isprintable() and len(message) < 4000, message
        assert not names or any(name in message for name in names), f"{names} are not in: {message}"
        return error
