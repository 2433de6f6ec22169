"""Names out of a checkpoint in messages: the first few, and nothing that a terminal would take for a command."""

from collections.abc import Iterable

MAX_LISTED = 3
MAX_LENGTH = 200  # characters


def listed(names: Iterable[str]) -> str:
    """The first three of `names`, and dots where there are more."""
    found = list(names)
    return ", ".join([*map(printable, found[:MAX_LISTED]), *(["..."] if len(found) > MAX_LISTED else [])])


def printable(text: str) -> str:
    """`text` itself where it is short and can be printed, else as Python writes it, and cut."""
    short = text if len(text) <= MAX_LENGTH else f"{text[:MAX_LENGTH]}..."
    return short if short.isprintable() else ascii(short)
