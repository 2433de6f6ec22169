"""Removal of secrets from text that others will read."""

import re

NAMES = r"(?:token|secret|passw(?:or)?d|passphrase|pwd|credentials?|signature|streamid|key|authorization|cookie)"
QUOTED = r"\"(?:[^\"\\\n]|\\.)*\"?|'(?:[^'\\\n]|\\.)*'?|\\+[\"'][^\"'\\\n]*"  # the last is JSON within JSON
HEADERS = re.compile(rf"(?im)^(.*?\b(?:[\w-]*authorization|(?:set-)?cookie|x-[\w-]*{NAMES})\s*:\s*)(?![\s*\"'])\S.*$")
NAMED = re.compile(rf"(?i)\b([\w-]*{NAMES}(?:\\*[\"'])?\s*[=:]\s*)(?:{QUOTED}|(?!\*)[^\s&\"',;]+)")
SCHEMES = re.compile(r"(?i)\b(bearer|basic|digest)\s+[^\s\"',;]+")
URL = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)([^\s\"'<>]*)")
SESSION = re.compile(r"(/v1/sessions/)[\w-]+")
LONG = re.compile(r"(?<![\w-])[\w-]{40,}(?![\w-])")  # a token, or a digest of one


def redact(text: str) -> str:
    """`text` without tokens, passwords, cookies, ids of sessions, and of every URL more than its host."""
    text = URL.sub(_host_only, text)
    text = HEADERS.sub(r"\1***", text)
    text = SCHEMES.sub(r"\1 ***", text)
    text = NAMED.sub(_unvalued, text)
    text = SESSION.sub(r"\1***", text)
    return LONG.sub("***", text)


def _host_only(found: re.Match[str]) -> str:
    """Where an @ could be within a password as well as before the host, not even that."""
    scheme, rest = found[1], found[2]
    end = re.search(r"[/?#]", rest)
    authority, path = (rest[: end.start()], rest[end.start() :]) if end else (rest, "")
    if "@" in path or authority.count("@") > 1:
        return f"{scheme}***"
    return f"{scheme}{authority.rpartition('@')[2]}{'/***' if path else ''}"


def _unvalued(found: re.Match[str]) -> str:
    value = found[0][len(found[1]) :]
    quote = re.match(r"\\*[\"']|", value)[0]  # type: ignore[index]
    return f"{found[1]}{quote}***{quote}"
