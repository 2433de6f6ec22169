"""Text, split into sentences that are short enough to be synthesized one by one."""

import re
import unicodedata
from collections.abc import Iterator

MAX_SENTENCE_CHARACTERS = 200
MIN_CLAUSE_CHARACTERS = 50  # of a sentence that is split, before its comma
TITLES = {"mr", "mrs", "ms", "dr", "prof", "st", "vs", "e.g", "i.e"}  # after which a full stop ends no sentence
_END = re.compile(r"[.!?\u2026]+[\"'\u201d\u2019)\]]*\s+|[\u3002\uff01\uff1f]+|\n+")
_CLAUSE_ENDS = (",", ";", ":", "\u2014", "\uff0c", "\u3001")


def sentences(text: str) -> list[str]:
    """The sentences of `text`, each of 200 characters at most. One that is longer is split at a clause or a space.

    Control characters become spaces. What has no letter and no digit is left out.
    """
    text = "".join(c if c == "\n" or unicodedata.category(c)[0] != "C" else " " for c in text)
    parts = (part for sentence in _split(text) for part in _shortened(" ".join(sentence.split())))
    return [part for part in parts if any(map(str.isalnum, part))]


def _split(text: str) -> Iterator[str]:
    begin = 0
    for match in _END.finditer(text):
        if _ends(text, match):
            yield text[begin : match.end()]
            begin = match.end()
    yield text[begin:]


def _ends(text: str, match: re.Match[str]) -> bool:
    """Whether a sentence ends there: not after a title or an initial, nor before a small letter."""
    if match[0].isspace():
        return True
    if match[0][0] != "." or match[0].startswith(".."):
        return not text[match.end() : match.end() + 1].islower()
    words = text[max(0, match.start() - 20) : match.start()].split()
    word = words[-1].lstrip("\"'(") if words else ""
    initial = len(word) == 1 and word.isupper()
    return not (initial or word.lower() in TITLES or text[match.end() : match.end() + 1].islower())


def _shortened(sentence: str) -> Iterator[str]:
    while len(sentence) > MAX_SENTENCE_CHARACTERS:
        head = sentence[:MAX_SENTENCE_CHARACTERS]
        clause = max(head.rfind(f"{mark} ") for mark in _CLAUSE_ENDS) + 1
        if clause < MIN_CLAUSE_CHARACTERS:
            clause = head.rfind(" ") + 1 or MAX_SENTENCE_CHARACTERS
        yield sentence[:clause].strip()
        sentence = sentence[clause:].strip()
    yield sentence
